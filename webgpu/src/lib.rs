//! LDDGAN on WebGPU: compiles recorded networks to compute shaders and runs them, native and in a browser.

#![warn(missing_docs, clippy::unwrap_used)]

pub mod ceilings;
mod compiler;
mod error;
pub mod executor;
mod gpu;
mod painter;
mod timestamps;

pub use compiler::{Compiler, Recovery};
pub use error::{Error, Result};
pub use executor::Executor;
pub use gpu::Gpu;
pub use painter::Painter;
