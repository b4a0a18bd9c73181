//! Time, in a worker and in a window alike.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

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

/// What the future gives, if it does within so many milliseconds; a later answer changes nothing.
pub async fn within<T>(milliseconds: i32, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(pause(milliseconds)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => end.as_mut().poll(context).map(|()| None),
    })
    .await
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
