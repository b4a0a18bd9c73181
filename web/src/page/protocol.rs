//! What the window and its worker say to each other: an array of JSON and, where something comes beside it, its bytes.

use js_sys::{Array, ArrayBuffer, Uint8Array};
use lddgan::check::Report;
use lddgan::{FileConfig, Provenance, Recipe};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast, JsValue};

use crate::choices::ExecutorChoice;
use crate::faces::{ExecutorInfo, Speed};
use crate::fetch::FileRecord;
use lddgan_webgpu::executor::Dtype;

/// From the window to the worker. A request that waits is replaced by the next of its kind.
#[derive(Serialize, Deserialize)]
pub enum Request {
    /// Build a model; the first request.
    Load { source: Source, executor: ExecutorChoice, tune: Option<bool> },
    /// Make faces.
    Make(Order),
    /// Show how a face came about.
    Develop { run: u32, recipe: Box<Recipe>, steps: usize, dtype: Dtype },
    /// Compare what the executors of this device make with golden tensors.
    Check { url: String, expected: Option<FileRecord> },
    /// Write an animated PNG of the frames whose RGBA pixels come beside this, one after the other.
    Encode {
        file: String,
        size: usize,
        /// How long each frame is shown.
        milliseconds: u16,
        /// Keywords and texts of the metadata.
        texts: Vec<(String, String)>,
    },
}

/// Where a model comes from.
#[derive(Serialize, Deserialize)]
pub enum Source {
    Url {
        url: String,
        expected: Option<FileRecord>,
        /// The golden tensors beside it, where the build recorded them.
        golden: Option<(String, FileRecord)>,
    },
    /// A file of the visitor's, by its name; its bytes come beside the request.
    File(String),
}

/// Faces to make. A newer order for the same place replaces an older one.
#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    pub place: Place,
    pub run: u32,
    pub recipes: Vec<Recipe>,
    /// Denoising steps; the model may have fewer.
    pub steps: usize,
    /// The numbers of the images between the kernels, where the GPU has them.
    pub dtype: Dtype,
}

/// Where faces are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The whole grid.
    Grid,
    /// Single faces of the grid, or all of them in motion.
    Live,
    /// The way between two faces.
    Between,
    /// The faces into which one forks.
    Tree,
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
    /// Nothing of the model comes any more; the server is asked again.
    Stalled,
    /// The connection broke; the download goes on after so many bytes, or begins again.
    Interrupted {
        resumed: Option<u64>,
    },
    /// The model did not come, or not whole.
    DownloadFailed(String),
    /// The model is whole and is being made ready.
    Preparing,
    Ready(Box<ModelInfo>),
    /// The model cannot be used; the one before it, if any, still can.
    NotLoaded(String),
    /// Whether the browser keeps the model for visits without network.
    Kept(bool),
    /// Which executor runs from now on.
    Executor(ExecutorInfo),
    /// The RGBA pixels, row by row, come beside this.
    Face {
        place: Place,
        run: u32,
        index: usize,
    },
    /// Faces that were drawn, so many in a row; the picture comes beside this.
    Faces {
        place: Place,
        run: u32,
        /// The index of the first of them.
        first: usize,
        count: usize,
        columns: usize,
    },
    Done {
        place: Place,
        run: u32,
        seconds: f64,
    },
    /// What the decoder makes of the latents from x_T to x_0; their RGBA pixels come beside this, one after the other.
    Developed {
        run: u32,
    },
    /// How long things took lately.
    Speed(Speed),
    /// What a check found with one executor; `last` if no other follows.
    Checked {
        report: Report,
        last: bool,
    },
    /// There can be no check.
    NotChecked(String),
    /// What WebGPU made was wrong, so that faces are made in another way from now on: those that are shown must be made
    /// again.
    MadeWrong,
    /// The file that was to be written; its bytes come beside this.
    Encoded {
        file: String,
    },
    /// The worker has no model any more.
    Failed(String),
    /// The program in the worker stopped with this error, which JavaScript tells in its place.
    Stopped(String),
}

/// What the page tells about a model.
#[derive(Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name in the file.
    pub name: String,
    /// Bytes of the file.
    pub bytes: usize,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Height and width of a face in pixels.
    pub image_size: usize,
    /// The denoising steps that it was trained for.
    pub steps: usize,
    /// Along how many directions its faces can be moved.
    pub directions: usize,
    pub config: FileConfig,
    pub provenance: Provenance,
}

/// A message as JavaScript passes it on, and what is to be transferred with it.
pub fn pack(message: &impl Serialize, attachment: Option<&JsValue>) -> Result<(Array, Array), JsValue> {
    let json = serde_json::to_string(message).map_err(|error| JsValue::from(error.to_string()))?;
    let (array, transfer) = (Array::of1(&json.into()), Array::new());
    if let Some(attachment) = attachment {
        array.push(attachment);
        transfer.push(attachment);
    }
    Ok((array, transfer))
}

/// Reads what [`pack`] packed.
pub fn unpack<T: DeserializeOwned>(message: JsValue) -> Result<(T, JsValue), String> {
    let array: Array = message.dyn_into().map_err(|_| "a message that is not an array")?;
    let json = array.get(0).as_string().unwrap_or_default();
    let message = serde_json::from_str(&json).map_err(|error| format!("a message that cannot be read: {error}"))?;
    Ok((message, array.get(1)))
}

/// The bytes that came beside a message; none if something else did.
pub fn bytes(attachment: &JsValue) -> Vec<u8> {
    let buffer = attachment.dyn_ref::<ArrayBuffer>();
    buffer.map_or(Vec::new(), |buffer| Uint8Array::new(buffer).to_vec())
}
