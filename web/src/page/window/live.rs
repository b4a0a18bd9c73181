//! The page in motion: new faces fade in one by one, or all turn into others, until it is paused.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use lddgan::{Mix, Recipe};
use wasm_bindgen::prelude::*;
use web_sys::{HtmlButtonElement, HtmlElement};

use super::App;
use super::canvas::Image;
use super::dom::{after, document, find, next_frame};
use crate::choices::random_seed;
use crate::page::protocol::Place;
use crate::time::now;

/// Milliseconds between a face and the next.
const REST: i32 = 1000;
/// Milliseconds in which a face turns into another.
const MORPH: f64 = 5000.0;
/// Over so many milliseconds the frames are counted.
const COUNTED: f64 = 1000.0;

pub struct Live {
    pub button: HtmlButtonElement,
    label: HtmlElement,
    pub morph_button: HtmlButtonElement,
    /// Whether a GPU makes the faces, so that all of them can move at once.
    gpu: Cell<bool>,
    playing: Cell<bool>,
    /// Whether all faces turn into others.
    morph: Cell<bool>,
    timer: Cell<Option<i32>>,
    /// The order under way; answers to others come too late.
    run: Cell<u32>,
    /// The place and the seed of the face under way.
    next: Cell<(usize, u64)>,
    morphs: RefCell<Vec<Morph>>,
    /// Frames since a time.
    frames: Cell<(u32, f64)>,
}

/// The way of one place of the grid.
#[derive(Clone, Copy)]
struct Morph {
    from: u64,
    to: u64,
    start: f64,
}

impl Morph {
    /// The face at this time; turns to another when it has arrived.
    fn mix(&mut self, time: f64) -> Mix {
        if time > self.start + MORPH {
            *self = Self { from: self.to, to: random_seed(), start: time };
        }
        let way = ((time - self.start) / MORPH).clamp(0.0, 1.0);
        // Slow at both ends.
        Mix { from: self.from, to: self.to, share: way * way * (3.0 - 2.0 * way) }
    }
}

impl Live {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            button: find(&document, "#play")?,
            label: find(&document, "#play span")?,
            morph_button: find(&document, "#morph")?,
            gpu: false.into(),
            playing: false.into(),
            morph: false.into(),
            timer: None.into(),
            run: 0.into(),
            next: (0, 0).into(),
            morphs: Vec::new().into(),
            frames: (0, 0.0).into(),
        })
    }

    pub fn is_playing(&self) -> bool {
        self.playing.get()
    }

    pub fn set_playing(&self, playing: bool) {
        self.playing.set(playing);
        self.label.set_text_content(Some(if playing { "Pause" } else { "Play" }));
    }

    /// Takes note of what makes the faces. A CPU is too slow to move all of them at once.
    pub fn set_gpu(&self, gpu: bool) -> Result<(), JsValue> {
        self.gpu.set(gpu);
        self.set_morph(self.morph.get() && gpu)
    }

    fn set_morph(&self, morph: bool) -> Result<(), JsValue> {
        self.morph.set(morph);
        self.morph_button.set_attribute("aria-pressed", &morph.to_string())
    }

    /// Forgets what is under way.
    pub fn stop(&self) {
        self.run.set(0);
        self.morphs.borrow_mut().clear();
        if let (Some(timer), Ok(window)) = (self.timer.take(), super::dom::window()) {
            window.clear_timeout_with_handle(timer);
        }
    }
}

impl App {
    /// Pauses, or goes on.
    pub fn toggle_live(self: &Rc<Self>) -> Result<(), JsValue> {
        if self.live.is_playing() {
            return self.pause();
        }
        self.live.set_playing(true);
        let text = if self.live.morph.get() { "Every face turns into another." } else { "A new face every second." };
        self.view.say(text);
        self.write_address();
        self.wake(0)
    }

    /// Stands still, with an address that names the faces.
    pub fn pause(self: &Rc<Self>) -> Result<(), JsValue> {
        if !self.live.is_playing() {
            return Ok(());
        }
        self.live.set_playing(false);
        let between: Vec<u64> = self.live.morphs.borrow().iter().map(|morph| morph.to).collect();
        self.live.stop();
        if between.is_empty() {
            self.view.say("Paused. The address names these faces.");
            self.write_address();
            return Ok(());
        }
        // No address names what is between two faces, so each goes where it was going.
        self.settings.borrow_mut().seeds = between;
        self.make()
    }

