//! Model files that the browser keeps for this page, each under its hash: for visits without network, and to save a
//! second download. The service worker forgets those that a new version of the page does not name.

use js_sys::{Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Cache, Response, Url};

use super::FileRecord;
use crate::time::{scope, within};

/// Milliseconds that a browser may take over what it keeps; after that, the network is asked.
const DEADLINE: i32 = 5000;

/// The place of one file.
pub struct ModelCache {
    cache: Cache,
    key: String,
    expected: FileRecord,
}

impl ModelCache {
    /// None where the browser keeps nothing: in some private windows, or for a page that came without TLS.
    pub async fn open(url: &str, expected: &FileRecord) -> Option<Self> {
        let scope = scope();
        if Reflect::get(&scope, &"caches".into()).ok()?.is_undefined() {
            return None;
        }
        let cache = scope.caches().ok()?.open(&format!("lddgan {} models", folder()?));
        let cache = within(DEADLINE, JsFuture::from(cache)).await?.ok()?.unchecked_into();
        Some(Self { cache, key: format!("{url}?sha256={}", expected.sha256), expected: expected.clone() })
    }

    /// The file, if it is kept and whole.
    pub async fn read(&self) -> Option<Vec<u8>> {
        let response = within(DEADLINE, JsFuture::from(self.cache.match_with_str(&self.key))).await?.ok()?;
        let response: Response = response.dyn_into().ok()?;
        let bytes = within(DEADLINE, JsFuture::from(response.array_buffer().ok()?)).await?.ok()?;
        let bytes = Uint8Array::new(&bytes).to_vec();
        self.expected.fits(&bytes).then_some(bytes)
    }

    /// Keeps the file; the promise is broken if the browser has no room for it.
    pub fn write(&self, bytes: &[u8]) -> Result<Promise, JsValue> {
        let response = Response::new_with_opt_js_u8_array(Some(&Uint8Array::from(bytes)))?;
        Ok(self.cache.put_with_str(&self.key, &response))
    }
}

/// The folder of the page, which tells what it keeps from what others on the same host do.
pub fn folder() -> Option<String> {
    Some(Url::new_with_base("./", &scope().location().href()).ok()?.href())
}
