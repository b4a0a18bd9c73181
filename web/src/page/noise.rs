//! The noise of this browser, for the check that it is that of every other platform.

use lddgan::noise::Stream;
use wasm_bindgen::prelude::wasm_bindgen;

/// The first `count` standard normal values of a draw, see [`Stream`].
#[wasm_bindgen]
pub fn noise(seed: u64, index: u64, draw: &str, count: usize) -> Vec<f32> {
    Stream::new(seed, index, draw).normals(count)
}
