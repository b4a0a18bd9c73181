//! Latent Denoising Diffusion GAN (LDDGAN, arXiv 2406.11713): networks, diffusion, noise and model files.
//!
//! Every network is written once, against the [`Backend`] trait: the same wiring runs under Candle (training and
//! reference), is recorded as a [`Graph`] for an [`Executor`], and exported.
//!
//! ```
//! use candle_core::Device;
//! use lddgan::ModelFile;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/models/faces64.safetensors");
//! let model = ModelFile::from_bytes(&std::fs::read(path)?, path)?.model(path, &Device::Cpu)?;
//! let faces = model.sample_seeds(&[7u64, 8], &Device::Cpu)?.image;
//! assert_eq!(faces.dims(), [2, 3, 64, 64]);
//!
//! // The same, as a list of operations for compilers.
//! let graph = model.record(2)?;
//! assert!(graph.outputs.iter().any(|(name, _)| name == "image"));
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs, clippy::unwrap_used)]

pub mod backend;
pub mod check;
pub mod compare;
pub mod config;
pub mod cost;
pub mod diffusion;
pub mod directions;
pub mod error;
pub mod executor;
pub mod forks;
pub mod graph;
pub mod haar;
pub mod hash;
pub mod layers;
pub mod model;
pub mod model_file;
pub mod name;
pub mod networks;
pub mod noise;
mod ops;
pub mod parameters;
pub mod recipe;
mod sampler;
pub mod stage;

pub use backend::{Activation, Backend, CandleBackend, FirMode};
pub use config::{
    AutoencoderConfig, AutoencoderKind, BandOrder, DiffusionConfig, DiscriminatorConfig, FileConfig, GeneratorConfig,
    ModelConfig,
};
pub use cost::Cost;
pub use directions::Directions;
pub use error::{Error, Result};
pub use executor::{Compiler, Executor};
pub use forks::{Fork, Forks};
pub use graph::{Graph, Recorder};
pub use model::{Model, SampleInputs, Trajectory};
pub use model_file::{Direction, ModelFile, Provenance};
pub use name::Name;
pub use networks::{Network, NetworkName};
#[cfg(feature = "cuda")]
pub use ops::cuda::{
    FusedAdam, KeptParameters, MovingAverages, Replay, Slot as AdamSlot, Step as AdamStep, keep_memory,
};
pub use ops::{clamp, depthwise_conv2d, set_tf32};
pub use recipe::{Mix, Recipe, Shifts, Truncation};
pub use sampler::Sampler;
pub use stage::Stage;
