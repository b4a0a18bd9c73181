//! The large view of a face: how it came about, its link, and its file.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{Element, HtmlButtonElement, HtmlDialogElement, HtmlElement};

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

pub struct Large {
    pub dialog: HtmlDialogElement,
    title: HtmlElement,
    picture: Picture,
    strip: Element,
    pub previous: HtmlButtonElement,
    pub next: HtmlButtonElement,
    pub save: HtmlButtonElement,
    pub copy: HtmlButtonElement,
    pub morph: HtmlButtonElement,
    pub fork: HtmlButtonElement,
    status: HtmlElement,
    seed: Cell<u64>,
    /// The last request.
    run: Cell<u32>,
    /// The face as RGBA, once it is there.
    pixels: RefCell<Vec<u8>>,
}

impl Large {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            dialog: find(&document, "#large")?,
            title: find(&document, "#large-title")?,
            picture: Picture::new(find(&document, "#large-face")?)?,
            strip: find(&document, "#strip")?,
            previous: find(&document, "#previous")?,
            next: find(&document, "#next")?,
            save: find(&document, "#save")?,
            copy: find(&document, "#copy")?,
            morph: find(&document, "#morph-from")?,
            fork: find(&document, "#fork")?,
            status: find(&document, "#large-status")?,
            seed: 0.into(),
            run: 0.into(),
            pixels: Vec::new().into(),
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
            let canvas = append(&item, "canvas", "")?;
            canvas.set_attribute("aria-hidden", "true")?;
            let picture = Picture::new(canvas.unchecked_into())?;
            picture.set_size(size, STEP_DISPLAY);
            picture.draw(&Image::Pixels(image), 1.0)?;
            let words = match step {
                0 => "Noise".to_owned(),
                step if step + 1 == images.len() => "The face".to_owned(),
                step => format!("Step {step}"),
            };
            append(&item, "span", &words)?;
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
        large.picture.draw(&Image::Pixels(face), 1.0)?;
        large.pixels.replace(face.to_vec());
        large.save.set_disabled(false);
        if let Some(verdict) = self.judge(large.seed.get(), face, size) {
            large.say(verdict);
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
        let (seed, Some(size)) = (self.large.seed.get(), self.image_size()) else { return Ok(()) };
        let pixels = self.large.pixels.borrow();
        let picture = Frames { size, frames: &[&pixels], milliseconds: 0 };
        let mut texts = vec![("Title", self.title(seed)), ("Seed", seed.to_string())];
        texts.extend(self.texts());
        let alone = Settings { seeds: vec![seed], count: 1, ..self.settings.borrow().clone() };
        texts.push((QUERY, alone.query()));
        texts.extend(self.link(&[seed])?.ok().map(|link| ("Source", link)));
        let bytes = png(&picture, &texts).map_err(|error| error.to_string())?;
        save(&format!("{}-{seed}.png", self.model_name()), "image/png", &bytes)?;
        self.keep_page();
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
