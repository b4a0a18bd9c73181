//! Time, in a worker and in a window alike.

use js_sys::Promise;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::WorkerGlobalScope;

/// The worker, or the window: both have what is used of it here.
pub fn scope() -> WorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Milliseconds on a clock that only goes forward.
pub fn now() -> f64 {
    scope().performance().map_or_else(js_sys::Date::now, |performance| performance.now())
}

/// Lets the browser do other things; at least those that wait already.
pub async fn pause(milliseconds: i32) {
    let timeout = Promise::new(&mut |resolve, _| {
        let made = scope().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds);
        // A pause that cannot be made is none.
        if made.is_err() {
            drop(resolve.call0(&JsValue::NULL));
        }
    });
    drop(JsFuture::from(timeout).await);
}
