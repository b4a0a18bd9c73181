//! For an audience: one face on the whole screen, born from noise on a slow clock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::Promise;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{HtmlButtonElement, HtmlDialogElement, HtmlElement};

use super::App;
use super::canvas::{Image, Picture};
use super::dom::{document, find, next_frame};
use crate::choices::{other_seed, random_seed};
use crate::page::protocol::Request;
use crate::page::settings::Settings;
use crate::time::now;

/// Milliseconds of a step, and of all of them together where there are many.
const STEP: f64 = 2000.0;
const BIRTH: f64 = 12_000.0;
/// The share of a step in which its picture stands still.
const STILL: f64 = 0.4;
/// Pixels of the window that a swipe is long.
const SWIPE: i32 = 40;
/// Pixels of the display.
const DISPLAY: usize = 1024;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(extends = HtmlElement, js_name = HTMLElement)]
    type Scene;

    /// Some browsers have this for videos alone.
    #[wasm_bindgen(method, catch, js_name = requestFullscreen)]
    fn request_fullscreen(this: &Scene) -> Result<Promise, JsValue>;
}

pub struct Speaker {
    pub button: HtmlButtonElement,
    pub dialog: HtmlDialogElement,
    scene: Scene,
    picture: Picture,
    title: HtmlElement,
    words: HtmlElement,
    seed: Cell<u64>,
    /// The last request.
    run: Cell<u32>,
    birth: RefCell<Option<Birth>>,
    /// Where a finger, or the mouse, was put down.
    touched: Cell<i32>,
}

/// A face on its way.
struct Birth {
    /// RGBA, from the noise to the face.
    images: Vec<Vec<u8>>,
    start: f64,
    /// How far it was when it was drawn last: so many steps.
    drawn: Option<f64>,
}

impl Birth {
    fn steps(&self) -> usize {
        self.images.len() - 1
    }

    /// How far it is, in steps; the picture of each stands still for a while, or all the time.
    fn place(&self, time: f64, is_still: bool) -> f64 {
        let step = STEP.min(BIRTH / self.steps().max(1) as f64);
        let place = ((time - self.start) / step).clamp(0.0, self.steps() as f64);
        let way = if is_still { 0.0 } else { ((place.fract() - STILL) / (1.0 - STILL)).max(0.0) };
        place.floor() + way * way * (3.0 - 2.0 * way)
    }
}

impl Speaker {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            button: find(&document, "#present")?,
            dialog: find(&document, "#speaker")?,
            scene: find(&document, "#scene")?,
            picture: Picture::new(find(&document, "#speaker-face")?)?,
            title: find(&document, "#speaker-title")?,
            words: find(&document, "#speaker-words")?,
            seed: 0.into(),
            run: 0.into(),
            birth: None.into(),
            touched: 0.into(),
        })
    }

    /// The request whose answer it waits for.
    pub fn run(&self) -> u32 {
        self.run.get()
    }

    pub fn touch(&self, x: i32) {
        self.touched.set(x);
    }

    /// Where a touch that ends here leads: back, if it went to the right.
    pub fn swipe(&self, x: i32) -> i64 {
        if x - self.touched.get() > SWIPE { -1 } else { 1 }
    }

    fn draw(&self, time: f64, is_still: bool) -> Result<(), JsValue> {
        let mut birth = self.birth.borrow_mut();
        let Some(birth) = birth.as_mut() else { return Ok(()) };
        let place = birth.place(time, is_still);
        if birth.drawn.replace(place) == Some(place) {
            return Ok(());
        }
        let step = place as usize;
        self.picture.draw(&Image::Pixels(&birth.images[step]), 1.0)?;
        if place.fract() > 0.0 {
            self.picture.draw(&Image::Pixels(&birth.images[step + 1]), place.fract())?;
        }
        let words = match step {
            0 => "Noise".to_owned(),
            step if step == birth.steps() => "This person does not exist.".to_owned(),
            step => format!("Step {step} of {}", birth.steps()),
        };
        if self.words.text_content().as_deref() != Some(&words) {
            self.words.set_text_content(Some(&words));
        }
        Ok(())
    }
}

impl App {
    /// Fills the screen, with the first face of the grid.
    pub fn open_speaker(self: &Rc<Self>) -> Result<(), JsValue> {
        let speaker = &self.speaker;
        if self.image_size().is_none() || speaker.dialog.open() {
            return Ok(());
        }
        speaker.dialog.show_modal()?;
        // Where the browser refuses the screen, the face fills the window.
        if let Ok(granted) = speaker.scene.request_fullscreen() {
            spawn_local(async move { drop(JsFuture::from(granted).await) });
        }
        let first = self.settings.borrow().seeds.first().copied();
        self.present(first.unwrap_or_else(random_seed))?;
        self.animate_birth()
    }

    /// Goes to the face with the next seed, or the one before.
    pub fn step_speaker(&self, step: i64) -> Result<(), JsValue> {
        other_seed(self.speaker.seed.get(), step).map_or(Ok(()), |seed| self.present(seed))
    }

    /// Leaves the screen when the window is left, and the other way round.
    pub fn close_speaker(self: &Rc<Self>) -> Result<(), JsValue> {
        self.speaker.birth.replace(None);
        self.speaker.run.set(0);
        if self.document.fullscreen_element().is_some() {
            self.document.exit_fullscreen();
        }
        self.speaker.dialog.close();
        self.wake(0)
    }

    fn present(&self, seed: u64) -> Result<(), JsValue> {
        let (speaker, Some(size)) = (&self.speaker, self.image_size()) else { return Ok(()) };
        speaker.seed.set(seed);
        speaker.picture.set_size(size, DISPLAY);
        let run = self.next_run();
        speaker.run.set(run);
        let settings = self.settings.borrow();
        let Settings { steps, dtype, .. } = *settings;
        let (recipe, steps) = (settings.recipe(seed), steps.unwrap_or(usize::MAX));
        self.send(&Request::Develop { run, recipe: Box::new(recipe), steps, dtype })
    }

    /// The pictures that were asked for are here. The first is drawn at once, so that no title stands over another face.
    pub fn begin_birth(&self, pixels: &[u8]) -> Result<(), JsValue> {
        let (speaker, Some(size)) = (&self.speaker, self.image_size()) else { return Ok(()) };
        let images: Vec<Vec<u8>> = pixels.chunks_exact(4 * size * size).map(<[u8]>::to_vec).collect();
        speaker.title.set_text_content(Some(&format!("Face {}", speaker.seed.get())));
        speaker.birth.replace((!images.is_empty()).then(|| Birth { images, start: now(), drawn: None }));
        speaker.draw(now(), self.prefers_stillness()?)
    }

    /// Draws frame after frame while the screen is filled.
    fn animate_birth(self: &Rc<Self>) -> Result<(), JsValue> {
        if !self.speaker.dialog.open() {
            return Ok(());
        }
        self.speaker.draw(now(), self.prefers_stillness()?)?;
        let app = self.clone();
        next_frame(move |_| app.settle(app.animate_birth()))
    }
}
