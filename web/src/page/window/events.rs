//! What the visitor does, and what it calls.

use std::rc::Rc;

use wasm_bindgen::prelude::*;
use web_sys::{
    Element, ErrorEvent, Event, EventTarget, HtmlElement, HtmlInputElement, KeyboardEvent, MessageEvent, MouseEvent,
    UiEvent,
};

use super::dom::listen;
use super::{App, read_settings};
use crate::choices::{parse_dtype, parse_seed, random_seed};
use crate::page::settings::{Settings, Vary};

type Handler = fn(&Rc<App>, Event) -> Result<(), JsValue>;

impl App {
    pub fn listen(self: Rc<Self>) -> Result<(), JsValue> {
        self.listen_to_worker()?;
        self.listen_to_page()?;
        self.listen_to_settings()?;
        self.listen_to_names()?;
        self.listen_to_large()?;
        self.listen_to_between()?;
        self.listen_to_speaker()?;
        self.listen_to_models()
    }

    pub fn listen_to_worker(self: &Rc<Self>) -> Result<(), JsValue> {
        let worker = self.worker.borrow();
        self.on(&worker, "message", |app, event| app.receive(event.unchecked_ref::<MessageEvent>().data()))?;
        self.on(&worker, "error", |app, event| {
            let message = event.dyn_ref::<ErrorEvent>().map(ErrorEvent::message).unwrap_or_default();
            app.fail(&format!("The worker that makes the faces does not start. Reload the page. {message}"));
            Ok(())
        })
    }

    fn on(self: &Rc<Self>, target: &EventTarget, kind: &str, handle: Handler) -> Result<(), JsValue> {
        let app = self.clone();
        listen(target, kind, move |event| app.settle(handle(&app, event)))
    }

    fn listen_to_page(self: &Rc<Self>) -> Result<(), JsValue> {
        self.on(&self.live.button, "click", |app, _| app.toggle_live())?;
        self.on(&self.view.new_button, "click", |app, _| app.new_faces())?;
        self.on(&self.live.morph_button, "click", |app, _| app.toggle_morph())?;
        self.on(&self.window, "keydown", |app, event| app.press(event.unchecked_ref()))?;
        self.on(&self.document, "click", |app, event| {
            match closest(&event, ".face")?.and_then(|face| face.get_attribute("data-seed")?.parse().ok()) {
                Some(seed) => app.open_large(seed),
                None => Ok(()),
            }
        })?;
        self.on(&self.document, "visibilitychange", |app, _| app.wake(0))?;
        // The keys of the page are not those of a button that was clicked.
        self.on(&self.document, "click", |_, event| {
            let clicked = event.unchecked_ref::<UiEvent>().detail() > 0;
            match closest(&event, "main button, summary")?.filter(|_| clicked) {
                Some(button) => button.unchecked_into::<HtmlElement>().blur(),
                None => Ok(()),
            }
        })?;
        self.on(&self.window, "popstate", |app, _| {
            app.address.set_step(false);
            let settings = read_settings(&app.window, &app.view)?;
            let model_truncation = app.settings.borrow().model_truncation;
            app.settings.replace(Settings { model_truncation, ..settings });
            app.begin()?;
            let same = app.settings.borrow().model == app.models.shipped() && !app.models.is_own();
            if same { app.make() } else { app.load() }
        })
    }

    fn listen_to_settings(self: &Rc<Self>) -> Result<(), JsValue> {
        self.on(&self.view.form, "submit", |app, event| {
            event.prevent_default();
            app.enter_seed()
        })?;
        self.on(&self.view.form, "change", |app, event| app.choose(&event))?;
        self.on(&self.view.retry, "click", |app, _| {
            app.view.offer_retry(false);
            app.load()
        })?;
        self.on(&self.view.explore, "submit", |_, event| {
            event.prevent_default();
            Ok(())
        })?;
        self.on(&self.view.explore, "change", |app, event| app.choose(&event))?;
        for sliders in [&self.directions.first, &self.directions.form] {
            self.on(sliders, "input", |app, event| app.shift(&event))?;
            // Not at every step of the way: some browsers allow few changes of the address.
            self.on(sliders, "change", |app, _| {
                app.write_address();
                Ok(())
            })?;
        }
        self.on(&self.directions.reset, "click", |app, _| app.reset_shifts())?;
        self.on(&self.view.numbers, "change", |app, event| app.choose(&event))?;
        self.on(&self.view.between_button, "click", |app, _| {
            let first = app.settings.borrow().seeds.first().copied();
            app.open_between(first.unwrap_or_else(random_seed))
        })
    }

