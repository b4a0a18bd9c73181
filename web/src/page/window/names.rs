//! The face of a name or a date, which is the same on every device.

use std::rc::Rc;

use js_sys::{Date, JsString};
use lddgan::Name;
use wasm_bindgen::prelude::*;
use web_sys::{HtmlButtonElement, HtmlElement, HtmlInputElement};

use super::App;
use super::dom::{document, find};
use crate::choices::composed;

pub struct Names {
    pub form: HtmlElement,
    input: HtmlInputElement,
    pub show: HtmlButtonElement,
    pub today: HtmlButtonElement,
    problem: HtmlElement,
}

impl Names {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            form: find(&document, "#names")?,
            input: find(&document, "#name")?,
            show: find(&document, "#names [type=submit]")?,
            today: find(&document, "#today")?,
            problem: find(&document, "#name-problem")?,
        })
    }
}

impl App {
    /// Shows the face of the name that was entered.
    pub fn enter_name(self: &Rc<Self>) -> Result<(), JsValue> {
        self.open_name(&composed(&self.names.input.value()))
    }

    /// Shows the face of today: of the date in UTC, which is the same everywhere.
    pub fn open_today(self: &Rc<Self>) -> Result<(), JsValue> {
        let now: JsString = Date::new_0().to_iso_string();
        self.open_name(&String::from(now.slice(0, "2026-12-01".len() as u32)))
    }

    fn open_name(self: &Rc<Self>, text: &str) -> Result<(), JsValue> {
        let name = text.parse::<Name>();
        let problem = name.as_ref().err().map_or(String::new(), |problem| format!("A {problem}."));
        self.names.problem.set_text_content(Some(&problem));
        let Ok(name) = name else { return Ok(()) };
        let seed = name.seed();
        self.settings.borrow_mut().name = Some(name);
        self.open_large(seed)
    }

    /// What a face is called: the face of a name, or its seed.
    pub fn title(&self, seed: u64) -> String {
        let settings = self.settings.borrow();
        settings.name_of(seed).map_or_else(|| format!("Face {seed}"), |name| format!("The face of {name}"))
    }
}
