//! The window: what the visitor sees and does.

mod address;
mod between;
mod canvas;
mod check;
mod directions;
mod dom;
mod events;
mod faces;
mod large;
mod live;
mod models;
mod names;
mod origin;
mod save;
mod speaker;
mod speed;
mod tree;
mod view;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Array, ArrayBuffer, Uint8Array};
use lddgan::{GeneratorConfig, Recipe};
use wasm_bindgen::prelude::*;
use web_sys::{Document, ImageBitmap, UrlSearchParams, Window, Worker};

use super::protocol::{ModelInfo, Order, Place, Reply, Request, bytes, pack, unpack};
use super::settings::Settings;
use super::start::start_worker;
use crate::choices::{composed, random_seed};
use crate::faces::CPU;
use crate::format::describe;
use address::Address;
use between::Between;
use canvas::Image;
use check::Check;
use directions::Directions;
use faces::Faces;
use large::Large;
use live::Live;
use models::Models;
use names::Names;
use origin::Origin;
use speaker::Speaker;
use tree::Tree;
use view::View;

#[wasm_bindgen]
extern "C" {
    /// Says whether the page opens without network from now on.
    #[wasm_bindgen(js_name = showKept)]
    fn show_kept(kept: bool);

    /// Asks the browser to keep the page for good; there is no such function in a page that it does not keep.
    #[wasm_bindgen(catch, js_name = persist)]
    fn persist() -> Result<(), JsValue>;
}

/// Shows the page and starts the worker.
pub fn start() -> Result<(), JsValue> {
    // index.html shows that the program stopped; this says where.
    std::panic::set_hook(Box::new(|info| web_sys::console::error_1(&info.to_string().into())));
    let (window, view) = (dom::window()?, View::new()?);
    let app = App {
        settings: read_settings(&window, &view)?.into(),
        worker: start_worker(wasm_bindgen::module())?.into(),
        stopped: None.into(),
        document: dom::document()?,
        window,
        view,
        faces: Faces::new()?.into(),
        live: Live::new()?,
        large: Large::new()?,
        between: Between::new()?,
        speaker: Speaker::new()?,
        directions: Directions::new()?,
        names: Names::new()?,
        origin: Origin::default(),
        tree: Tree::new()?,
        models: Models::new()?,
        address: Address::default(),
        check: Check::new()?,
        model: None.into(),
        runs: 0.into(),
        grid: None.into(),
    };
    app.view.show_settings(&app.settings.borrow());
    app.begin()?;
    Rc::new(app).listen()
}

/// The settings in the page's address; what is wrong with them is shown.
fn read_settings(window: &Window, view: &View) -> Result<Settings, JsValue> {
    let query = UrlSearchParams::new_with_str(&window.location().search()?)?;
    let (mut settings, mut problems) = Settings::parse(pairs(&query));
    if let Some(file) = settings.file.take() {
        problems.push(format!("This address shows faces made with your file {file}. Choose it again under “Model”."));
    }
    view.show_problems(&problems);
    Ok(settings)
}

/// The names and values of a query.
fn pairs(query: &UrlSearchParams) -> impl Iterator<Item = (String, String)> {
    query.entries().into_iter().filter_map(|entry| {
        let [name, value] = [0, 1].map(|index| Array::from(&entry.clone().ok()?).get(index).as_string());
        Some((name?, composed(&value?)))
    })
}

/// An address that others can open, or why there is none: the model is a file of the visitor's, or the page is, whose
/// address would tell where it lies.
type Link = Result<String, &'static str>;

struct App {
    window: Window,
    document: Document,
    worker: RefCell<Worker>,
    /// Why the worker before this one stopped, until this one listens.
    stopped: RefCell<Option<String>>,
    view: View,
    faces: RefCell<Faces>,
    live: Live,
    large: Large,
    between: Between,
    speaker: Speaker,
    directions: Directions,
    names: Names,
    origin: Origin,
    tree: Tree,
    models: Models,
    address: Address,
    check: Check,
    settings: RefCell<Settings>,
    /// Known while the worker can make faces.
    model: RefCell<Option<ModelInfo>>,
    /// Counts the orders, so that late answers to an earlier one are known.
    runs: Cell<u32>,
    /// The order for the whole grid that is under way.
    grid: Cell<Option<u32>>,
}

impl App {
    /// Is in motion, unless the address names faces or the visitor wants stillness.
    fn begin(&self) -> Result<(), JsValue> {
        let chance = self.settings.borrow().seeds.is_empty();
        self.live.set_playing(chance && !self.prefers_stillness()?);
        Ok(())
    }

