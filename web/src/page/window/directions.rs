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

pub struct Directions {
    pub form: HtmlElement,
    sliders: Element,
    pub reset: HtmlButtonElement,
}

impl Directions {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            form: find(&document, "#directions")?,
            sliders: find(&document, "#sliders")?,
            reset: find(&document, "#reset")?,
        })
    }

    /// Offers those of a model that have names, and then the strongest others.
    pub fn offer(&self, info: &ModelInfo) -> Result<(), JsValue> {
        self.sliders.set_text_content(None);
        let named: Vec<usize> = info.provenance.directions.iter().map(|direction| direction.mode).collect();
        let others = (0..info.directions).filter(|mode| !named.contains(mode));
        for mode in named.iter().copied().chain(others).filter(|&mode| mode < info.directions).take(Shifts::MAX) {
            let name = info.provenance.directions.iter().find(|direction| direction.mode == mode);
            let name = name.map(|direction| capitalised(&direction.name.replace('-', " ")));
            self.append(mode, &name.unwrap_or_else(|| format!("Direction {mode}")))?;
        }
        self.form.set_hidden(info.directions == 0);
        Ok(())
    }

    fn append(&self, mode: usize, name: &str) -> Result<(), JsValue> {
        let id = format!("direction-{mode}");
        let field = append(&self.sliders, "div", "")?;
        field.set_class_name("field");
        let label = append(&field, "label", &format!("{name} "))?;
        let input = append(&field, "input", "")?;
        let farthest = FARTHEST.to_string();
        let nearest = format!("-{farthest}");
        for (attribute, value) in [("type", "range"), ("id", &id), ("data-mode", &mode.to_string())]
            .into_iter()
            .chain([("min", nearest.as_str()), ("max", &farthest), ("step", "0.1"), ("value", "0")])
        {
            input.set_attribute(attribute, value)?;
        }
        label.set_attribute("for", &id)?;
        append(&label, "output", "0")?.set_attribute("for", &id)
    }

    /// Shows how far the faces are moved.
    pub fn show(&self, shifts: &Shifts) -> Result<(), JsValue> {
        let fields = self.sliders.children();
        for field in (0..fields.length()).filter_map(|index| fields.item(index)) {
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