    fn listen_to_names(self: &Rc<Self>) -> Result<(), JsValue> {
        self.on(&self.names.form, "submit", |app, event| {
            event.prevent_default();
            app.enter_name()
        })?;
        self.on(&self.names.today, "click", |app, _| app.open_today())
    }

    fn listen_to_large(self: &Rc<Self>) -> Result<(), JsValue> {
        let large = &self.large;
        self.on(&large.previous, "click", |app, _| app.step_large(-1))?;
        self.on(&large.next, "click", |app, _| app.step_large(1))?;
        self.on(&large.save, "click", |app, _| app.save_face())?;
        self.on(&large.share, "click", |app, _| app.share_face())?;
        self.on(&large.strip, "click", |app, event| {
            match closest(&event, "[data-step]")?.and_then(|button| button.get_attribute("data-step")?.parse().ok()) {
                Some(step) => app.show_step(step),
                None => Ok(()),
            }
        })?;
        self.on(&large.copy, "click", |app, _| app.copy_link())?;
        self.on(&large.morph, "click", |app, _| app.open_between(app.large.seed()))?;
        self.on(&large.dialog, "keydown", |app, event| match event.unchecked_ref::<KeyboardEvent>().key().as_str() {
            "ArrowLeft" => app.step_large(-1),
            "ArrowRight" => app.step_large(1),
            _ => Ok(()),
        })?;
        self.on(&large.fork, "click", |app, _| app.open_tree(app.large.seed()))?;
        self.on(&self.tree.dialog, "click", |app, event| app.choose_leaf(&event))?;
        self.on(&self.tree.copy, "click", |app, _| app.copy_tree())?;
        for dialog in [&large.dialog, &self.between.dialog, &self.models.card, &self.tree.dialog] {
            self.on(dialog, "close", |app, _| app.wake(0))?;
        }
        Ok(())
    }

    fn listen_to_between(self: &Rc<Self>) -> Result<(), JsValue> {
        let between = &self.between;
        self.on(&between.form, "submit", |app, event| {
            event.prevent_default();
            app.enter_ends()
        })?;
        self.on(&between.share, "input", |app, _| app.drag_between())?;
        self.on(&between.another, "click", |app, _| app.turn_between())?;
        self.on(&between.save, "click", |app, _| app.encode_between())?;
        self.on(&between.play, "click", |app, _| {
            app.toggle_between();
            Ok(())
        })
    }

    /// Clickers press the page keys.
    fn listen_to_speaker(self: &Rc<Self>) -> Result<(), JsValue> {
        let speaker = &self.speaker;
        self.on(&speaker.button, "click", |app, _| app.open_speaker())?;
        self.on(&speaker.dialog, "pointerdown", |app, event| {
            app.speaker.touch(event.unchecked_ref::<MouseEvent>().client_x());
            Ok(())
        })?;
        self.on(&speaker.dialog, "click", |app, event| match closest(&event, ".close")? {
            Some(_) => Ok(()),
            None => app.step_speaker(app.speaker.swipe(event.unchecked_ref::<MouseEvent>().client_x())),
        })?;
        self.on(&speaker.dialog, "keydown", |app, event| {
            let step = match event.unchecked_ref::<KeyboardEvent>().key().as_str() {
                "PageDown" | "ArrowRight" | "ArrowDown" | " " => 1,
                "PageUp" | "ArrowLeft" | "ArrowUp" => -1,
                _ => return Ok(()),
            };
            event.prevent_default();
            app.step_speaker(step)
        })?;
        self.on(&speaker.dialog, "close", |app, _| app.close_speaker())?;
        self.on(&self.document, "fullscreenchange", |app, _| match app.document.fullscreen_element() {
            Some(_) => Ok(()),
            None => app.close_speaker(),
        })
    }

