//! The choice of a model, and what is known about it.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{ArrayBuffer, Uint8Array};
use pulldown_cmark::{Alignment, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Blob, HtmlSelectElement, HtmlTemplateElement, Response, Url};
use web_sys::{DragEvent, Element, File, HtmlButtonElement, HtmlDialogElement, HtmlElement, HtmlInputElement};

use super::App;
use super::dom::{append, append_fact, document, find};
use crate::fetch::FileRecord;
use crate::format::describe;
use crate::page::protocol::{ModelInfo, Request, Source};
use crate::page::settings::{Settings, file_in_address};

/// The models that come with the page.
const SHIPPED: &[&str] = &include!(concat!(env!("OUT_DIR"), "/models.in"));
/// The value of the choice that is a file of the visitor's.
const OWN: &str = "own file";

pub struct Models {
    pub choice: HtmlSelectElement,
    pub file: HtmlInputElement,
    problem: HtmlElement,
    pub open_card: HtmlButtonElement,
    pub card: HtmlDialogElement,
    title: HtmlElement,
    facts: Element,
    text: Element,
    /// Asked for last.
    asked: RefCell<Choice>,
    /// In use, or was until the one that was asked for did not come.
    used: RefCell<Choice>,
    /// Made all faces of a grid last.
    proven: RefCell<Option<Choice>>,
}

/// A model that comes with the page, or a file of the visitor's in its place.
#[derive(Clone, Default)]
struct Choice {
    shipped: String,
    own: Option<File>,
}

impl Choice {
    fn name(&self) -> String {
        self.own.as_ref().map_or(self.shipped.clone(), File::name)
    }
}

impl Models {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            choice: find(&document, "#models")?,
            file: find(&document, "#file")?,
            problem: find(&document, "#model-problem")?,
            open_card: find(&document, "#open-card")?,
            card: find(&document, "#card")?,
            title: find(&document, "#card-title")?,
            facts: find(&document, "#card-facts")?,
            text: find(&document, "#card-text")?,
            asked: Default::default(),
            used: Default::default(),
            proven: None.into(),
        })
    }

    /// Lists the models, with this one chosen.
    fn show_choice(&self, Choice { shipped, own }: &Choice) -> Result<(), JsValue> {
        self.choice.set_text_content(None);
        let mut names: Vec<&str> = SHIPPED.to_vec();
        if !names.contains(&shipped.as_str()) {
            names.push(shipped);
        }
        for name in names {
            append(&self.choice, "option", name)?;
        }
        self.choice.set_value(shipped);
        if let Some(file) = own {
            append(&self.choice, "option", &format!("{} (yours)", file.name()))?.set_attribute("value", OWN)?;
            self.choice.set_value(OWN);
        }
        Ok(())
    }

    /// The model that was asked for is there.
    pub fn take(&self) -> Result<(), JsValue> {
        self.used.replace(self.asked.borrow().clone());
        self.show_choice(&self.used.borrow())
    }

    /// The model in use makes faces.
    pub fn prove(&self) {
        self.proven.replace(Some(self.used.borrow().clone()));
    }

    /// Opens the panel in which another model can be chosen.
    fn open_panel(&self) -> Result<(), JsValue> {
        let panel = self.choice.closest("details")?;
        panel.map_or(Ok(()), |panel| panel.set_attribute("open", ""))
    }

    /// Whether the model is a file of the visitor's.
    pub fn is_own(&self) -> bool {
        self.used.borrow().own.is_some()
    }

    /// The name of the visitor's file in use, as an address has it.
    pub fn own_file(&self) -> Option<String> {
        self.used.borrow().own.as_ref().map(|file| file_in_address(&file.name()))
    }

    /// The name of the model in use that comes with the page.
    pub fn shipped(&self) -> String {
        self.used.borrow().shipped.clone()
    }
}

impl App {
    /// Asks for the model that the settings name.
    pub fn load(&self) -> Result<(), JsValue> {
        let settings = self.settings.borrow();
        let (url, expected) = self.model_file("safetensors")?;
        let (golden, record) = self.model_file("golden.safetensors")?;
        let golden = record.map(|record| (golden, record));
        let choice = Choice { shipped: settings.model.clone(), own: None };
        self.models.show_choice(&choice)?;
        self.models.asked.replace(choice);
        let (executor, tune) = (settings.executor, settings.tune);
        self.send(&Request::Load { source: Source::Url { url, expected, golden }, executor, tune })
    }

    /// The address of a file that comes with the model, and what the build recorded of it.
    pub fn model_file(&self, ending: &str) -> Result<(String, Option<FileRecord>), JsValue> {
        let file = format!("models/{}.{ending}", self.settings.borrow().model);
        let url = Url::new_with_base(&file, &self.document.base_uri()?.unwrap_or_default())?.href();
        Ok((url, self.view.record(&file)))
    }

