//! The page's program, and the package for other pages: one WebAssembly module.

#![warn(clippy::unwrap_used)]

#[cfg(all(target_arch = "wasm32", feature = "bench"))]
mod bench;
#[cfg(target_arch = "wasm32")]
mod library;
mod page;
