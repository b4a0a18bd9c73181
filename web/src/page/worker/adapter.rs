//! The name of the browser's GPU.

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// What the browser tells about its fastest adapter, such as "nvidia ampere": most browsers hide the product's name,
/// which is all that wgpu passes on.
pub async fn name() -> Option<String> {
    let info = info().await.ok()?;
    let text = |key: &str| Reflect::get(&info, &key.into()).ok()?.as_string().filter(|text| !text.is_empty());
    let parts: Vec<String> = ["vendor", "architecture"].into_iter().filter_map(text).collect();
    text("description").or_else(|| (!parts.is_empty()).then(|| parts.join(" ")))
}

/// `(await navigator.gpu.requestAdapter({ powerPreference: "high-performance" })).info`
async fn info() -> Result<JsValue, JsValue> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into())?;
    let gpu = Reflect::get(&navigator, &"gpu".into())?;
    let request: Function = Reflect::get(&gpu, &"requestAdapter".into())?.dyn_into()?;
    let options = js_sys::Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into())?;
    let adapter: Promise = request.call1(&gpu, &options)?.dyn_into()?;
    Reflect::get(&JsFuture::from(adapter).await?, &"info".into())
}