    pub fn choose_model(&self) -> Result<(), JsValue> {
        let chosen = self.models.choice.value();
        if chosen == OWN {
            return Ok(());
        }
        // The way back leads to the model before.
        self.address.set_step(true);
        self.settings.borrow_mut().model = chosen;
        self.models.problem.set_text_content(None);
        self.load()
    }

    /// Takes the file that the visitor chose.
    pub fn choose_file(self: &Rc<Self>) -> Result<(), JsValue> {
        match self.models.file.files().and_then(|files| files.get(0)) {
            Some(file) => self.load_file(file),
            None => Ok(()),
        }
    }

    /// Takes a file that was dropped on the page.
    pub fn drop_file(self: &Rc<Self>, event: &DragEvent) -> Result<(), JsValue> {
        event.prevent_default();
        let files = event.data_transfer().and_then(|data| data.files());
        match files.and_then(|files| files.get(0)) {
            Some(file) => self.load_file(file),
            None => Ok(()),
        }
    }

    fn load_file(self: &Rc<Self>, file: File) -> Result<(), JsValue> {
        if file.type_() == "image/png" && self.image_size().is_some() {
            self.read_picture(file);
            return Ok(());
        }
        let app = self.clone();
        app.models.problem.set_text_content(None);
        app.view.show_waiting(&format!("Reading {}…", file.name()));
        spawn_local(async move {
            let sent = match JsFuture::from(file.array_buffer()).await {
                Ok(bytes) => {
                    let source = Source::File(file.name());
                    let Settings { executor, tune, model, .. } = app.settings.borrow().clone();
                    app.models.asked.replace(Choice { shipped: model, own: Some(file) });
                    let request = Request::Load { source, executor, tune };
                    app.send_buffer(&request, &bytes.unchecked_into::<ArrayBuffer>())
                }
                Err(error) => app.refuse_model(&format!("{} cannot be read: {}.", file.name(), describe(error))),
            };
            app.settle(sent);
        });
        Ok(())
    }

    /// Says why a model cannot be used; the one before it stays.
    pub fn refuse_model(self: &Rc<Self>, reason: &str) -> Result<(), JsValue> {
        let Some(name) = self.model.borrow().as_ref().map(|model| model.name.clone()) else {
            self.fail(reason);
            return Ok(());
        };
        self.models.problem.set_text_content(Some(&format!("{reason} “{name}” stays.")));
        self.address.set_step(false);
        if self.is_whole() {
            self.view.show_refused(reason);
        } else {
            // The faces that were being made go on.
            self.view.show_making(self.settings.borrow().count);
            self.view.show_problems(&[reason.to_owned()]);
        }
        let used = self.models.used.borrow();
        self.settings.borrow_mut().model = used.shipped.clone();
        self.models.show_choice(&used)
    }

    /// The model in use cannot make faces: says why, and goes back to the one that did, if there is one.
    pub fn go_back(self: &Rc<Self>, reason: &str) -> Result<(), JsValue> {
        let failed = self.models.asked.borrow().name();
        let Some(choice) = self.models.proven.take() else {
            self.fail(&format!("{failed}: {reason} Choose another model."));
            return self.models.open_panel();
        };
        let words = format!("{failed}: {reason} Back to {}.", choice.name());
        self.settings.borrow_mut().model = choice.shipped;
        match choice.own {
            Some(file) => self.load_file(file)?,
            None => self.load()?,
        }
        self.models.problem.set_text_content(Some(&words));
        self.view.show_problems(&[words]);
        Ok(())
    }

    /// Shows what is known about the model.
    pub fn open_card(self: &Rc<Self>) -> Result<(), JsValue> {
        let models = &self.models;
        let model = self.model.borrow();
        let Some(info) = model.as_ref() else { return Ok(()) };
        models.title.set_text_content(Some(&info.name));
        models.facts.set_text_content(None);
        for (term, description) in facts(info) {
            append_fact(&models.facts, &term, &description)?;
        }
        models.text.set_text_content(None);
        models.card.show_modal()?;
        if !models.is_own() {
            let (app, url) = (self.clone(), self.model_file("md")?.0);
            spawn_local(async move {
                if let Some(markdown) = text(&app, &url).await {
                    let shown = show_markdown(&app, &markdown).await;
                    app.settle(shown);
                }
            });
        }
        Ok(())
    }
}

/// What is at an address, if there is something.
async fn fetch(app: &App, url: &str) -> Option<Response> {
    let response: Response = JsFuture::from(app.window.fetch_with_str(url)).await.ok()?.unchecked_into();
    response.ok().then_some(response)
}

