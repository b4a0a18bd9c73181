//! The address of the page. Browsers allow few changes of it (Safari 100 in 30 seconds), and refuse or ignore the others.

use std::cell::Cell;
use std::rc::Rc;

use wasm_bindgen::prelude::*;
use web_sys::{Url, Window};

use super::App;
use super::dom::after;

/// Milliseconds until an address that was refused is written again: twice as many each time, until these are too many.
const FIRST_PAUSE: i32 = 1000;
const LAST_PAUSE: i32 = 64_000;

#[derive(Default)]
pub struct Address {
    /// Whether the browser's way back is to lead away from the next address.
    step: Cell<bool>,
    /// Whether an attempt is to come.
    waits: Cell<bool>,
}

impl Address {
    pub fn set_step(&self, step: bool) {
        self.step.set(step);
    }
}

impl App {
    /// The address names the faces, unless they change all the time. If the browser refuses that, the page goes on, and
    /// tries again later.
    pub fn write_address(self: &Rc<Self>) {
        if !self.try_address() && !self.address.waits.get() {
            self.write_later(FIRST_PAUSE);
        }
    }

    fn try_address(&self) -> bool {
        let mut settings = self.settings.borrow().clone();
        if self.live.is_playing() {
            settings.seeds.clear();
        }
        let written = write(&self.window, &settings.query(), self.address.step.get()).unwrap_or(false);
        self.address.step.set(self.address.step.get() && !written);
        written
    }

    fn write_later(self: &Rc<Self>, pause: i32) {
        let app = self.clone();
        let attempt = move || {
            app.address.waits.set(false);
            if !app.try_address() {
                app.write_later(2 * pause);
            }
        };
        self.address.waits.set(pause <= LAST_PAUSE && after(pause, attempt).is_ok());
    }
}

/// Whether the address has this query now.
fn write(window: &Window, query: &str, step: bool) -> Result<bool, JsValue> {
    let location = window.location();
    let wanted = Url::new_with_base(query, &location.href()?)?.href();
    if location.href()? != wanted {
        let (history, state) = (window.history()?, JsValue::NULL);
        match step {
            true => history.push_state_with_url(&state, "", Some(query))?,
            false => history.replace_state_with_url(&state, "", Some(query))?,
        }
    }
    Ok(location.href()? == wanted)
}
