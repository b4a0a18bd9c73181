//! Noise of training: it belongs to the samples, not to the batches or processes that these are in.

use candle_core::{Device, Tensor};
use lddgan::Result;
use lddgan::noise::Stream;
use rayon::prelude::*;

/// The standard normal values that `draw` is for each of the training samples numbered `samples`, (N, `shape`).
pub fn normals(seed: u64, samples: &[u64], draw: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
    let count = shape.iter().product();
    let of_sample = |&sample: &u64| Stream::new(seed, sample, draw).normals(count);
    let values: Vec<f32> = samples.par_iter().flat_map_iter(of_sample).collect();
    Ok(Tensor::from_vec(values, [&[samples.len()], shape].concat(), device)?)
}
