//! The page's program, and the package for other pages: one WebAssembly module.

#![warn(clippy::unwrap_used)]

#[cfg(all(target_arch = "wasm32", feature = "bench"))]
mod bench;
#[cfg(any(target_arch = "wasm32", test))]
mod choices;
#[cfg(target_arch = "wasm32")]
mod faces;
#[cfg(target_arch = "wasm32")]
mod fetch;
#[cfg(target_arch = "wasm32")]
mod format;
#[cfg(target_arch = "wasm32")]
mod library;
mod page;
#[cfg(target_arch = "wasm32")]
mod time;
