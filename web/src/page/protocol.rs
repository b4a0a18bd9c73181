//! What the window and its worker say to each other: an array of JSON and, after a face, its pixels.

use js_sys::{Array, Uint8ClampedArray};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast, JsValue};

use super::settings::ExecutorChoice;

/// From the window to the worker.
#[derive(Serialize, Deserialize)]
pub enum Request {
    /// Download and build a model; the first request, and another one after [`Reply::DownloadFailed`].
    Load { url: String, expected: Option<FileRecord>, executor: ExecutorChoice },
    /// Make the faces of these seeds, instead of what is being made.
    Make { run: u32, seeds: Vec<u64> },
}

/// From the worker to the window.
#[derive(Serialize, Deserialize)]
pub enum Reply {
    /// The worker listens.
    Started,
    Downloading {
        bytes: u64,
        total: Option<u64>,
    },
    /// The connection broke; the download goes on after so many bytes, or begins again.
    Interrupted {
        resumed: Option<u64>,
    },
    /// The model did not come, or not whole.
    DownloadFailed(String),
    /// The model is whole and is being made ready.
    Preparing,
    Ready {
        /// Height and width of a face in pixels.
        image_size: usize,
    },
    /// Whether the browser keeps the model for visits without network.
    Kept(bool),
    /// Which executor runs from now on.
    Executor(ExecutorInfo),
    /// The RGBA pixels, row by row, come beside this.
    Face {
        run: u32,
        index: usize,
    },
    Done {
        run: u32,
        seconds: f64,
    },
    /// The worker cannot go on.
    Failed(String),
}

/// A file of the page, as its build recorded it.
#[derive(Clone, Serialize, Deserialize)]
pub struct FileRecord {
    pub bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

/// An executor, in words for people.
#[derive(Serialize, Deserialize)]
pub struct ExecutorInfo {
    pub name: String,
    /// What the visitor should know about this choice.
    pub note: Option<String>,
}

/// A message as JavaScript passes it on.
pub fn pack(message: &impl Serialize, pixels: Option<&Uint8ClampedArray>) -> Result<Array, JsValue> {
    let json = serde_json::to_string(message).map_err(|error| JsValue::from(error.to_string()))?;
    let array = Array::of1(&json.into());
    if let Some(pixels) = pixels {
        array.push(pixels);
    }
    Ok(array)
}

/// Reads what [`pack`] packed.
pub fn unpack<T: DeserializeOwned>(message: JsValue) -> Result<(T, Option<Uint8ClampedArray>), String> {
    let array: Array = message.dyn_into().map_err(|_| "a message that is no array")?;
    let json = array.get(0).as_string().unwrap_or_default();
    let message = serde_json::from_str(&json).map_err(|error| format!("a message that cannot be read: {error}"))?;
    Ok((message, array.get(1).dyn_into().ok()))
}
