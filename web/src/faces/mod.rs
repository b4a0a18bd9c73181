//! Faces in a browser: WebGPU makes them, or the CPU where there is none.

mod adapter;
mod cpu;
mod face_maker;
mod memory;
mod pixels;
mod report;
mod screen;
mod webgpu;

use lddgan_webgpu::executor::Dtype;
use serde::{Deserialize, Serialize};

pub use face_maker::{CPU, FaceMaker};
pub use report::{empty, fill};
pub use screen::COLUMNS;

/// An executor, in words for people.
#[derive(Serialize, Deserialize)]
pub struct ExecutorInfo {
    pub name: String,
    /// What the visitor should know about this choice.
    pub note: Option<String>,
    /// Whether it can keep images in f16.
    pub f16: bool,
}

/// Times in milliseconds and sizes in bytes, each where it is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Of the model file.
    pub download: Option<f64>,
    /// Reading and verifying it.
    pub read: f64,
    /// Compiling for batches of this size: dispatches and pipelines.
    pub compile: Option<f64>,
    /// Buffers and weights for them.
    pub upload: Option<f64>,
    /// The last batch: noise, sampling, decoding and drawing or reading back.
    pub sampling: f64,
    /// Decoding one face.
    pub decode: Option<f64>,
    /// Faces in the last batch.
    pub batch: usize,
    /// Whether these were drawn without a way through the CPU.
    pub drawn: bool,
    /// The numbers of the images between layers.
    pub dtype: Dtype,
    /// For how many different convolutions the kernels were timed, and how many there are.
    pub kernels: Option<[usize; 2]>,
    /// Of the weights and of the values between kernels, on the GPU.
    pub memory: Option<[u64; 2]>,
}
