//! The browser's GPU, which is asked for in one place, again where that may help, and not for ever.

use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::time::{pause, within};
use lddgan_webgpu::{Error, Gpu, Result};

/// Milliseconds for adapter and device together.
const DEADLINE: i32 = 10_000;
/// Milliseconds before each attempt: a browser that is just starting may have no adapter yet.
const ATTEMPTS: [i32; 3] = [0, 100, 1000];

/// A device, and who made it.
pub struct Adapter {
    pub gpu: Gpu,
    /// For people, such as "nvidia ampere": most browsers hide the product's name, which is all that wgpu passes on.
    pub name: String,
    /// Everything that the browser tells, to know the adapter again by.
    pub identity: String,
}

/// Opens the fastest adapter.
pub async fn open() -> Result<Adapter> {
    within(DEADLINE, open_patiently()).await.unwrap_or_else(|| {
        let reason = format!("the browser did not open its GPU within {} seconds", DEADLINE / 1000);
        Err(Error::NoAdapter(reason))
    })
}

async fn open_patiently() -> Result<Adapter> {
    let mut info = JsValue::NULL;
    for milliseconds in ATTEMPTS {
        pause(milliseconds).await;
        info = request().await.map_err(|_| Error::NoAdapter(unavailable()))?;
        if !info.is_null() {
            break;
        }
    }
    if info.is_null() {
        return Err(Error::NoAdapter("this browser finds no GPU for WebGPU".to_owned()));
    }
    let gpu = Gpu::new().await?;
    let text = |key: &str| Reflect::get(&info, &key.into()).ok()?.as_string().filter(|text| !text.is_empty());
    let join = |keys: &[&str], by: &str| keys.iter().copied().filter_map(text).collect::<Vec<_>>().join(by);
    let known = join(&["vendor", "architecture"], " ");
    let name = text("description").or(Some(known).filter(|known| !known.is_empty()));
    let name = name.unwrap_or_else(|| gpu.name().to_owned());
    let identity = format!("{}; {}", join(&["vendor", "architecture", "device", "description"], ", "), gpu.identity());
    Ok(Adapter { gpu, name, identity })
}

/// `(await navigator.gpu.requestAdapter({ powerPreference: "high-performance" }))?.info`, or null.
async fn request() -> std::result::Result<JsValue, JsValue> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into())?;
    let gpu = Reflect::get(&navigator, &"gpu".into())?;
    let request: Function = Reflect::get(&gpu, &"requestAdapter".into())?.dyn_into()?;
    let options = js_sys::Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into())?;
    let adapter: Promise = request.call1(&gpu, &options)?.dyn_into()?;
    match JsFuture::from(adapter).await? {
        adapter if adapter.is_null() => Ok(adapter),
        adapter => Reflect::get(&adapter, &"info".into()),
    }
}

/// Why there is no WebGPU to ask.
fn unavailable() -> String {
    // Outside of browsers nothing is said about it.
    let is_secure = Reflect::get(&js_sys::global(), &"isSecureContext".into());
    match is_secure.is_ok_and(|is_secure| is_secure == JsValue::FALSE) {
        false => "there is no WebGPU here".to_owned(),
        true => {
            "browsers offer WebGPU only to secure pages: open this one over https, from localhost, or as the single file"
                .to_owned()
        }
    }
}
