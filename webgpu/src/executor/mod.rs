//! Executes recorded networks with WebGPU.
//!
//! A [`lddgan::Graph`] is compiled once: after the passes of [`lddgan::graph`] (what depends on no input is computed, what
//! depends on no image comes first, operations are merged) it becomes dispatches of the kernels in `kernels/` (`lower`), what is
//! concatenated is computed in its place (`parts`), values that are never needed together share a buffer (`memory`), and
//! pipelines, of texts in which what a thread repeats is written out (`unroll`), weights and bind groups are made on the
//! device (`resources`). An [`Executor`] then only writes inputs and replays the dispatches.
//!
//! Which kernel computes a convolution is estimated from its sizes (`conv`) or measured on the device (`tune`); where the
//! time of a run goes is told by `profile`.

/// The text of a file in `kernels/`.
macro_rules! kernel_text {
    ($name:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/", $name, ".wgsl"))
    };
}

mod constants;
mod conv;
mod conv_layer;
mod executable;
mod layout;
mod lower;
mod memory;
mod options;
mod params;
mod parts;
mod profile;
mod program;
mod region;
mod resources;
mod tune;
mod unroll;

pub(crate) use constants::Shared;
pub use conv::{ConvKernel, Strip, Tile};
pub use conv_layer::ConvLayer;
pub use executable::Executor;
pub use layout::Dtype;
pub use options::Options;
pub use profile::{DispatchTime, KernelTime, Work, summarise};
pub use tune::ConvTimes;
