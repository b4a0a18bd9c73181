//! The way between two faces, as an animation that can be saved.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use lddgan::Mix;
use wasm_bindgen::prelude::*;
use web_sys::{HtmlButtonElement, HtmlDialogElement, HtmlElement, HtmlFormElement, HtmlInputElement};

use super::App;
use super::canvas::{Image, Picture};
use super::dom::{document, find, next_frame};
use super::save::save;
use crate::choices::{parse_seed, random_seed};
use crate::page::protocol::{Place, Request};
use crate::time::now;

/// Faces on the way, both ends included.
const FRAMES: usize = 33;
/// Milliseconds from one to the next.
const FRAME: u16 = 80;
/// Pixels of the display.
const DISPLAY: usize = 1024;

pub struct Between {
    pub dialog: HtmlDialogElement,
    picture: Picture,
    pub share: HtmlInputElement,
    pub form: HtmlFormElement,
    from: HtmlInputElement,
    to: HtmlInputElement,
    problem: HtmlElement,
    pub play: HtmlButtonElement,
    pub another: HtmlButtonElement,
    pub save: HtmlButtonElement,
    status: HtmlElement,
    ends: Cell<(u64, u64)>,
    run: Cell<u32>,
    /// Those that are there, from the first on.
    frames: RefCell<Vec<Vec<u8>>>,
    playing: Cell<bool>,
    /// When the animation would have begun.
    start: Cell<f64>,
}

impl Between {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            dialog: find(&document, "#between")?,
            picture: Picture::new(find(&document, "#between-face")?)?,
            share: find(&document, "#share")?,
            form: find(&document, "#ends")?,
            from: find(&document, "#from")?,
            to: find(&document, "#to")?,
            problem: find(&document, "#ends-problem")?,
            play: find(&document, "#between-play")?,
            another: find(&document, "#between-new")?,
            save: find(&document, "#between-save")?,
            status: find(&document, "#between-status")?,
            ends: (0, 0).into(),
            run: 0.into(),
            frames: Vec::new().into(),
            playing: true.into(),
            start: 0.0.into(),
        })
    }

    fn set_playing(&self, playing: bool) {
        self.playing.set(playing);
        self.play.set_text_content(Some(if playing { "Pause" } else { "Play" }));
        let length = (FRAMES - 1) as f64 * f64::from(FRAME);
        self.start.set(now() - self.share.value_as_number() * length);
    }

    /// Shows what is `share` of the way: two faces, of which one shines through the other.
    fn show(&self, share: f64) -> Result<(), JsValue> {
        let frames = self.frames.borrow();
        let Some(last) = frames.len().checked_sub(1) else { return Ok(()) };
        let place = (share * (FRAMES - 1) as f64).clamp(0.0, last as f64);
        let (frame, rest) = (place as usize, place.fract());
        self.picture.draw(&Image::Pixels(&frames[frame]), 1.0)?;
        if rest > 0.0 {
            self.picture.draw(&Image::Pixels(&frames[frame + 1]), rest)?;
        }
        Ok(())
    }
}

impl App {
    /// Opens the way from this face to one that chance chooses.
    pub fn open_between(self: &Rc<Self>, from: u64) -> Result<(), JsValue> {
        self.between.dialog.show_modal()?;
        self.between.set_playing(!self.prefers_stillness()?);
        self.make_between(from, random_seed())?;
        self.animate_between()
    }

    /// Takes another end.
    pub fn turn_between(self: &Rc<Self>) -> Result<(), JsValue> {
        let (_, to) = self.between.ends.get();
        self.make_between(to, random_seed())
    }

    pub fn enter_ends(self: &Rc<Self>) -> Result<(), JsValue> {
        let seed = |input: &HtmlInputElement| parse_seed(input.value().trim());
        match seed(&self.between.from).and_then(|from| Ok((from, seed(&self.between.to)?))) {
            Ok((from, to)) => self.make_between(from, to),
            Err(problem) => {
                self.between.problem.set_text_content(Some(&format!("A {problem}.")));
                Ok(())
            }
        }
    }

