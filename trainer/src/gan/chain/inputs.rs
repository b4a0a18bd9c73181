//! What an iteration on a chain is computed from, on the device.

use candle_core::{Device, Tensor};
use lddgan::Result;

use super::augment::Augmentations;
use super::draws::{ChainDraws, PairDraws};
use crate::gan::inputs::{Inputs, steps};

#[derive(Clone)]
pub struct ChainInputs {
    pub real: Tensor,
    pub x: Tensor,
    pub z: Vec<Tensor>,
    pub noise: Vec<Tensor>,
    /// See [`ChainDraws::pairs`].
    pub pairs: [PairInputs; 3],
    /// Of real and generated pictures.
    pub pictures: Option<[Augmentations; 2]>,
    pub shifts: Vec<[i64; 2]>,
}

/// What pairs of an x_0 are drawn with.
#[derive(Clone)]
pub struct PairInputs {
    /// u32
    pub t: Tensor,
    pub noise_t: Tensor,
    pub noise_tp1: Tensor,
}

impl PairInputs {
    fn new(draws: &PairDraws, device: &Device) -> Result<Self> {
        Ok(Self {
            t: steps(&draws.t, device)?,
            noise_t: draws.noise_t.to_device(device)?,
            noise_tp1: draws.noise_tp1.to_device(device)?,
        })
    }
}

impl ChainInputs {
    /// `picture_size` is that of the preset.
    pub fn new(real: &Tensor, draws: &ChainDraws, picture_size: usize) -> Result<Self> {
        let device = real.device();
        let all = |tensors: &[Tensor]| -> Result<Vec<Tensor>> {
            tensors.iter().map(|tensor| Ok(tensor.to_device(device)?)).collect()
        };
        let [of_real, of_fake, of_generator] = &draws.pairs;
        let pair = |draws: &PairDraws| PairInputs::new(draws, device);
        let pictures = |[real, fake]: &[Vec<_>; 2]| -> Result<_> {
            let augmentations = |each: &[_]| Augmentations::new(each, picture_size, device);
            Ok([augmentations(real)?, augmentations(fake)?])
        };
        Ok(Self {
            real: real.clone(),
            x: draws.x.to_device(device)?,
            z: all(&draws.z)?,
            noise: all(&draws.noise)?,
            pairs: [pair(of_real)?, pair(of_fake)?, pair(of_generator)?],
            pictures: draws.pictures.as_ref().map(pictures).transpose()?,
            shifts: draws.shifts.clone(),
        })
    }
}

impl Inputs for ChainInputs {
    fn each_mut(&mut self) -> Vec<&mut Tensor> {
        let Self { real, x, z, noise, pairs, pictures, shifts: _ } = self;
        let pairs = pairs.iter_mut().flat_map(|PairInputs { t, noise_t, noise_tp1 }| [t, noise_t, noise_tp1]);
        let pictures = pictures.iter_mut().flatten().flat_map(Augmentations::each_mut);
        [real, x].into_iter().chain(z).chain(noise).chain(pairs).chain(pictures).collect()
    }

    fn shifts(&self) -> &[[i64; 2]] {
        &self.shifts
    }
}
