//! The page: a window that shows, and a worker that makes the faces. One program runs in both.

#[cfg(any(target_arch = "wasm32", test))]
mod settings;

#[cfg(target_arch = "wasm32")]
mod protocol;
#[cfg(target_arch = "wasm32")]
mod window;
#[cfg(target_arch = "wasm32")]
mod worker;

#[cfg(target_arch = "wasm32")]
mod start {
    use wasm_bindgen::prelude::*;
    use web_sys::DedicatedWorkerGlobalScope;

    /// Runs when the browser has loaded the program, in the page or in its worker.
    #[wasm_bindgen(start)]
    pub fn start() -> Result<(), JsValue> {
        match js_sys::global().dyn_into::<DedicatedWorkerGlobalScope>() {
            Ok(scope) => super::worker::start(scope),
            Err(_) => super::window::start(),
        }
    }
}
