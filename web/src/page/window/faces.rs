//! The grid of faces, each of which opens a large view.

use lddgan::Name;
use wasm_bindgen::prelude::*;
use web_sys::{DocumentFragment, Element, HtmlButtonElement, HtmlCanvasElement, HtmlElement, HtmlTemplateElement};

use super::canvas::{Image, Picture, context};
use super::dom::{document, find};
use crate::page::settings::Settings;

/// Pixels of the display per row of faces: enough for a projector.
const DISPLAY: usize = 1024;

pub struct Faces {
    list: HtmlElement,
    /// What is shown until the first face is there.
    recorded: Element,
    template: DocumentFragment,
    tiles: Vec<Tile>,
}

impl Faces {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        let template: HtmlTemplateElement = find(&document, "template#face")?;
        Ok(Self {
            list: find(&document, "#faces")?,
            recorded: find(&document, "#recorded")?,
            template: template.content(),
            tiles: Vec::new(),
        })
    }

    /// Makes place for the faces of these settings, `size` pixels wide and high.
    pub fn lay_out(&mut self, settings: &Settings, size: usize) -> Result<(), JsValue> {
        let seeds = &settings.seeds;
        let columns = seeds.len().isqrt();
        if self.tiles.len() != seeds.len() {
            self.list.replace_children_with_node_0();
            self.list.style().set_property("--columns", &columns.to_string())?;
            let tile = |_| Tile::new(&self.template, &self.list);
            self.tiles = seeds.iter().map(tile).collect::<Result<_, _>>()?;
        }
        for (tile, seed) in self.tiles.iter().zip(seeds) {
            tile.picture.set_size(size, DISPLAY / columns);
            tile.name(*seed, settings.name_of(*seed))?;
            tile.button.set_disabled(true);
            tile.button.class_list().remove_1("shown")?;
        }
        Ok(())
    }

    /// Shows the face at `index`.
    pub fn show(&self, index: usize, image: &Image) -> Result<(), JsValue> {
        self.recorded.remove();
        self.tiles.get(index).map_or(Ok(()), |tile| tile.show(image))
    }

    /// Lets another face fade in at `index`.
    pub fn replace(&self, index: usize, seed: u64, image: &Image) -> Result<(), JsValue> {
        let Some(tile) = self.tiles.get(index) else { return Ok(()) };
        tile.name(seed, None)?;
        tile.keep()?;
        tile.show(image)
    }

    /// The canvas that shows the face with this seed.
    pub fn canvas(&self, seed: u64) -> Option<&HtmlCanvasElement> {
        let seed = seed.to_string();
        let shows = |tile: &&Tile| tile.button.get_attribute("data-seed").as_ref() == Some(&seed);
        self.tiles.iter().find(shows).map(|tile| &tile.picture.canvas)
    }
}

/// The place of one face.
struct Tile {
    button: HtmlButtonElement,
    caption: Element,
    picture: Picture,
    /// Keeps the last face below the one that fades in.
    under: HtmlCanvasElement,
}

impl Tile {
    fn new(template: &DocumentFragment, list: &HtmlElement) -> Result<Self, JsValue> {
        let item: DocumentFragment = template.clone_node_with_deep(true)?.unchecked_into();
        let part = |selector: &str| {
            let found = item.query_selector(selector)?;
            found.ok_or_else(|| JsValue::from(format!("index.html has no {selector} in template#face")))
        };
        let tile = Self {
            button: part("button")?.unchecked_into(),
            caption: part(".caption")?,
            picture: Picture::new(part("canvas")?.unchecked_into())?,
            under: part("canvas.under")?.unchecked_into(),
        };
        list.append_child(&item)?;
        Ok(tile)
    }

    /// Calls the face by a name that it was asked for by, or by its seed.
    fn name(&self, seed: u64, name: Option<&Name>) -> Result<(), JsValue> {
        let (title, caption) = match name {
            Some(name) => (format!("The face of {name}"), name.to_string()),
            None => (format!("Face {seed}"), seed.to_string()),
        };
        self.button.set_attribute("aria-label", &format!("{title}: show it large"))?;
        self.button.set_attribute("data-seed", &seed.to_string())?;
        self.button.class_list().toggle_with_force("named", name.is_some())?;
        self.caption.set_text_content(Some(&caption));
        Ok(())
    }

    fn show(&self, image: &Image) -> Result<(), JsValue> {
        self.picture.draw(image, 1.0)?;
        self.button.class_list().add_1("shown")?;
        self.button.set_disabled(false);
        Ok(())
    }

    /// Puts a copy of the face below it, and starts to fade in what is drawn next.
    fn keep(&self) -> Result<(), JsValue> {
        let shown = &self.picture.canvas;
        if self.under.height() != shown.height() {
            self.under.set_width(shown.width());
            self.under.set_height(shown.height());
        }
        context(&self.under)?.draw_image_with_html_canvas_element(shown, 0.0, 0.0)?;
        // The animation begins again only if the element is laid out without it in between.
        shown.class_list().remove_1("arriving")?;
        let _ = shown.offset_width();
        shown.class_list().add_1("arriving")
    }
}
