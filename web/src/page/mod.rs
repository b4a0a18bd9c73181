//! The page: a window that shows, and a worker that makes the faces. One program runs in both.

#[cfg(any(target_arch = "wasm32", test))]
mod picture;
#[cfg(any(target_arch = "wasm32", test))]
mod settings;

#[cfg(target_arch = "wasm32")]
mod noise;
#[cfg(target_arch = "wasm32")]
mod protocol;
#[cfg(target_arch = "wasm32")]
mod window;
#[cfg(target_arch = "wasm32")]
mod worker;

#[cfg(target_arch = "wasm32")]
mod start;