    fn receive(self: &Rc<Self>, message: JsValue) -> Result<(), JsValue> {
        let (reply, attachment) = unpack(message)?;
        match reply {
            Reply::Started => match self.stopped.take() {
                Some(reason) => self.go_back(&reason)?,
                None => self.load()?,
            },
            Reply::Downloading { bytes, total } => self.view.show_download(bytes, total),
            Reply::Stalled => self.view.show_waiting("The download has stalled. Asking the server again…"),
            Reply::Interrupted { resumed } => self.view.show_interruption(resumed),
            Reply::DownloadFailed(reason) => {
                self.refuse_model(&reason)?;
                self.view.offer_retry(self.image_size().is_none());
            }
            Reply::Kept(kept) => show_kept(kept),
            Reply::Preparing => self.view.show_waiting("Preparing the model…"),
            Reply::Executor(info) => {
                self.view.show_executor(&info);
                self.live.set_gpu(!info.name.starts_with(CPU))?;
            }
            Reply::Ready(info) => self.take_model(*info)?,
            Reply::NotLoaded(reason) => self.refuse_model(&reason)?,
            Reply::Face { place: Place::Between, run, .. } => self.show_between_face(run, bytes(&attachment))?,
            Reply::Face { place, run, index } => {
                self.show_face(place, run, index, &Image::Pixels(&bytes(&attachment)))?;
            }
            Reply::Faces { place, run, first, count, columns } => {
                let picture: ImageBitmap = attachment.dyn_into()?;
                for i in 0..count {
                    let part = Image::Part { picture: &picture, column: i % columns, row: i / columns };
                    self.show_face(place, run, first + i, &part)?;
                }
                picture.close();
            }
            Reply::Done { place, run, seconds } => self.end_run(place, run, seconds)?,
            Reply::Developed { run } if run == self.speaker.run() => self.begin_birth(&bytes(&attachment))?,
            Reply::Developed { run } => self.show_developed(run, &bytes(&attachment))?,
            Reply::Speed(speed) => speed::show(&self.view.speed, &speed, self.settings.borrow().dtype)?,
            Reply::Checked { report, last } => self.show_report(&report, last)?,
            Reply::NotChecked(reason) => self.end_check(&reason),
            Reply::MadeWrong => self.make()?,
            Reply::Encoded { file } => self.save_between(&file, &bytes(&attachment))?,
            Reply::Failed(reason) => self.go_back(&reason)?,
            Reply::Stopped(message) => self.replace_worker(&message)?,
        }
        Ok(())
    }

    fn take_model(self: &Rc<Self>, info: ModelInfo) -> Result<(), JsValue> {
        self.view.show_model(&info.name, info.image_size);
        self.view.offer_steps(info.steps)?;
        self.directions.offer(&info)?;
        let mut problems = self.settings.borrow_mut().limit_steps(info.steps);
        problems.extend(self.settings.borrow_mut().limit_shifts(info.directions));
        let truncation = info.config.generator.as_ref().and_then(GeneratorConfig::truncation);
        self.settings.borrow_mut().model_truncation = truncation;
        self.view.show_problems(&problems);
        self.model.replace(Some(info));
        self.check.clear();
        self.models.take()?;
        self.settings.borrow_mut().file = self.models.own_file();
        self.document.set_title(&format!("Faces of nobody: {}", self.model_name()));
        self.set_enabled(true);
        self.make()?;
        self.open_claimed()?;
        let mut settings = self.settings.borrow_mut();
        // Other faces later are not opened so.
        let opens = std::mem::take(&mut settings.tree);
        let root = settings.seeds.first().copied().filter(|_| opens);
        drop(settings);
        root.map_or(Ok(()), |seed| self.open_tree(seed))
    }

    fn show_face(&self, place: Place, run: u32, index: usize, image: &Image) -> Result<(), JsValue> {
        match place {
            Place::Grid if Some(run) == self.grid.get() => {
                self.faces.borrow().show(index, image)?;
                self.view.show_progress(index + 1, self.settings.borrow().count);
                Ok(())
            }
            Place::Live => self.show_live_face(run, index, image),
            Place::Tree => self.show_tree_face(run, index, image),
            Place::Grid | Place::Between => Ok(()),
        }
    }

    fn end_run(self: &Rc<Self>, place: Place, run: u32, seconds: f64) -> Result<(), JsValue> {
        match place {
            Place::Grid if Some(run) == self.grid.get() => {
                self.grid.set(None);
                self.view.show_done(self.settings.borrow().count, seconds);
                self.models.prove();
                self.wake(1000)
            }
            Place::Grid => Ok(()),
            Place::Live => self.end_live_run(run),
            Place::Between => {
                self.end_between_run(run);
                Ok(())
            }
            Place::Tree => {
                self.end_tree_run(run);
                Ok(())
            }
        }
    }

    /// Asks for the faces that the settings name, or that chance chooses, and writes the address.
    fn make(self: &Rc<Self>) -> Result<(), JsValue> {
        let Some(size) = self.image_size() else { return Ok(()) };
        self.live.stop();
        let mut settings = self.settings.borrow_mut();
        if settings.seeds.is_empty() {
            settings.follow(random_seed());
        }
        self.view.show_settings(&settings);
        self.view.show_seed_problem("")?;
        self.faces.borrow_mut().lay_out(&settings, size)?;
        self.directions.show(&settings.shifts)?;
        drop(settings);
        self.write_address();
        self.remake()
    }

