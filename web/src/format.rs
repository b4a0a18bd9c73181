//! What programs know, in words for people.

use js_sys::Reflect;
use wasm_bindgen::JsValue;

/// An error of JavaScript in words. Those of WebGPU and of the browser's storage are no `Error`, but have a message too.
pub fn describe(error: JsValue) -> String {
    let message = || Reflect::get(&error, &"message".into()).ok()?.as_string();
    let words = error.as_string().or_else(message).filter(|words| !words.is_empty());
    words.unwrap_or_else(|| "the browser gives no reason".to_owned())
}

/// With a capital letter, as a sentence begins.
pub fn capitalised(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A number of bytes.
pub fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 9.995e8 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}
