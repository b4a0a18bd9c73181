//! The grid of faces, each of which can be saved.

use wasm_bindgen::prelude::*;
use web_sys::{Blob, CanvasRenderingContext2d, Document, DocumentFragment, Element, HtmlAnchorElement};
use web_sys::{HtmlButtonElement, HtmlCanvasElement, HtmlElement, HtmlTemplateElement, ImageData, MouseEvent, Url};

use super::view::find;

/// Pixels of the display per row of faces: enough for a projector, and each face an integer number of times enlarged.
const DISPLAY: usize = 1024;

pub struct Faces {
    document: Document,
    list: HtmlElement,
    template: DocumentFragment,
    tiles: Vec<Tile>,
}

impl Faces {
    pub fn new(document: &Document) -> Result<Self, JsValue> {
        let template: HtmlTemplateElement = find(document, "template#face")?;
        let list = find(document, "#faces")?;
        Ok(Self { document: document.clone(), list, template: template.content(), tiles: Vec::new() })
    }

    /// Makes place for the faces of these seeds, `size` pixels wide and high.
    pub fn lay_out(&mut self, seeds: &[u64], size: usize, model: &str) -> Result<(), JsValue> {
        let columns = seeds.len().isqrt();
        if self.tiles.len() != seeds.len() {
            self.list.replace_children_with_node_0();
            self.list.style().set_property("--columns", &columns.to_string())?;
            let tile = |_| Tile::new(&self.document, &self.template, &self.list);
            self.tiles = seeds.iter().map(tile).collect::<Result<_, _>>()?;
        }
        let enlargement = (DISPLAY / columns / size).max(1);
        for (tile, seed) in self.tiles.iter().zip(seeds) {
            tile.clear(*seed, size, enlargement, model)?;
        }
        Ok(())
    }

    /// Shows the face at `index`, which is given as RGBA.
    pub fn show(&self, index: usize, pixels: &[u8]) -> Result<(), JsValue> {
        self.tiles.get(index).map_or(Ok(()), |tile| tile.show(pixels))
    }
}

/// The place of one face.
struct Tile {
    button: HtmlButtonElement,
    caption: Element,
    /// What is seen: the face enlarged, more smoothly than a style sheet would.
    display: HtmlCanvasElement,
    /// The face as it was made, which is what is saved.
    image: HtmlCanvasElement,
}

impl Tile {
    fn new(document: &Document, template: &DocumentFragment, list: &HtmlElement) -> Result<Self, JsValue> {
        let item: DocumentFragment = template.clone_node_with_deep(true)?.unchecked_into();
        let part = |selector: &str| {
            let found = item.query_selector(selector)?;
            found.ok_or_else(|| JsValue::from(format!("index.html has no {selector} in template#face")))
        };
        let tile = Self {
            button: part("button")?.unchecked_into(),
            caption: part(".caption")?,
            display: part("canvas")?.unchecked_into(),
            image: document.create_element("canvas")?.unchecked_into(),
        };
        tile.save_on_click();
        list.append_child(&item)?;
        Ok(tile)
    }

    fn clear(&self, seed: u64, size: usize, enlargement: usize, model: &str) -> Result<(), JsValue> {
        self.button.set_disabled(true);
        self.button.class_list().remove_1("shown")?;
        self.button.set_attribute("aria-label", &format!("Face {seed}: save as PNG"))?;
        self.button.set_attribute("data-file", &format!("{model}-{seed}.png"))?;
        self.caption.set_text_content(Some(&seed.to_string()));
        for (canvas, size) in [(&self.image, size), (&self.display, size * enlargement)] {
            // Setting the size clears the canvas, but the last face should stay until the next one comes.
            if canvas.width() as usize != size {
                canvas.set_width(size as u32);
                canvas.set_height(size as u32);
            }
        }
        Ok(())
    }

    fn show(&self, pixels: &[u8]) -> Result<(), JsValue> {
        let (size, large) = (self.image.width(), f64::from(self.display.width()));
        let data = ImageData::new_with_u8_clamped_array_and_sh(wasm_bindgen::Clamped(pixels), size, size)?;
        context(&self.image)?.put_image_data(&data, 0.0, 0.0)?;
        let display = context(&self.display)?;
        js_sys::Reflect::set(&display, &"imageSmoothingQuality".into(), &"high".into())?;
        display.draw_image_with_html_canvas_element_and_dw_and_dh(&self.image, 0.0, 0.0, large, large)?;
        self.button.class_list().add_1("shown")?;
        self.button.set_disabled(false);
        Ok(())
    }

    fn save_on_click(&self) {
        let image = self.image.clone();
        let button = self.button.clone();
        let on_click = move |event: MouseEvent| -> Result<(), JsValue> {
            // After a click with a pointer the space key should make new faces, not save this one again.
            if event.detail() > 0 {
                button.blur()?;
            }
            save(&image, button.get_attribute("data-file").unwrap_or_default())
        };
        let on_click = Closure::<dyn Fn(MouseEvent) -> Result<(), JsValue>>::new(on_click).into_js_value();
        self.button.set_onclick(Some(on_click.unchecked_ref()));
    }
}

fn context(canvas: &HtmlCanvasElement) -> Result<CanvasRenderingContext2d, JsValue> {
    let context = canvas.get_context("2d")?.ok_or("the browser has no canvas to draw on")?;
    Ok(context.unchecked_into())
}

/// Downloads the image as a PNG file.
fn save(image: &HtmlCanvasElement, file: String) -> Result<(), JsValue> {
    let download = move |blob: Option<Blob>| -> Result<(), JsValue> {
        let blob = blob.ok_or("the browser cannot write a PNG picture")?;
        let url = Url::create_object_url_with_blob(&blob)?;
        let document = web_sys::window().and_then(|window| window.document()).ok_or("there is no document")?;
        let link: HtmlAnchorElement = document.create_element("a")?.unchecked_into();
        link.set_href(&url);
        link.set_download(&file);
        link.click();
        Url::revoke_object_url(&url)
    };
    image.to_blob(Closure::once_into_js(download).unchecked_ref())
}