    /// Turns all faces into others, or goes back to one at a time. On a CPU one face turns into another, whose frames are
    /// made before they are played.
    pub fn toggle_morph(self: &Rc<Self>) -> Result<(), JsValue> {
        if !self.live.gpu.get() {
            let first = self.settings.borrow().seeds.first().copied();
            return self.open_between(first.unwrap_or_else(random_seed));
        }
        let morph = !self.live.morph.get();
        self.live.stop();
        self.live.set_morph(morph)?;
        self.live.set_playing(true);
        self.view.say(if morph { "Every face turns into another." } else { "A new face every second." });
        self.write_address();
        self.wake(0)
    }

    /// Goes on after so many milliseconds, if the page is in motion and seen.
    pub fn wake(self: &Rc<Self>, milliseconds: i32) -> Result<(), JsValue> {
        if let Some(timer) = self.live.timer.take() {
            self.window.clear_timeout_with_handle(timer);
        }
        let app = self.clone();
        let timer = after(milliseconds, move || app.settle(app.move_on()))?;
        self.live.timer.set(Some(timer));
        Ok(())
    }

    fn move_on(self: &Rc<Self>) -> Result<(), JsValue> {
        let open = self.document.query_selector("dialog[open]")?.is_some();
        if !self.live.is_playing() || self.document.hidden() || open || !self.is_whole() {
            return Ok(());
        }
        let run = self.next_run();
        self.live.run.set(run);
        let recipes = if self.live.morph.get() { self.morphs() } else { vec![self.next_face()] };
        self.order(Place::Live, run, recipes)
    }

    /// A face at any place but the last one.
    fn next_face(&self) -> Recipe {
        let settings = self.settings.borrow();
        let (last, _) = self.live.next.get();
        let others = settings.seeds.len().saturating_sub(1).max(1);
        let step = 1 + (js_sys::Math::random() * others as f64) as usize;
        let (place, seed) = ((last + step) % settings.seeds.len().max(1), random_seed());
        self.live.next.set((place, seed));
        settings.recipe(seed)
    }

    /// Every face on its way to another.
    fn morphs(&self) -> Vec<Recipe> {
        let settings = self.settings.borrow();
        let mut morphs = self.live.morphs.borrow_mut();
        let time = now();
        if morphs.is_empty() {
            // They set out one after the other, so that some always move.
            let start = |i: usize| time + MORPH * i as f64 / settings.seeds.len() as f64;
            let morph = |(i, &from): (usize, &u64)| Morph { from, to: random_seed(), start: start(i) };
            *morphs = settings.seeds.iter().enumerate().map(morph).collect();
            self.live.frames.set((0, time));
        }
        morphs.iter_mut().map(|morph| settings.blend(morph.mix(time))).collect()
    }

    pub fn show_live_face(&self, run: u32, index: usize, image: &Image) -> Result<(), JsValue> {
        if run != self.live.run.get() {
            return Ok(());
        }
        if self.live.morph.get() {
            return self.faces.borrow().show(index, image);
        }
        let (place, seed) = self.live.next.get();
        if let Some(shown) = self.settings.borrow_mut().seeds.get_mut(place) {
            *shown = seed;
        }
        self.faces.borrow().replace(place, seed, image)
    }

    pub fn end_live_run(self: &Rc<Self>, run: u32) -> Result<(), JsValue> {
        if run != self.live.run.get() {
            return Ok(());
        }
        if !self.live.morph.get() {
            return self.wake(REST);
        }
        self.count_frame();
        let app = self.clone();
        next_frame(move |_| app.settle(app.move_on()))
    }

    fn count_frame(&self) {
        let (frames, since) = self.live.frames.get();
        let (frames, time) = (frames + 1, now());
        if time < since + COUNTED {
            return self.live.frames.set((frames, since));
        }
        let rate = f64::from(frames) * 1000.0 / (time - since);
        self.view.show_amount(&format!("{rate:.1} FPS"));
        self.live.frames.set((0, time));
    }
}
