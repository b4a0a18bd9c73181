//! Latent Denoising Diffusion GAN (LDDGAN, arXiv 2406.11713): networks, diffusion, noise and model files.
//!
//! Every network is written once, against the [`Backend`] trait: the same wiring runs under Candle (training and
//! reference), is recorded as a [`Graph`] for WebGPU, and exported.

#![warn(missing_docs, clippy::unwrap_used)]

pub mod backend;
pub mod check;
pub mod config;
pub mod cost;
pub mod diffusion;
pub mod error;
pub mod graph;
pub mod haar;
pub mod hash;
pub mod layers;
pub mod model_file;
pub mod networks;
pub mod noise;
mod ops;
pub mod parameters;
pub mod recipe;
pub mod sampler;

pub use backend::{Activation, Backend, CandleBackend, FirMode};
pub use config::{
    AutoencoderConfig, AutoencoderKind, BandOrder, DiffusionConfig, DiscriminatorConfig, GeneratorConfig, ModelConfig,
};
pub use error::{Error, Result};
pub use graph::{Graph, Recorder};
pub use model_file::{Direction, ModelFile, Provenance};
#[cfg(feature = "cuda")]
pub use ops::cuda::{
    FusedAdam, KeptParameters, MovingAverages, Replay, Slot as AdamSlot, Step as AdamStep, keep_memory,
};
pub use ops::{clamp, depthwise_conv2d, set_tf32};
pub use recipe::{Mix, Recipe, Shifts, Truncation};
pub use sampler::{Model, SampleInputs, Trajectory};
