//! What programs know, in words for people.

use wasm_bindgen::{JsCast, JsValue};

/// An error of JavaScript in words.
pub fn describe(error: JsValue) -> String {
    match error.dyn_into::<js_sys::Error>() {
        Ok(error) => String::from(error.message()),
        Err(other) => format!("{other:?}"),
    }
}

/// A number of bytes.
pub fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 9.995e8 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}