    fn listen_to_models(self: &Rc<Self>) -> Result<(), JsValue> {
        self.on(&self.models.choice, "change", |app, _| app.choose_model())?;
        self.on(&self.models.file, "change", |app, _| app.choose_file())?;
        self.on(&self.models.open_card, "click", |app, _| app.open_card())?;
        self.on(&self.check.button, "click", |app, _| app.start_check())?;
        self.on(&self.document, "drop", |app, event| app.drop_file(event.unchecked_ref()))?;
        // Without this the browser would open a file that is dropped.
        self.on(&self.document, "dragover", |_, event| {
            event.prevent_default();
            Ok(())
        })
    }

    fn new_faces(self: &Rc<Self>) -> Result<(), JsValue> {
        if self.image_size().is_none() {
            return Ok(());
        }
        self.settings.borrow_mut().follow(random_seed());
        self.make_next()
    }

    /// Shows the faces from a seed on, and keeps them.
    fn enter_seed(self: &Rc<Self>) -> Result<(), JsValue> {
        match parse_seed(self.view.seed.value().trim()) {
            Ok(seed) => {
                self.live.set_playing(false);
                self.settings.borrow_mut().follow(seed);
                self.make_next()
            }
            Err(problem) => self.view.show_seed_problem(&format!("The {problem}.")),
        }
    }

    /// Takes what was chosen in a form.
    fn choose(self: &Rc<Self>, event: &Event) -> Result<(), JsValue> {
        let Some(input) = event.target().and_then(|target| target.dyn_into::<HtmlInputElement>().ok()) else {
            return Ok(());
        };
        let mut settings = self.settings.borrow_mut();
        let first = settings.seeds.first().copied().unwrap_or_else(random_seed);
        match (input.name().as_str(), input.value().as_str()) {
            ("count", count) => {
                settings.count = count.parse().unwrap_or(settings.count);
                settings.follow(first);
            }
            ("dtype", dtype) => settings.dtype = parse_dtype(dtype).unwrap_or_default(),
            ("steps", steps) => {
                let all = self.model.borrow().as_ref().map(|model| model.steps);
                settings.steps = steps.parse().ok().filter(|&steps| Some(steps) != all);
            }
            ("vary", "z") => settings.vary = Vary::Z(first),
            ("vary", "x") => settings.vary = Vary::X(first),
            ("vary", _) => settings.vary = Vary::All,
            ("z-step", step) => {
                settings.z_step = step.parse().ok();
                if !matches!(settings.vary, Vary::Z(_)) {
                    settings.vary = Vary::Z(first);
                }
            }
            ("truncation", _) => settings.truncation = self.view.chosen_truncation(),
            _ => return Ok(()),
        }
        drop(settings);
        self.make_next()
    }

    /// The space key pauses, N makes new faces and F fills the screen, wherever they have no meaning of their own.
    fn press(self: &Rc<Self>, event: &KeyboardEvent) -> Result<(), JsValue> {
        let own = closest(event, "select, dialog, input:not([type=radio], [type=range], [type=file])")?;
        let modified = event.ctrl_key() || event.alt_key() || event.meta_key();
        if event.repeat() || modified || own.is_some() || self.image_size().is_none() {
            return Ok(());
        }
        match event.key().as_str() {
            " " if closest(event, "button, a, summary, input:not(:checked)")?.is_none() => {
                event.prevent_default();
                self.toggle_live()
            }
            "n" | "N" => self.new_faces(),
            "f" | "F" => self.open_speaker(),
            _ => Ok(()),
        }
    }
}

/// The element around what an event is about that fits a CSS selector.
fn closest(event: &Event, selector: &str) -> Result<Option<Element>, JsValue> {
    let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
    target.map_or(Ok(None), |element| element.closest(selector))
}
