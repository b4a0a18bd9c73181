//! The window: what the visitor sees and does.

mod faces;
mod view;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Array, Uint8ClampedArray};
use wasm_bindgen::prelude::*;
use web_sys::{Element, ErrorEvent, Event, EventTarget, KeyboardEvent, MessageEvent, UrlSearchParams, Window, Worker};

use super::describe;
use super::protocol::{Reply, Request, pack, unpack};
use super::settings::{Settings, parse_seed, random_seed};
use faces::Faces;
use view::View;

#[wasm_bindgen]
extern "C" {
    /// Starts this program again in a worker, without a second download.
    #[wasm_bindgen(catch, js_name = startWorker)]
    fn start_worker(module: JsValue) -> Result<Worker, JsValue>;

    /// Says whether the page opens without network from now on.
    #[wasm_bindgen(js_name = showKept)]
    fn show_kept(kept: bool);
}

/// Shows the page and starts the worker.
pub fn start() -> Result<(), JsValue> {
    // index.html shows that the program stopped; this says where.
    std::panic::set_hook(Box::new(|info| web_sys::console::error_1(&info.to_string().into())));
    let window = web_sys::window().ok_or("there is no window")?;
    let document = window.document().ok_or("there is no document")?;
    let view = View::new(&document)?;
    let faces = Faces::new(&document)?;
    let app = App {
        settings: read_settings(&window, &view)?.into(),
        worker: start_worker(wasm_bindgen::module())?,
        window,
        view,
        faces: faces.into(),
        run: 0.into(),
        image_size: None.into(),
    };
    app.view.show_settings(&app.settings.borrow());
    Rc::new(app).listen()
}

/// The settings in the page's address; what is wrong with them is shown.
fn read_settings(window: &Window, view: &View) -> Result<Settings, JsValue> {
    let query = UrlSearchParams::new_with_str(&window.location().search()?)?;
    let pairs = query.entries().into_iter().filter_map(|entry| {
        let [name, value] = [0, 1].map(|index| Array::from(&entry.clone().ok()?).get(index).as_string());
        Some((name?, value?))
    });
    let (settings, problems) = Settings::parse(pairs);
    view.show_problems(&problems);
    Ok(settings)
}

struct App {
    window: Window,
    worker: Worker,
    view: View,
    faces: RefCell<Faces>,
    settings: RefCell<Settings>,
    /// Counts the requests, so that late faces of an earlier one are known.
    run: Cell<u32>,
    /// Known while the worker can make faces.
    image_size: Cell<Option<usize>>,
}

impl App {
    fn listen(self: Rc<Self>) -> Result<(), JsValue> {
        let on = |target: &EventTarget, kind: &str, handle: fn(&App, Event) -> Result<(), JsValue>| {
            let app = self.clone();
            let handle = move |event: Event| {
                if let Err(error) = handle(&app, event) {
                    app.fail(&format!("The page has an error: {}.", describe(error)));
                }
            };
            let handle = Closure::<dyn Fn(Event)>::new(handle).into_js_value();
            target.add_event_listener_with_callback(kind, handle.unchecked_ref())
        };
        on(&self.worker, "message", |app, event| app.receive(event.unchecked_ref::<MessageEvent>().data()))?;
        on(&self.worker, "error", |app, event| {
            let message = event.dyn_ref::<ErrorEvent>().map(ErrorEvent::message).unwrap_or_default();
            app.fail(&format!("The worker that makes the faces stopped. Reload the page. {message}"));
            Ok(())
        })?;
        on(&self.view.new_button, "click", |app, _| app.new_faces())?;
        on(&self.view.retry, "click", |app, _| {
            app.view.offer_retry(false);
            app.load()
        })?;
        on(&self.view.form, "submit", |app, event| {
            event.prevent_default();
            app.enter_seed()
        })?;
        on(&self.view.form, "change", |app, event| app.choose_count(&event))?;
        on(&self.window, "keydown", |app, event| app.press(event.unchecked_ref()))?;
        on(&self.window, "popstate", |app, _| {
            *app.settings.borrow_mut() = read_settings(&app.window, &app.view)?;
            app.make()
        })
    }

