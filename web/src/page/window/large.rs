//! The large view of a face: how it came about, its link, and its file.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Array, Function, Object, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Element, File, FilePropertyBag, HtmlButtonElement, HtmlDialogElement, HtmlElement, Window};

use super::canvas::{Image, Picture};
use super::dom::{append, document, find};
use super::origin::{MODEL, QUERY};
use super::save::save;
use super::{App, Link, persist};
use crate::choices::other_seed;
use crate::page::picture::{Frames, png};
use crate::page::protocol::Request;
use crate::page::settings::Settings;

/// Pixels of the display, and of each step.
const DISPLAY: usize = 1024;
const STEP_DISPLAY: usize = 192;

#[wasm_bindgen]
extern "C" {
    /// A browser that can send files on; many have none of this.
    type Sharer;

    #[wasm_bindgen(method, catch, js_name = canShare)]
    fn can_share(this: &Sharer, data: &Object) -> Result<bool, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn share(this: &Sharer, data: &Object) -> Result<Promise, JsValue>;
}

fn sharer(window: &Window) -> Option<Sharer> {
    let navigator = window.navigator();
    let can_share = js_sys::Reflect::get(&navigator, &"canShare".into()).ok()?;
    can_share.is_instance_of::<Function>().then(|| navigator.unchecked_into())
}

/// What happens at a step, of so many, in plain words.
fn explain(step: usize, steps: usize) -> &'static str {
    match step {
        0 => "Random numbers, drawn from the seed. There is no face in them yet.",
        step if step == steps => "The last step puts no noise back. This is the face.",
        1 => {
            "Out of noise the network guesses a whole face. Most of the noise is put back, so that later steps can correct it."
        }
        _ => "The network looks at what it has, and guesses again. Less noise is put back this time.",
    }
}

pub struct Large {
    pub dialog: HtmlDialogElement,
    title: HtmlElement,
    picture: Picture,
    pub strip: Element,
    words: HtmlElement,
    pub previous: HtmlButtonElement,
    pub next: HtmlButtonElement,
    pub save: HtmlButtonElement,
    pub share: HtmlButtonElement,
    pub copy: HtmlButtonElement,
    pub morph: HtmlButtonElement,
    pub fork: HtmlButtonElement,
    status: HtmlElement,
    seed: Cell<u64>,
    /// The last request.
    run: Cell<u32>,
    /// The face as RGBA, once it is there.
    pixels: RefCell<Vec<u8>>,
    /// Every step as RGBA, from the noise to the face.
    steps: RefCell<Vec<Vec<u8>>>,
}

impl Large {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            dialog: find(&document, "#large")?,
            title: find(&document, "#large-title")?,
            picture: Picture::new(find(&document, "#large-face")?)?,
            strip: find(&document, "#strip")?,
            words: find(&document, "#step-words")?,
            previous: find(&document, "#previous")?,
            next: find(&document, "#next")?,
            save: find(&document, "#save")?,
            share: find(&document, "#share-face")?,
            copy: find(&document, "#copy")?,
            morph: find(&document, "#morph-from")?,
            fork: find(&document, "#fork")?,
            status: find(&document, "#large-status")?,
            seed: 0.into(),
            run: 0.into(),
            pixels: Vec::new().into(),
            steps: Vec::new().into(),
        })
    }

    pub fn seed(&self) -> u64 {
        self.seed.get()
    }

    fn say(&self, text: &str) {
        self.status.set_text_content(Some(text));
    }

    /// Shows what the decoder makes of each latent, from the noise to the face.
    fn show_steps(&self, images: &[&[u8]], size: usize) -> Result<(), JsValue> {
        self.strip.set_text_content(None);
        for (step, image) in images.iter().enumerate() {
            let item = append(&self.strip, "li", "")?;
            let button = append(&item, "button", "")?;
            button.set_attribute("type", "button")?;
            button.set_attribute("data-step", &step.to_string())?;
            let canvas = append(&button, "canvas", "")?;
            canvas.set_attribute("aria-hidden", "true")?;
            let picture = Picture::new(canvas.unchecked_into())?;
            picture.set_size(size, STEP_DISPLAY);
            picture.draw(&Image::Pixels(image), 1.0)?;
            let words = match step {
                0 => "Noise".to_owned(),
                step if step + 1 == images.len() => "The face".to_owned(),
                step => format!("Step {step}"),
            };
            append(&button, "span", &words)?;
        }
        Ok(())
    }
}

