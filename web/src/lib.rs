//! LDDGAN on WebGPU: an executor for recorded networks, native and wasm32, and the page's program.

#[cfg(all(target_arch = "wasm32", feature = "bench"))]
mod bench;
pub mod ceilings;
mod clock;
mod error;
pub mod executor;
mod gpu;
#[cfg(target_arch = "wasm32")]
mod library;
mod page;
mod painter;
mod sampler;
mod timestamps;

pub use error::{Error, Result};
pub use executor::Executor;
pub use gpu::Gpu;
pub use painter::Painter;
pub use sampler::{GpuSampler, Recovery};
