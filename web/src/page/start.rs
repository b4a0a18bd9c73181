//! Where the program starts, in the page and in its worker.

use wasm_bindgen::prelude::*;
use web_sys::DedicatedWorkerGlobalScope;

use super::{window, worker};

/// Runs the page, or its worker, once the browser has loaded the program.
#[wasm_bindgen]
pub fn start() -> Result<(), JsValue> {
    match js_sys::global().dyn_into::<DedicatedWorkerGlobalScope>() {
        Ok(scope) => worker::start(scope),
        Err(_) => window::start(),
    }
}