impl App {
    /// Opens the large view of the face with this seed, or shows it there.
    pub fn open_large(self: &Rc<Self>, seed: u64) -> Result<(), JsValue> {
        let Some(size) = self.image_size() else { return Ok(()) };
        let large = &self.large;
        large.seed.set(seed);
        large.title.set_text_content(Some(&self.title(seed)));
        large.picture.set_size(size, DISPLAY);
        if let Some(shown) = self.faces.borrow().canvas(seed) {
            large.picture.copy(shown)?;
        }
        large.pixels.borrow_mut().clear();
        large.steps.borrow_mut().clear();
        large.words.set_text_content(None);
        large.share.set_hidden(true);
        large.save.set_disabled(true);
        large.previous.set_disabled(self.neighbour(seed, -1).is_none());
        large.next.set_disabled(self.neighbour(seed, 1).is_none());
        large.say("");
        if !large.dialog.open() {
            large.strip.set_text_content(None);
            large.dialog.show_modal()?;
        }
        let run = self.next_run();
        large.run.set(run);
        let settings = self.settings.borrow();
        let Settings { steps, dtype, .. } = *settings;
        let (recipe, steps) = (settings.recipe(seed), steps.unwrap_or(usize::MAX));
        self.send(&Request::Develop { run, recipe: Box::new(recipe), steps, dtype })
    }

    pub fn show_developed(&self, run: u32, pixels: &[u8]) -> Result<(), JsValue> {
        let (large, Some(size)) = (&self.large, self.image_size()) else { return Ok(()) };
        if run != large.run.get() {
            return Ok(());
        }
        let images: Vec<&[u8]> = pixels.chunks_exact(4 * size * size).collect();
        large.show_steps(&images, size)?;
        let face = images.last().ok_or("a face without pixels")?;
        large.pixels.replace(face.to_vec());
        large.save.set_disabled(false);
        if let Some(verdict) = self.judge(large.seed.get(), face, size) {
            large.say(verdict);
        }
        large.share.set_hidden(sharer(&self.window).is_none());
        large.steps.replace(images.iter().map(|image| image.to_vec()).collect());
        self.show_step(images.len() - 1)
    }

    /// Shows a step large, and says what happens there.
    pub fn show_step(&self, step: usize) -> Result<(), JsValue> {
        let large = &self.large;
        let steps = large.steps.borrow();
        let Some(image) = steps.get(step) else { return Ok(()) };
        large.picture.draw(&Image::Pixels(image), 1.0)?;
        large.words.set_text_content(Some(explain(step, steps.len() - 1)));
        let buttons = large.strip.query_selector_all("button")?;
        for (i, button) in (0..buttons.length()).filter_map(|i| Some((i, buttons.get(i)?))) {
            button.unchecked_into::<Element>().set_attribute("aria-pressed", &(i as usize == step).to_string())?;
        }
        Ok(())
    }

    /// Shows the face that is so many places on in the grid; of a face that is not there, the one whose seed is so much
    /// greater.
    pub fn step_large(self: &Rc<Self>, step: i64) -> Result<(), JsValue> {
        self.neighbour(self.large.seed.get(), step).map_or(Ok(()), |seed| self.open_large(seed))
    }

    fn neighbour(&self, seed: u64, step: i64) -> Option<u64> {
        let seeds = &self.settings.borrow().seeds;
        match seeds.iter().position(|&other| other == seed) {
            Some(place) if seeds.len() > 1 => seeds.get(place.checked_add_signed(step as isize)?).copied(),
            _ => other_seed(seed, step),
        }
    }

