//! The random numbers of a training iteration.

use candle_core::{Device, Tensor};
use lddgan::Result;
use lddgan::noise::Stream;

use super::augment::draw_shift;
use super::chain::{ChainDrawing, ChainDraws};
use crate::noise::normals;

/// The random draws of one half of an iteration, on any device.
pub struct Draws {
    /// One step per sample, 0..T.
    pub t: Vec<u32>,
    /// Noise that takes x_t to x_{t+1}, (N, C, H, W).
    pub noise_tp1: Tensor,
    /// Noise that takes x_0 to x_t.
    pub noise_t: Tensor,
    /// (N, z_dim)
    pub z: Tensor,
    /// Noise of the posterior.
    pub noise_posterior: Tensor,
    /// How far the discriminator sees each pair moved, in rows and columns.
    pub shifts: Vec<[i64; 2]>,
}

/// The draws of an iteration.
pub enum StepDraws {
    /// On single steps: of discriminator and generator.
    Pairs([Draws; 2]),
    /// On a chain.
    Chain(Box<ChainDraws>),
}

/// How draws are made. Apart from the trainer, so that those of the next iteration can be made during the present one.
#[derive(Debug, Clone)]
pub struct Drawing {
    pub seed: u64,
    /// Of the diffusion.
    pub steps: usize,
    pub z_dim: usize,
    /// See the preset's field.
    pub translation: u32,
    /// Of a latent: (C, H, W).
    pub shape: [usize; 3],
    /// Of iterations on chains.
    pub chain: Option<ChainDrawing>,
}

impl Drawing {
    /// The draws of iteration `number` for the training samples numbered `samples`, on the CPU.
    pub fn draw(&self, number: u64, samples: &[u64]) -> Result<StepDraws> {
        Ok(match &self.chain {
            None => StepDraws::Pairs([self.half("d", samples)?, self.half("g", samples)?]),
            Some(chain) => StepDraws::Chain(Box::new(chain.draw(self, number, samples)?)),
        })
    }

    fn half(&self, half: &str, samples: &[u64]) -> Result<Draws> {
        let name = |draw: &str| format!("{half}/{draw}");
        let normal = |draw: &str, shape: &[usize]| normals(self.seed, samples, &name(draw), shape, &Device::Cpu);
        let t = |&sample: &u64| Stream::new(self.seed, sample, &name("t")).below(self.steps as u32);
        let shift = |&sample: &u64| draw_shift(&mut Stream::new(self.seed, sample, &name("shift")), self.translation);
        Ok(Draws {
            t: samples.iter().map(t).collect(),
            noise_tp1: normal("noise_tp1", &self.shape)?,
            noise_t: normal("noise_t", &self.shape)?,
            z: normal("z", &[self.z_dim])?,
            noise_posterior: normal("noise_posterior", &self.shape)?,
            shifts: samples.iter().map(shift).collect(),
        })
    }
}
