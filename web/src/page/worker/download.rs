//! Downloads with progress.

use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStreamDefaultReader, Response, WorkerGlobalScope};

use crate::page::describe;

/// Fetches a file, named `file` in errors. `progress` is told the bytes that have come, and of how many where the
/// server says so.
pub async fn download(
    scope: &WorkerGlobalScope,
    url: &str,
    file: &str,
    progress: impl Fn(u64, Option<u64>),
) -> Result<Vec<u8>, String> {
    let failed =
        |error| format!("{file} could not be downloaded: {}. Check the connection and reload.", describe(error));
    let response = JsFuture::from(scope.fetch_with_str(url)).await.map_err(failed)?;
    let response: Response = response.unchecked_into();
    if !response.ok() {
        let (status, text) = (response.status(), response.status_text());
        return Err(format!("{file} could not be downloaded: the server answered {status} {text}."));
    }
    let total = length(&response);
    let body = response.body().ok_or_else(|| format!("{file} could not be downloaded: the answer is empty."))?;
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let mut bytes = Vec::new();
    progress(0, total);
    while let Some(chunk) = next_chunk(&reader).await.map_err(failed)? {
        let start = bytes.len();
        bytes.resize(start + chunk.length() as usize, 0);
        chunk.copy_to(&mut bytes[start..]);
        progress(bytes.len() as u64, total);
    }
    Ok(bytes)
}

/// The bytes to come, if the server says so; the length of a compressed answer is not that of the file.
fn length(response: &Response) -> Option<u64> {
    let header = |name| response.headers().get(name).ok().flatten();
    if header("content-encoding").is_some() {
        return None;
    }
    header("content-length")?.parse().ok()
}

async fn next_chunk(reader: &ReadableStreamDefaultReader) -> Result<Option<Uint8Array>, JsValue> {
    let result = JsFuture::from(reader.read()).await?;
    if Reflect::get(&result, &"done".into())?.is_truthy() {
        return Ok(None);
    }
    Reflect::get(&result, &"value".into())?.dyn_into().map(Some)
}
