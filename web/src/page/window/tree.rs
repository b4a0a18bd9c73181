//! A face that forks at each step: what each of them decides.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use lddgan::forks::{BRANCHES, tree};
use lddgan::{Forks, Recipe};
use wasm_bindgen::prelude::*;
use web_sys::{Element, Event, HtmlButtonElement, HtmlDialogElement, HtmlElement};

use super::App;
use super::canvas::{Image, Picture};
use super::dom::{append, document, find};
use crate::page::protocol::{Order, Place, Request};
use crate::page::settings::Settings;

/// Steps at which the face forks; a model of fewer steps has fewer.
const FORKS: usize = 3;
/// Pixels of a face's display.
const DISPLAY: usize = 256;

pub struct Tree {
    pub dialog: HtmlDialogElement,
    title: HtmlElement,
    rows: Element,
    pub copy: HtmlButtonElement,
    status: HtmlElement,
    seed: Cell<u64>,
    run: Cell<u32>,
    /// The leaves in the order in which they are made, so that the tree grows from its root.
    order: RefCell<Vec<usize>>,
    forks: RefCell<Vec<Forks>>,
    /// The faces of each row.
    pictures: RefCell<Vec<Vec<Picture>>>,
}

impl Tree {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            dialog: find(&document, "#tree")?,
            title: find(&document, "#tree-title")?,
            rows: find(&document, "#rows")?,
            copy: find(&document, "#tree-copy")?,
            status: find(&document, "#tree-status")?,
            seed: 0.into(),
            run: 0.into(),
            order: Vec::new().into(),
            forks: Vec::new().into(),
            pictures: Vec::new().into(),
        })
    }

    pub fn seed(&self) -> u64 {
        self.seed.get()
    }

    pub fn say(&self, text: &str) {
        self.status.set_text_content(Some(text));
    }

    /// Makes place for faces `size` pixels wide and high, in one row more than there are forks.
    fn lay_out(&self, forks: usize, size: usize) -> Result<(), JsValue> {
        self.rows.set_text_content(None);
        let mut pictures = Vec::new();
        for row in 0..=forks {
            let words = match row {
                0 => "The face".to_owned(),
                row => format!("Other noise from step {row} on"),
            };
            append(&self.rows, "h3", &words)?;
            let list = append(&self.rows, "ol", "")?;
            // The last of three forks stands in columns, because 27 side by side are too small.
            list.set_class_name(if row == FORKS { "row columns" } else { "row" });
            let node = |node: usize| {
                let button = append(&append(&list, "li", "")?, "button", "")?;
                button.set_class_name("face");
                button.set_attribute("type", "button")?;
                button.set_attribute("data-leaf", &(node * width(forks - row)).to_string())?;
                button.set_attribute("aria-label", &format!("{words}, {}: keep this face", node + 1))?;
                let canvas = append(&button, "canvas", "")?;
                canvas.set_attribute("aria-hidden", "true")?;
                let picture = Picture::new(canvas.unchecked_into())?;
                picture.set_size(size, DISPLAY);
                Ok(picture)
            };
            pictures.push((0..width(row)).map(node).collect::<Result<Vec<_>, JsValue>>()?);
        }
        self.pictures.replace(pictures);
        Ok(())
    }

    /// Shows the face of a leaf, in each row where it goes on as it was.
    fn show(&self, leaf: usize, image: &Image) -> Result<(), JsValue> {
        let pictures = self.pictures.borrow();
        for (row, pictures) in pictures.iter().enumerate() {
            let leaves = width(self.forks() - row);
            if let Some(picture) = pictures.get(leaf / leaves).filter(|_| leaf.is_multiple_of(leaves)) {
                picture.draw(image, 1.0)?;
                let button = picture.canvas.parent_element().ok_or("a face without a button")?;
                button.class_list().add_1("shown")?;
            }
        }
        Ok(())
    }

    fn forks(&self) -> usize {
        self.pictures.borrow().len().saturating_sub(1)
    }
}

/// Faces of the row after so many forks.
fn width(forks: usize) -> usize {
    BRANCHES.pow(forks as u32)
}

impl App {
    /// Opens the tree of a face.
    pub fn open_tree(self: &Rc<Self>, seed: u64) -> Result<(), JsValue> {
        let (tree_view, Some(size)) = (&self.tree, self.image_size()) else { return Ok(()) };
        let all = self.model.borrow().as_ref().map_or(0, |model| model.steps);
        let steps: Vec<usize> = (1..=all).rev().take(FORKS).collect();
        tree_view.seed.set(seed);
        tree_view.title.set_text_content(Some(&format!("{} forks", self.title(seed))));
        tree_view.lay_out(steps.len(), size)?;
        tree_view.say("Making the faces…");
        if !tree_view.dialog.open() {
            tree_view.dialog.show_modal()?;
        }
        let forks = tree(seed, &steps);
        let mut order: Vec<usize> = (0..forks.len()).collect();
        order.sort_by_key(|leaf| (0..=steps.len()).position(|row| leaf % width(steps.len() - row) == 0));
        let settings = self.settings.borrow();
        let recipes = order.iter().map(|&leaf| Recipe { forks: forks[leaf], ..settings.recipe(seed) }).collect();
        let dtype = settings.dtype;
        drop(settings);
        tree_view.order.replace(order);
        tree_view.forks.replace(forks);
        let run = self.next_run();
        tree_view.run.set(run);
        // Each step has its row, so none is left out.
        self.send(&Request::Make(Order { place: Place::Tree, run, recipes, steps: usize::MAX, dtype }))
    }

    pub fn show_tree_face(&self, run: u32, index: usize, image: &Image) -> Result<(), JsValue> {
        if run != self.tree.run.get() {
            return Ok(());
        }
        let leaf = self.tree.order.borrow().get(index).copied();
        leaf.map_or(Ok(()), |leaf| self.tree.show(leaf, image))
    }

    pub fn end_tree_run(&self, run: u32) {
        if run == self.tree.run.get() {
            self.tree
                .say("The more alike three neighbours are, the less their step decides. Select a face to keep it.");
        }
    }

    /// Puts the address of the tree into the clipboard.
    pub fn copy_tree(self: &Rc<Self>) -> Result<(), JsValue> {
        let link = self.link(&[self.tree.seed()])?.map(|link| link + "&tree=1");
        self.copy(link, |app, words| app.tree.say(words))
    }

    /// Shows the face of a leaf in the grid, alone, and leaves the tree.
    pub fn choose_leaf(self: &Rc<Self>, event: &Event) -> Result<(), JsValue> {
        let target = event.target().and_then(|target| target.dyn_into::<Element>().ok());
        let face = target.map_or(Ok(None), |element| element.closest("[data-leaf]"))?;
        let leaf = face.and_then(|face| face.get_attribute("data-leaf")?.parse::<usize>().ok());
        let forks = leaf.and_then(|leaf| self.tree.forks.borrow().get(leaf).copied());
        let Some(forks) = forks else { return Ok(()) };
        self.tree.dialog.close();
        self.large.dialog.close();
        self.live.set_playing(false);
        let mut settings = self.settings.borrow_mut();
        *settings = Settings { seeds: vec![self.tree.seed()], count: 1, steps: None, forks, ..settings.clone() };
        drop(settings);
        self.make_next()
    }
}