async fn text(app: &App, url: &str) -> Option<String> {
    let bytes = JsFuture::from(fetch(app, url).await?.array_buffer().ok()?).await.ok()?;
    Some(String::from_utf8_lossy(&Uint8Array::new(&bytes).to_vec()).into_owned())
}

/// Shows a card. Its pictures are left out where they are not to be had, in a page without network.
async fn show_markdown(app: &App, markdown: &str) -> Result<(), JsValue> {
    // In a template no picture is loaded yet.
    let template: HtmlTemplateElement = document()?.create_element("template")?.unchecked_into();
    template.set_inner_html(&html(markdown));
    let content = template.content();
    let pictures = content.query_selector_all("img")?;
    let pictures: Vec<Element> = (0..pictures.length()).filter_map(|i| pictures.get(i)?.dyn_into().ok()).collect();
    let urls: Vec<String> = pictures.iter().map(|picture| picture.get_attribute("src").unwrap_or_default()).collect();
    pictures.iter().try_for_each(|picture| picture.remove_attribute("src"))?;
    app.models.text.set_text_content(None);
    app.models.text.append_child(&content)?;
    for (picture, url) in pictures.iter().zip(urls) {
        match fetch(app, &url).await {
            Some(response) => {
                let blob: Blob = JsFuture::from(response.blob()?).await?.unchecked_into();
                picture.set_attribute("src", &Url::create_object_url_with_blob(&blob)?)?;
            }
            None => picture.remove(),
        }
    }
    Ok(())
}

/// The words of a model card. Its first heading is that of the dialog; its links lead into a repository that is not here.
fn html(markdown: &str) -> String {
    let lower = |level: HeadingLevel| HeadingLevel::try_from((level as usize + 1).min(6)).unwrap_or(level);
    let mut title = false;
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES).filter_map(|event| match event {
        Event::Start(Tag::Heading { level: HeadingLevel::H1, .. }) => {
            title = true;
            None
        }
        Event::End(TagEnd::Heading(HeadingLevel::H1)) => {
            title = false;
            None
        }
        _ if title => None,
        Event::Start(Tag::Heading { level, id, classes, attrs }) => {
            Some(Event::Start(Tag::Heading { level: lower(level), id, classes, attrs }))
        }
        Event::End(TagEnd::Heading(level)) => Some(Event::End(TagEnd::Heading(lower(level)))),
        // How columns are aligned is said by the style sheet: the page allows no style in its elements.
        Event::Start(Tag::Table(columns)) => Some(Event::Start(Tag::Table(vec![Alignment::None; columns.len()]))),
        Event::Start(Tag::Link { .. }) | Event::End(TagEnd::Link) => None,
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            let dest_url = CowStr::from(format!("models/{dest_url}"));
            Some(Event::Start(Tag::Image { link_type, dest_url, title, id }))
        }
        // The file is ours, but words are all that it should be.
        Event::Html(_) | Event::InlineHtml(_) => None,
        event => Some(event),
    });
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events);
    html
}

/// What the file says of itself.
fn facts(info: &ModelInfo) -> Vec<(String, String)> {
    let fact = |term: &str, description: String| (term.to_owned(), description);
    let mut facts = vec![
        fact("Faces", format!("{0} × {0} pixels, in {1} denoising steps", info.image_size, info.steps)),
        fact("File", format!("{:.1} MB", info.bytes as f64 / 1e6)),
    ];
    if let Some(generator) = &info.config.generator {
        let (size, channels) = (generator.latent_size, generator.latent_channels);
        let multipliers: Vec<String> = generator.multipliers.iter().map(usize::to_string).collect();
        let multipliers = multipliers.join("-");
        facts.push(fact("Latents", format!("{size} × {size} × {channels}")));
        facts.push(fact("Generator", format!("NCSN++, width {}, multipliers {multipliers}", generator.channels)));
    }
    let provenance = &info.provenance;
    if !provenance.data.is_empty() {
        facts.push(fact("Data", provenance.data.clone()));
    }
    facts.extend(provenance.images.iter().map(|(stage, images)| (format!("Images, {stage}"), images.to_string())));
    facts.extend(provenance.steps.iter().map(|(stage, steps)| (format!("Steps, {stage}"), steps.to_string())));
    facts.extend(provenance.metrics.iter().map(|(metric, value)| (metric.clone(), format!("{value:.4}"))));
    if !provenance.revision.is_empty() {
        facts.push(fact("Trainer", format!("revision {}", provenance.revision)));
    }
    facts.push(fact("SHA-256", info.sha256.clone()));
    facts
}
