//! What a pass of an iteration is computed from, on the device.

use candle_core::{Device, Tensor};
use lddgan::Result;

use super::draws::Draws;

/// Inputs whose tensors a recording can be run again with.
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "recordings are made on GPUs alone"))]
pub trait Inputs: Clone {
    /// All tensors, in an order that stays.
    fn each_mut(&mut self) -> Vec<&mut Tensor>;

    /// How far the discriminator sees each pair moved: numbers of the host.
    fn shifts(&self) -> &[[i64; 2]];

    /// See [`Self::each_mut`].
    fn tensors(&self) -> Vec<Tensor> {
        self.clone().each_mut().into_iter().map(|tensor| tensor.clone()).collect()
    }

    /// The same with other tensors, the reverse of [`Self::tensors`].
    fn with(&self, tensors: &[Tensor]) -> Self {
        let mut inputs = self.clone();
        for (place, tensor) in inputs.each_mut().into_iter().zip(tensors) {
            *place = tensor.clone();
        }
        inputs
    }
}

/// What half an iteration on single steps is computed from.
#[derive(Clone)]
pub struct HalfInputs {
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

impl HalfInputs {
    pub fn new(real: &Tensor, draws: &Draws, reconstruction_weight: f64) -> Result<Self> {
        let device = real.device();
        Ok(Self {
            real: real.clone(),
            t: steps(&draws.t, device)?,
            noise_tp1: draws.noise_tp1.to_device(device)?,
            noise_t: draws.noise_t.to_device(device)?,
            z: draws.z.to_device(device)?,
            noise_posterior: draws.noise_posterior.to_device(device)?,
            reconstruction_weight: Tensor::new(&[reconstruction_weight as f32], device)?,
            shifts: draws.shifts.clone(),
        })
    }
}

impl Inputs for HalfInputs {
    fn each_mut(&mut self) -> Vec<&mut Tensor> {
        let Self { real, t, noise_tp1, noise_t, z, noise_posterior, reconstruction_weight, shifts: _ } = self;
        vec![real, t, noise_tp1, noise_t, z, noise_posterior, reconstruction_weight]
    }

    fn shifts(&self) -> &[[i64; 2]] {
        &self.shifts
    }
}

/// The steps of samples as a tensor, u32.
pub fn steps(t: &[u32], device: &Device) -> Result<Tensor> {
    Ok(Tensor::new(t, device)?)
}