    fn receive(&self, message: JsValue) -> Result<(), JsValue> {
        let (reply, pixels) = unpack(message)?;
        match reply {
            Reply::Started => self.load(),
            Reply::Downloading { bytes, total } => {
                self.view.show_download(bytes, total);
                Ok(())
            }
            Reply::Interrupted { resumed } => {
                self.view.show_interruption(resumed);
                Ok(())
            }
            Reply::DownloadFailed(reason) => {
                self.fail(&reason);
                self.view.offer_retry(true);
                Ok(())
            }
            Reply::Kept(kept) => {
                show_kept(kept);
                Ok(())
            }
            Reply::Preparing => {
                self.view.show_waiting("Preparing the model…");
                Ok(())
            }
            Reply::Executor(info) => {
                self.view.show_executor(&info);
                Ok(())
            }
            Reply::Ready { image_size } => {
                self.image_size.set(Some(image_size));
                self.view.show_model(&self.settings.borrow().model, image_size);
                self.make()
            }
            Reply::Face { run, index } => self.show_face(run, index, pixels),
            Reply::Done { run, seconds } => {
                if run == self.run.get() {
                    self.view.show_done(self.settings.borrow().count, seconds);
                }
                Ok(())
            }
            Reply::Failed(reason) => {
                self.fail(&reason);
                Ok(())
            }
        }
    }

    fn load(&self) -> Result<(), JsValue> {
        let settings = self.settings.borrow();
        let file = format!("models/{}.safetensors", settings.model);
        let base = self.window.location().href()?;
        let url = web_sys::Url::new_with_base(&file, &base)?.href();
        self.send(&Request::Load { url, expected: self.view.record(&file), executor: settings.executor })
    }

    /// Asks for the faces that the settings name, and writes them into the address.
    fn make(&self) -> Result<(), JsValue> {
        let Some(image_size) = self.image_size.get() else { return Ok(()) };
        let mut settings = self.settings.borrow_mut();
        let first = *settings.seed.get_or_insert_with(random_seed);
        let history = self.window.history()?;
        history.replace_state_with_url(&JsValue::NULL, "", Some(&settings.query()))?;
        let seeds: Vec<u64> = (first..).take(settings.count).collect();
        self.view.show_settings(&settings);
        self.view.show_seed_problem("")?;
        self.view.show_making(settings.count);
        self.faces.borrow_mut().lay_out(&seeds, image_size, &settings.model)?;
        self.run.set(self.run.get() + 1);
        self.send(&Request::Make { run: self.run.get(), seeds })
    }

    /// Makes faces that the browser's way back leads away from again.
    fn make_next(&self) -> Result<(), JsValue> {
        let query = self.settings.borrow().query();
        self.window.history()?.push_state_with_url(&JsValue::NULL, "", Some(&query))?;
        self.make()
    }

    fn show_face(&self, run: u32, index: usize, pixels: Option<Uint8ClampedArray>) -> Result<(), JsValue> {
        if run != self.run.get() {
            return Ok(());
        }
        let pixels = pixels.ok_or("a face without pixels")?;
        self.faces.borrow().show(index, &pixels.to_vec())?;
        self.view.show_progress(index + 1, self.settings.borrow().count);
        Ok(())
    }

    fn new_faces(&self) -> Result<(), JsValue> {
        if self.image_size.get().is_none() {
            return Ok(());
        }
        self.settings.borrow_mut().seed = Some(random_seed());
        self.make_next()
    }

    fn enter_seed(&self) -> Result<(), JsValue> {
        match parse_seed(self.view.seed.value().trim()) {
            Ok(seed) => {
                self.settings.borrow_mut().seed = Some(seed);
                self.make_next()
            }
            Err(problem) => self.view.show_seed_problem(&format!("The {problem}.")),
        }
    }

    fn choose_count(&self, event: &Event) -> Result<(), JsValue> {
        let Some(count) = View::chosen_count(event) else { return Ok(()) };
        self.settings.borrow_mut().count = count;
        self.make_next()
    }

    /// The space key makes new faces wherever it has no meaning of its own.
    fn press(&self, event: &KeyboardEvent) -> Result<(), JsValue> {
        let focused = event.target().and_then(|target| target.dyn_into::<Element>().ok());
        let own = focused.map_or(Ok(None), |element| element.closest("button, a, input:not(:checked)"))?;
        let modified = event.ctrl_key() || event.alt_key() || event.meta_key();
        if event.key() != " " || event.repeat() || modified || own.is_some() {
            return Ok(());
        }
        event.prevent_default();
        self.new_faces()
    }

    fn fail(&self, reason: &str) {
        self.image_size.set(None);
        self.view.fail(reason);
    }

    fn send(&self, request: &Request) -> Result<(), JsValue> {
        let message = pack(request, None)?;
        self.worker.post_message(&message)
    }
}
