//! What half an iteration is computed from.

use candle_core::Tensor;
use lddgan::Result;

use super::draws::Draws;

/// What a half is computed from.
pub struct Inputs {
    pub real: Tensor,
    /// The steps of the samples, u32.
    pub t: Tensor,
    pub noise_tp1: Tensor,
    pub noise_t: Tensor,
    pub z: Tensor,
    pub noise_posterior: Tensor,
    /// One number.
    pub reconstruction_weight: Tensor,
    pub shifts: Vec<[i64; 2]>,
}

impl Inputs {
    pub fn new(real: &Tensor, draws: &Draws, reconstruction_weight: f64) -> Result<Self> {
        let device = real.device();
        Ok(Self {
            real: real.clone(),
            t: Tensor::new(draws.t.as_slice(), device)?,
            noise_tp1: draws.noise_tp1.to_device(device)?,
            noise_t: draws.noise_t.to_device(device)?,
            z: draws.z.to_device(device)?,
            noise_posterior: draws.noise_posterior.to_device(device)?,
            reconstruction_weight: Tensor::new(&[reconstruction_weight as f32], device)?,
            shifts: draws.shifts.clone(),
        })
    }
}

#[cfg(feature = "cuda")]
impl Inputs {
    pub fn tensors(&self) -> [Tensor; 7] {
        let Self { real, t, noise_tp1, noise_t, z, noise_posterior, reconstruction_weight, .. } = self;
        [real, t, noise_tp1, noise_t, z, noise_posterior, reconstruction_weight].map(Tensor::clone)
    }

    /// The reverse of [`Self::tensors`].
    pub fn of(tensors: &[Tensor; 7], shifts: Vec<[i64; 2]>) -> Self {
        let [real, t, noise_tp1, noise_t, z, noise_posterior, reconstruction_weight] = tensors.clone();
        Self { real, t, noise_tp1, noise_t, z, noise_posterior, reconstruction_weight, shifts }
    }
}
