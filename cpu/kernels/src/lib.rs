//! Matrix products and convolutions on CPUs.
//!
//! They are written once, for vectors of any width ([`simd`]): AVX-512, AVX2 or NEON as the machine has it, and what a
//! WebAssembly module was built for. Images lie in blocks of sixteen channels ([`layout`]). Most of the time goes into matrix
//! products ([`product`]), which the machine's cores share ([`workers`]); [`conv`] makes convolutions of them.

#![warn(missing_docs, clippy::unwrap_used)]

mod activation;
pub mod conv;
mod geometry;
pub mod layout;
pub mod product;
pub mod simd;
pub mod workers;

pub use activation::{Activation, LEAKY_SLOPE};
pub use geometry::ConvGeometry;
