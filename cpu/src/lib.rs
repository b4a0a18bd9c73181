//! Executes recorded networks on CPUs.
//!
//! A [`lddgan::Graph`] is compiled once: what depends on no input is computed and operations are merged (by the passes in
//! [`lddgan::graph`]), weights are packed, an algorithm is chosen for each convolution, and every operation becomes a
//! kernel on blocks of sixteen channels (`kernels`, `program`). An [`Executor`] then only replays the kernels. Convolutions
//! and matrix products are those of [`lddgan_kernels`].

#![warn(missing_docs, clippy::unwrap_used)]

mod compiler;
mod executor;
mod kernels;
mod program;

pub use compiler::Compiler;
pub use executor::Executor;
pub use lddgan_kernels::conv::{Algorithm, ConvLayer};
pub use lddgan_kernels::layout::Shape;
pub use lddgan_kernels::simd::instruction_sets;
pub use pulp::Arch;
