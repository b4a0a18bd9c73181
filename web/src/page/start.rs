//! Where the program starts, in the page and in its worker.

use wasm_bindgen::prelude::*;
use web_sys::{DedicatedWorkerGlobalScope, Worker};

use super::{window, worker};

#[wasm_bindgen]
extern "C" {
    /// Starts this program again in a worker, without a second download.
    #[wasm_bindgen(catch, js_name = startWorker)]
    pub fn start_worker(module: JsValue) -> Result<Worker, JsValue>;
}

/// Runs the page, or its worker, once the browser has loaded the program.
#[wasm_bindgen]
pub fn start() -> Result<(), JsValue> {
    match js_sys::global().dyn_into::<DedicatedWorkerGlobalScope>() {
        Ok(scope) => worker::start(scope),
        Err(_) => window::start(),
    }
}
