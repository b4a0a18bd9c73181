//! The way back from a picture that the page saved: the face is made again, and compared.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{File, HtmlCanvasElement, ImageBitmap, UrlSearchParams};

use super::canvas::context;
use super::dom::document;
use super::{App, pairs};
use crate::format::describe;
use crate::page::picture::{Likeness, compare, texts};
use crate::page::settings::Settings;

/// The keyword of the query that makes a saved face again, and of the SHA-256 of its model.
pub const QUERY: &str = "Query";
pub const MODEL: &str = "Model SHA-256";

/// A picture of a visitor's that is to be compared with what the page makes.
struct Claim {
    seed: u64,
    /// SHA-256 of its model; empty in a picture that does not say.
    model: String,
    /// RGBA
    pixels: Vec<u8>,
}

/// The picture whose face is being made again, if there is one.
#[derive(Default)]
pub struct Origin(RefCell<Option<Claim>>);

impl App {
    /// Takes a picture that was dropped on the page.
    pub fn read_picture(self: &Rc<Self>, file: File) {
        let app = self.clone();
        spawn_local(async move {
            let read = async {
                let bytes = Uint8Array::new(&JsFuture::from(file.array_buffer()).await?).to_vec();
                let bitmap = JsFuture::from(app.window.create_image_bitmap_with_blob(&file)?).await?;
                Ok::<_, JsValue>((texts(&bytes), pixels(&bitmap.unchecked_into())?))
            };
            let done = match read.await {
                Ok((texts, pixels)) => app.trace(&file.name(), &texts, pixels),
                Err(error) => {
                    app.view.say(&format!("{} cannot be read: {}.", file.name(), describe(error)));
                    Ok(())
                }
            };
            app.settle(done);
        });
    }

    /// Makes the face again that a picture says it shows.
    fn trace(self: &Rc<Self>, file: &str, texts: &[(String, String)], pixels: Vec<u8>) -> Result<(), JsValue> {
        let text = |keyword: &str| texts.iter().find(|(known, _)| known == keyword).map(|(_, text)| text.as_str());
        let Some(query) = text(QUERY) else {
            self.view.say(&format!("{file} does not say how it was made: another program wrote it, or removed that."));
            return Ok(());
        };
        let (settings, _) = Settings::parse(pairs(&UrlSearchParams::new_with_str(query)?));
        let Some(&seed) = settings.seeds.first() else {
            self.view.say(&format!("{file} names no face."));
            return Ok(());
        };
        let here = self.settings.borrow().clone();
        if settings.file.is_some() && settings.file != self.models.own_file() {
            let model = settings.file.unwrap_or_default();
            self.view
                .say(&format!("{file} was made with the file {model}. Open that file first, then the picture again."));
            return Ok(());
        }
        let same = settings.file.is_some() || (settings.model == here.model && !self.models.is_own());
        let Settings { executor, dtype, tune, model_truncation, .. } = here;
        self.settings.replace(Settings { executor, dtype, tune, model_truncation, ..settings });
        let model = text(MODEL).unwrap_or_default().to_owned();
        self.origin.0.replace(Some(Claim { seed, model, pixels }));
        self.live.set_playing(false);
        if same { self.make_next().and_then(|()| self.open_claimed()) } else { self.load() }
    }

    /// Opens the face of the picture that waits for its model, if there is one.
    pub fn open_claimed(self: &Rc<Self>) -> Result<(), JsValue> {
        let seed = self.origin.0.borrow().as_ref().map(|claim| claim.seed);
        seed.map_or(Ok(()), |seed| self.open_large(seed))
    }

    /// What comparing a face with the picture that led to it found.
    pub fn judge(&self, seed: u64, made: &[u8], size: usize) -> Option<&'static str> {
        let claim = self.origin.0.borrow_mut().take_if(|claim| claim.seed == seed)?;
        let other = self.model.borrow().as_ref().is_some_and(|model| model.sha256 != claim.model);
        Some(match compare(&claim.pixels, made, size) {
            Likeness::Equal => "Made by this page: your picture is the same, to the bit.",
            Likeness::Rounded => "Made by this page: your picture is the same but for rounding.",
            Likeness::Different if other => {
                "Your picture was made with another version of the model, so it cannot be compared."
            }
            Likeness::Different => "Changed: your picture is not the face that this page makes of its seed.",
        })
    }
}

/// The RGBA pixels of a picture.
fn pixels(picture: &ImageBitmap) -> Result<Vec<u8>, JsValue> {
    let canvas: HtmlCanvasElement = document()?.create_element("canvas")?.unchecked_into();
    let (width, height) = (picture.width(), picture.height());
    canvas.set_width(width);
    canvas.set_height(height);
    let context = context(&canvas)?;
    context.draw_image_with_image_bitmap(picture, 0.0, 0.0)?;
    Ok(context.get_image_data(0.0, 0.0, f64::from(width), f64::from(height))?.data().0)
}
