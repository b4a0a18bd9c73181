//! Executes recorded networks on CPUs.
//!
//! A [`lddgan::Graph`] is compiled once: what depends on no input is computed and operations are merged (by the passes in
//! [`lddgan::graph`]), weights are packed, an algorithm is chosen for each convolution (`conv`), and every operation
//! becomes a kernel on blocks of sixteen channels (`layout`, `kernels`, `program`). An [`Executor`] then only replays
//! the kernels. They are written once, for vectors of any width (`simd`): AVX-512, AVX2 or NEON as the machine has it,
//! and what a WebAssembly module was built for. Most of the time goes into matrix products (`product`), which the
//! machine's cores share (`workers`).

#![warn(missing_docs, clippy::unwrap_used)]

mod compiler;
mod conv;
mod error;
mod executor;
mod kernels;
mod layout;
mod product;
mod program;
mod simd;
mod workers;

pub use compiler::Compiler;
pub use conv::{Algorithm, ConvLayer};
pub use error::{Error, Result};
pub use executor::Executor;
pub use layout::Shape;
pub use pulp::Arch;
pub use simd::instruction_sets;
