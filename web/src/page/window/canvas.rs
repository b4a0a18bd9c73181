//! Faces on canvases.

use wasm_bindgen::{Clamped, prelude::*};
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, ImageBitmap, ImageData};

use super::dom::document;

/// A face as the worker made it.
pub enum Image<'a> {
    /// RGBA
    Pixels(&'a [u8]),
    /// A part of a picture of several.
    Part { picture: &'a ImageBitmap, column: usize, row: usize },
}

/// A face on a canvas of the page, enlarged more smoothly than a style sheet would.
pub struct Picture {
    /// What is seen.
    pub canvas: HtmlCanvasElement,
    /// The face as it was made.
    image: HtmlCanvasElement,
}

impl Picture {
    pub fn new(canvas: HtmlCanvasElement) -> Result<Self, JsValue> {
        Ok(Self { canvas, image: document()?.create_element("canvas")?.unchecked_into() })
    }

    /// Makes place for faces `size` pixels wide and high on about `display` pixels: an integer number of times enlarged.
    pub fn set_size(&self, size: usize, display: usize) {
        let enlarged = size * (display / size).max(1);
        for (canvas, size) in [(&self.image, size as u32), (&self.canvas, enlarged as u32)] {
            // Setting the size clears the canvas, but the last face should stay until the next one comes.
            if (canvas.width(), canvas.height()) != (size, size) {
                canvas.set_width(size);
                canvas.set_height(size);
            }
        }
    }

    /// Shows a face, which hides that much of the one before it.
    pub fn draw(&self, image: &Image, opacity: f64) -> Result<(), JsValue> {
        let (size, large) = (self.image.width(), f64::from(self.canvas.width()));
        match *image {
            Image::Pixels(pixels) => {
                let data = ImageData::new_with_u8_clamped_array_and_sh(Clamped(pixels), size, size)?;
                context(&self.image)?.put_image_data(&data, 0.0, 0.0)?;
            }
            Image::Part { picture, column, row } => {
                let [x, y] = [column, row].map(|place| -f64::from(size) * place as f64);
                context(&self.image)?.draw_image_with_image_bitmap(picture, x, y)?;
            }
        }
        let display = context(&self.canvas)?;
        js_sys::Reflect::set(&display, &"imageSmoothingQuality".into(), &"high".into())?;
        display.set_global_alpha(opacity);
        display.draw_image_with_html_canvas_element_and_dw_and_dh(&self.image, 0.0, 0.0, large, large)
    }

    /// Shows what this canvas shows.
    pub fn copy(&self, other: &HtmlCanvasElement) -> Result<(), JsValue> {
        let large = f64::from(self.canvas.width());
        let display = context(&self.canvas)?;
        display.set_global_alpha(1.0);
        display.draw_image_with_html_canvas_element_and_dw_and_dh(other, 0.0, 0.0, large, large)
    }
}

pub fn context(canvas: &HtmlCanvasElement) -> Result<CanvasRenderingContext2d, JsValue> {
    let context = canvas.get_context("2d")?.ok_or("the browser has no canvas to draw on")?;
    Ok(context.unchecked_into())
}