    /// Saves the face as it was made, with its seed and model in the file.
    pub fn save_face(&self) -> Result<(), JsValue> {
        let Some(bytes) = self.face_file()? else { return Ok(()) };
        save(&self.face_name(), "image/png", &bytes)?;
        self.keep_page();
        Ok(())
    }

    fn face_name(&self) -> String {
        format!("{}-{}.png", self.model_name(), self.large.seed.get())
    }

    /// The face as a PNG file.
    fn face_file(&self) -> Result<Option<Vec<u8>>, JsValue> {
        let (seed, Some(size)) = (self.large.seed.get(), self.image_size()) else { return Ok(None) };
        let pixels = self.large.pixels.borrow();
        let picture = Frames { size, frames: &[&pixels], milliseconds: 0 };
        let mut texts = vec![("Title", self.title(seed)), ("Seed", seed.to_string())];
        texts.extend(self.texts());
        let alone = Settings { seeds: vec![seed], count: 1, ..self.settings.borrow().clone() };
        texts.push((QUERY, alone.query()));
        texts.extend(self.link(&[seed])?.ok().map(|link| ("Source", link)));
        Ok(Some(png(&picture, &texts).map_err(|error| error.to_string())?))
    }

    /// Opens the device's own way to send the picture on. A visitor who thinks better of it is no error.
    pub fn share_face(self: &Rc<Self>) -> Result<(), JsValue> {
        let (Some(sharer), Some(bytes)) = (sharer(&self.window), self.face_file()?) else { return Ok(()) };
        let options = FilePropertyBag::new();
        options.set_type("image/png");
        let parts = Array::of1(&Uint8Array::from(bytes.as_slice()));
        let file = File::new_with_u8_array_sequence_and_options(&parts, &self.face_name(), &options)?;
        let data = Object::new();
        js_sys::Reflect::set(&data, &"files".into(), &Array::of1(&file))?;
        self.keep_page();
        let shared = if sharer.can_share(&data).unwrap_or(false) { sharer.share(&data).ok() } else { None };
        let Some(shared) = shared else {
            self.large.say("This browser does not share pictures. Save the picture instead.");
            return Ok(());
        };
        spawn_local(async move { drop(JsFuture::from(shared).await) });
        Ok(())
    }

    /// A visitor who keeps a face, or shares one, wants to find the page again.
    fn keep_page(&self) {
        persist().unwrap_or_default();
    }

    /// What the metadata of all pictures say.
    pub fn texts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("Model", self.model_name()),
            (MODEL, self.model.borrow().as_ref().map_or_else(String::new, |model| model.sha256.clone())),
            ("Steps", self.steps().to_string()),
            ("Truncation", self.settings.borrow().limit().map_or("off".to_owned(), |limit| limit.to_string())),
            ("Directions", self.settings.borrow().shifts.to_string()),
            ("Forks", self.settings.borrow().forks.to_string()),
            ("Software", "LDDGAN in the browser".to_owned()),
            ("Disclaimer", "Made by a neural network. This person does not exist.".to_owned()),
        ]
    }

    /// Puts the address of the face into the clipboard.
    pub fn copy_link(self: &Rc<Self>) -> Result<(), JsValue> {
        self.copy(self.link(&[self.large.seed.get()])?, |app, words| app.large.say(words))
    }

    /// Puts a link into the clipboard, and has it said, or why there is none.
    pub fn copy(self: &Rc<Self>, link: Link, say: fn(&Self, &str)) -> Result<(), JsValue> {
        let link = match link {
            Ok(link) => link,
            Err(why) => {
                say(self, &format!("{why}, so a link cannot show it. Save the picture instead."));
                return Ok(());
            }
        };
        self.keep_page();
        let clipboard = self.window.navigator().clipboard();
        if clipboard.is_undefined() {
            say(self, &format!("The link: {link}"));
            return Ok(());
        }
        let app = self.clone();
        spawn_local(async move {
            let copied = JsFuture::from(clipboard.write_text(&link)).await.is_ok();
            say(&app, &if copied { "The link is copied.".to_owned() } else { format!("The link: {link}") });
        });
        Ok(())
    }
}
