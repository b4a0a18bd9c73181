//! Sliders that move the faces along the directions in which the data differ most.

use std::rc::Rc;

use lddgan::Shifts;
use wasm_bindgen::prelude::*;
use web_sys::{Element, Event, HtmlButtonElement, HtmlElement, HtmlInputElement};

use super::App;
use super::dom::{append, document, find};
use crate::format::capitalised;
use crate::page::protocol::ModelInfo;

/// Standard deviations to both sides.
const FARTHEST: f32 = 3.0;
/// Sliders that are seen without opening a panel.
const FIRST: usize = 2;

pub struct Directions {
    pub form: HtmlElement,
    /// The first two, which everybody sees.
    pub first: HtmlElement,
    sliders: Element,
    pub reset: HtmlButtonElement,
}

impl Directions {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            form: find(&document, "#directions")?,
            first: find(&document, "#first-sliders")?,
            sliders: find(&document, "#sliders")?,
            reset: find(&document, "#reset")?,
        })
    }

    /// Offers those of a model that have names: the first on the page, the others in a panel.
    pub fn offer(&self, info: &ModelInfo) -> Result<(), JsValue> {
        self.sliders.set_text_content(None);
        self.first.set_text_content(None);
        let named = info.provenance.directions.iter().filter(|direction| direction.mode < info.directions);
        for (place, direction) in named.take(Shifts::MAX).enumerate() {
            let parent = if place < FIRST { &self.first } else { &self.sliders };
            append_slider(parent, direction.mode, &capitalised(&direction.name.replace('-', " ")))?;
        }
        self.form.set_hidden(self.first.child_element_count() == 0);
        Ok(())
    }

    /// Shows how far the faces are moved.
    pub fn show(&self, shifts: &Shifts) -> Result<(), JsValue> {
        let (first, others) = (self.first.children(), self.sliders.children());
        for field in
            [&first, &others].into_iter().flat_map(|fields| (0..fields.length()).map(|i| fields.item(i))).flatten()
        {
            let part =
                |selector: &str| field.query_selector(selector)?.ok_or_else(|| JsValue::from("a slider lacks a part"));
            let input: HtmlInputElement = part("input")?.unchecked_into();
            let amount = mode(&input).map_or(0.0, |mode| shifts.get(mode));
            input.set_value(&amount.to_string());
            part("output")?.set_text_content(Some(&format!("{amount:+.1}").replace("+0.0", "0")));
        }
        Ok(())
    }
}

/// Adds a slider for this direction.
fn append_slider(parent: &Element, mode: usize, name: &str) -> Result<(), JsValue> {
    let id = format!("direction-{mode}");
    let field = append(parent, "div", "")?;
    field.set_class_name("field");
    let label = append(&field, "label", &format!("{name} "))?;
    let input = append(&field, "input", "")?;
    let farthest = FARTHEST.to_string();
    let nearest = format!("-{farthest}");
    for (attribute, value) in [("type", "range"), ("id", &id), ("data-mode", &mode.to_string())].into_iter().chain([
        ("min", nearest.as_str()),
        ("max", &farthest),
        ("step", "0.1"),
        ("value", "0"),
    ]) {
        input.set_attribute(attribute, value)?;
    }
    label.set_attribute("for", &id)?;
    append(&label, "output", "0")?.set_attribute("for", &id)
}

fn mode(slider: &HtmlInputElement) -> Option<usize> {
    slider.get_attribute("data-mode")?.parse().ok()
}

impl App {
    /// Moves the faces while a slider is moved.
    pub fn shift(self: &Rc<Self>, event: &Event) -> Result<(), JsValue> {
        let slider: HtmlInputElement = event.target().ok_or("an event of nothing")?.dyn_into()?;
        let (Some(mode), Ok(amount)) = (mode(&slider), slider.value().parse()) else { return Ok(()) };
        self.settings.borrow_mut().shifts.set(mode, amount)?;
        self.show_shifted()
    }

    /// Moves the faces back to where they were.
    pub fn reset_shifts(self: &Rc<Self>) -> Result<(), JsValue> {
        self.settings.borrow_mut().shifts = Shifts::default();
        self.show_shifted()?;
        self.write_address();
        Ok(())
    }

    fn show_shifted(self: &Rc<Self>) -> Result<(), JsValue> {
        self.pause()?;
        self.directions.show(&self.settings.borrow().shifts)?;
        self.remake()
    }
}
