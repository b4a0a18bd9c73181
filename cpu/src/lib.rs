//! Executes recorded networks on CPUs.
pub mod conv;
mod error;
pub mod layout;
mod product;
mod simd;
pub mod workers;
pub use error::{Error, Result};