    fn make_between(self: &Rc<Self>, from: u64, to: u64) -> Result<(), JsValue> {
        let (between, Some(size)) = (&self.between, self.image_size()) else { return Ok(()) };
        between.ends.set((from, to));
        between.from.set_value(&from.to_string());
        between.to.set_value(&to.to_string());
        between.problem.set_text_content(None);
        between.save.set_disabled(true);
        between.picture.set_size(size, DISPLAY);
        between.share.set_value_as_number(0.0);
        between.set_playing(between.playing.get());
        between.frames.borrow_mut().clear();
        between.status.set_text_content(Some("Making the faces in between…"));
        let run = self.next_run();
        between.run.set(run);
        let settings = self.settings.borrow();
        let mix = |i: usize| Mix { from, to, share: i as f64 / (FRAMES - 1) as f64 };
        let recipes = (0..FRAMES).map(|i| settings.blend(mix(i))).collect();
        drop(settings);
        self.order(Place::Between, run, recipes)
    }

    pub fn show_between_face(&self, run: u32, pixels: Vec<u8>) -> Result<(), JsValue> {
        if run != self.between.run.get() {
            return Ok(());
        }
        self.between.frames.borrow_mut().push(pixels);
        let made = self.between.frames.borrow().len();
        self.between.status.set_text_content(Some(&format!("Making the faces in between: {made} of {FRAMES}…")));
        self.between.show(self.between.share.value_as_number())
    }

    pub fn end_between_run(&self, run: u32) {
        if run == self.between.run.get() {
            self.between.save.set_disabled(false);
            self.between.status.set_text_content(Some("All faces in between are ready."));
        }
    }

    /// Draws frame after frame, there and back, while the dialog is open.
    fn animate_between(self: &Rc<Self>) -> Result<(), JsValue> {
        let between = &self.between;
        if !between.dialog.open() {
            return Ok(());
        }
        if between.playing.get() {
            let length = (FRAMES - 1) as f64 * f64::from(FRAME);
            let place = ((now() - between.start.get()) / length).rem_euclid(2.0);
            let share = place.min(2.0 - place);
            between.share.set_value_as_number(share);
            between.show(share)?;
        }
        let app = self.clone();
        next_frame(move |_| app.settle(app.animate_between()))
    }

    pub fn toggle_between(&self) {
        self.between.set_playing(!self.between.playing.get());
    }

    /// The visitor moves the slider.
    pub fn drag_between(&self) -> Result<(), JsValue> {
        self.between.set_playing(false);
        self.between.show(self.between.share.value_as_number())
    }

    /// Has the animation encoded, there and back.
    pub fn encode_between(&self) -> Result<(), JsValue> {
        let (between, Some(size)) = (&self.between, self.image_size()) else { return Ok(()) };
        let (from, to) = between.ends.get();
        between.save.set_disabled(true);
        between.status.set_text_content(Some("Writing the file…"));
        let frames = between.frames.borrow();
        let back = frames.iter().rev().skip(1).take(frames.len() - 2);
        let pixels: Vec<u8> = frames.iter().chain(back).flatten().copied().collect();
        let mut texts = vec![("Title".to_owned(), format!("From face {from} to face {to}"))];
        texts.extend(self.texts().into_iter().map(|(keyword, text)| (keyword.to_owned(), text)));
        let file = format!("{}-{from}-to-{to}.png", self.model_name());
        self.send_bytes(&Request::Encode { file, size, milliseconds: FRAME, texts }, &pixels)
    }

    pub fn save_between(&self, file: &str, bytes: &[u8]) -> Result<(), JsValue> {
        self.between.save.set_disabled(false);
        self.between.status.set_text_content(Some(&format!("Saved as {file}, an animated PNG.")));
        save(file, "image/png", bytes)
    }
}