    /// Makes the faces of the grid again. Those that are there stay until the others come.
    fn remake(&self) -> Result<(), JsValue> {
        let settings = self.settings.borrow();
        self.view.show_making(settings.count);
        let recipes = settings.seeds.iter().map(|&seed| settings.recipe(seed)).collect();
        drop(settings);
        let run = self.next_run();
        self.grid.set(Some(run));
        self.order(Place::Grid, run, recipes)
    }

    /// Makes faces that the browser's way back leads away from again.
    fn make_next(self: &Rc<Self>) -> Result<(), JsValue> {
        if self.image_size().is_none() {
            return Ok(());
        }
        self.address.set_step(!self.live.is_playing());
        self.make()
    }

    /// The address of these faces, alone.
    fn link(&self, seeds: &[u64]) -> Result<Link, JsValue> {
        if self.models.is_own() {
            return Ok(Err("This face was made with a file of your own"));
        }
        if !self.window.location().protocol()?.starts_with("http") {
            return Ok(Err("This page is not from the web"));
        }
        let settings = Settings { seeds: seeds.to_vec(), count: seeds.len(), ..self.settings.borrow().clone() };
        let here = self.window.location().href()?;
        Ok(Ok(web_sys::Url::new_with_base(&settings.query(), &here)?.href()))
    }

    /// Height and width of a face, while there can be any.
    fn image_size(&self) -> Option<usize> {
        self.model.borrow().as_ref().map(|model| model.image_size)
    }

    /// The name of the model for files and metadata: of a model that comes with the page, or of the visitor's file.
    fn model_name(&self) -> String {
        let own = self.models.own_file();
        own.map_or_else(|| self.models.shipped(), |file| file.trim_end_matches(".safetensors").to_owned())
    }

    /// The denoising steps that faces are made in.
    fn steps(&self) -> usize {
        let all = self.model.borrow().as_ref().map_or(0, |model| model.steps);
        self.settings.borrow().steps.unwrap_or(all)
    }

    /// Whether all faces of the grid are there.
    fn is_whole(&self) -> bool {
        self.grid.get().is_none() && self.image_size().is_some()
    }

    /// Whether the visitor has asked for less motion.
    fn prefers_stillness(&self) -> Result<bool, JsValue> {
        let query = self.window.match_media("(prefers-reduced-motion: reduce)")?;
        Ok(query.is_some_and(|query| query.matches()))
    }

    fn set_enabled(&self, enabled: bool) {
        let buttons = [
            &self.live.button,
            &self.live.morph_button,
            &self.view.new_button,
            &self.view.between_button,
            &self.speaker.button,
        ];
        let others = [&self.models.open_card, &self.check.button, &self.names.show, &self.names.today];
        for button in buttons.into_iter().chain(others) {
            button.set_disabled(!enabled);
        }
    }

    fn next_run(&self) -> u32 {
        self.runs.set(self.runs.get() + 1);
        self.runs.get()
    }

    fn order(&self, place: Place, run: u32, recipes: Vec<Recipe>) -> Result<(), JsValue> {
        let Settings { steps, dtype, .. } = *self.settings.borrow();
        self.send(&Request::Make(Order { place, run, recipes, steps: steps.unwrap_or(usize::MAX), dtype }))
    }

    fn fail(&self, reason: &str) {
        self.lose_model();
        self.view.fail(reason);
    }

    /// Nothing can be made until there is a model again.
    fn lose_model(&self) {
        self.model.replace(None);
        // What comes of it is too late.
        self.grid.set(None);
        self.live.stop();
        self.set_enabled(false);
    }

    /// Starts another worker, after the program in this one has stopped with such an error.
    fn replace_worker(self: &Rc<Self>, message: &str) -> Result<(), JsValue> {
        self.lose_model();
        self.view.show_waiting("Starting again…");
        self.stopped.replace(Some(last_words(message)));
        let stopped = self.worker.replace(start_worker(wasm_bindgen::module())?);
        stopped.terminate();
        self.listen_to_worker()
    }

    /// Shows an error of the page.
    fn settle(&self, result: Result<(), JsValue>) {
        if let Err(error) = result {
            self.fail(&format!("The page has an error: {}.", describe(error)));
        }
    }

    fn send(&self, request: &Request) -> Result<(), JsValue> {
        let (message, transfer) = pack(request, None)?;
        self.worker.borrow().post_message_with_transfer(&message, &transfer)
    }

    fn send_bytes(&self, request: &Request, bytes: &[u8]) -> Result<(), JsValue> {
        self.send_buffer(request, &Uint8Array::from(bytes).buffer())
    }

    fn send_buffer(&self, request: &Request, bytes: &ArrayBuffer) -> Result<(), JsValue> {
        let (message, transfer) = pack(request, Some(bytes))?;
        self.worker.borrow().post_message_with_transfer(&message, &transfer)
    }
}

/// What the error with which a program stopped means.
fn last_words(message: &str) -> String {
    // An allocation that fails ends in this instruction, whose name is in the words of every browser; one that is too
    // large for the address space panics.
    if ["unreachable", "capacity overflow"].iter().any(|sign| message.to_lowercase().contains(sign)) {
        return "This model needs more memory than the browser gives a page.".to_owned();
    }
    format!("The program has an error: {}.", message.trim_start_matches("Uncaught "))
}
