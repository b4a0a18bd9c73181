//! What is known about an adapter from earlier visits, which the browser keeps: the times of its convolution kernels, and
//! what it was seen to compute right.

use std::collections::BTreeSet;

use js_sys::Promise;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbRequest, IdbTransactionMode};

use crate::fetch::folder;
use crate::time::{scope, within};
use lddgan_webgpu::executor::ConvTimes;

const STORE: &str = "times of kernels";

/// What is known about one adapter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Memory {
    #[serde(default)]
    pub times: ConvTimes,
    /// Models, numbers and kernels whose faces were compared and found right, see [`super::FaceMaker::unverified`].
    #[serde(default)]
    pub verified: BTreeSet<String>,
}

/// Milliseconds that a browser may take over its database; some never answer.
const DEADLINE: i32 = 1000;

/// What was kept under this key, if the browser keeps anything.
pub async fn read(key: &str) -> Option<Memory> {
    within(DEADLINE, read_patiently(key)).await?
}

async fn read_patiently(key: &str) -> Option<Memory> {
    let database = open().await.ok()?;
    let json = read_from(&database, key).await;
    database.close();
    serde_json::from_str(&json.ok()?.as_string()?).ok()
}

/// Keeps it under this key, and nothing under others: those were of another driver, or of older kernels.
pub async fn write(key: &str, memory: &Memory) -> Result<(), JsValue> {
    within(DEADLINE, write_patiently(key, memory)).await.ok_or("the database does not answer")?
}

async fn write_patiently(key: &str, memory: &Memory) -> Result<(), JsValue> {
    let json = serde_json::to_string(memory).map_err(|error| JsValue::from(error.to_string()))?;
    let database = open().await?;
    let written = write_to(&database, key, &json).await;
    database.close();
    written
}

async fn read_from(database: &IdbDatabase, key: &str) -> Result<JsValue, JsValue> {
    let store = database.transaction_with_str(STORE)?.object_store(STORE)?;
    result(&store.get(&key.into())?).await
}

async fn write_to(database: &IdbDatabase, key: &str, json: &str) -> Result<(), JsValue> {
    let transaction = database.transaction_with_str_and_mode(STORE, IdbTransactionMode::Readwrite)?;
    let store = transaction.object_store(STORE)?;
    store.clear()?;
    result(&store.put_with_key(&json.into(), &key.into())?).await.map(drop)
}

/// The database of this page; made where there is none.
async fn open() -> Result<IdbDatabase, JsValue> {
    let factory = scope().indexed_db()?.ok_or("the browser has no database")?;
    let request = factory.open(&format!("lddgan {}", folder().ok_or("the page has no address")?))?;
    let opened = request.clone();
    let make = Closure::once_into_js(move || -> Result<(), JsValue> {
        let database: IdbDatabase = opened.result()?.dyn_into()?;
        database.create_object_store(STORE).map(drop)
    });
    request.set_onupgradeneeded(Some(make.unchecked_ref()));
    result(&request).await?.dyn_into()
}

/// Waits for what was asked of the database.
async fn result(request: &IdbRequest) -> Result<JsValue, JsValue> {
    let answered = Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    });
    JsFuture::from(answered).await?;
    request.result()
}
