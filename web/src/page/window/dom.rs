//! The document, its elements, and time.

use wasm_bindgen::prelude::*;
use web_sys::{Document, Element, Event, EventTarget, Window};

pub fn window() -> Result<Window, JsValue> {
    Ok(web_sys::window().ok_or("there is no window")?)
}

pub fn document() -> Result<Document, JsValue> {
    Ok(window()?.document().ok_or("there is no document")?)
}

/// The element of index.html that this CSS selector names.
pub fn find<E: JsCast>(document: &Document, selector: &str) -> Result<E, JsValue> {
    let found = document.query_selector(selector)?.and_then(|element| element.dyn_into().ok());
    found.ok_or_else(|| format!("index.html has no fitting {selector}").into())
}

/// A new element with this text at the end of `parent`.
pub fn append(parent: &Element, tag: &str, text: &str) -> Result<Element, JsValue> {
    let element = document()?.create_element(tag)?;
    element.set_text_content(Some(text));
    parent.append_child(&element)?;
    Ok(element)
}

/// A term and its description at the end of the list.
pub fn append_fact(list: &Element, term: &str, description: &str) -> Result<(), JsValue> {
    let pair = append(list, "div", "")?;
    append(&pair, "dt", term)?;
    append(&pair, "dd", description).map(drop)
}

pub fn listen(target: &EventTarget, kind: &str, handle: impl Fn(Event) + 'static) -> Result<(), JsValue> {
    let handle = Closure::<dyn Fn(Event)>::new(handle).into_js_value();
    target.add_event_listener_with_callback(kind, handle.unchecked_ref())
}

/// Calls back before the next frame of the screen, with the time in milliseconds.
pub fn next_frame(call: impl FnOnce(f64) + 'static) -> Result<(), JsValue> {
    window()?.request_animation_frame(Closure::once_into_js(call).unchecked_ref()).map(drop)
}

/// Calls back after so many milliseconds; the number cancels it.
pub fn after(milliseconds: i32, call: impl FnOnce() + 'static) -> Result<i32, JsValue> {
    let call = Closure::once_into_js(call);
    window()?.set_timeout_with_callback_and_timeout_and_arguments_0(call.unchecked_ref(), milliseconds)
}
