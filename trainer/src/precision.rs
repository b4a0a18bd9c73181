//! What numbers Candle computes with.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use lddgan::backend::CandleBackend;
use lddgan::check::LATENT_TOLERANCE;
use lddgan::model::SampleInputs;
use lddgan::{Model, Trajectory};

use crate::backend::BackendName;

/// The type of feature maps and of the arithmetic on them. Parameters, their averages, optimiser moments and losses are
/// always f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    #[default]
    F32,
    /// f32 whose convolutions and matrix products round their factors to 10 bits of mantissa; CUDA only
    Tf32,
    /// bfloat16 feature maps; slow on the CPU
    Bf16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

impl Precision {
    /// Takes effect for the whole process, which computes with this backend.
    pub fn set(self, backend: BackendName) -> Result<()> {
        ensure!(
            self != Self::Tf32 || backend == BackendName::Cuda,
            "only CUDA devices have TF32: choose the precision `f32`"
        );
        lddgan::set_tf32(self == Self::Tf32);
        Ok(())
    }

    /// As [`Self::set`], to sample with this backend: executors other than Candle know f32 alone.
    pub fn set_to_sample(self, backend: BackendName) -> Result<()> {
        ensure!(
            self == Self::F32 || matches!(backend, BackendName::Candle | BackendName::Cuda),
            "`--precision {self}` needs `--backend cuda` or `candle`"
        );
        self.set(backend)
    }

    /// What latents may differ by from those of f32; images alone judge numbers of fewer bits.
    pub fn latent_tolerance(self) -> f64 {
        match self {
            Self::F32 => LATENT_TOLERANCE,
            Self::Tf32 | Self::Bf16 => f64::MAX,
        }
    }

    /// All that comes about on the way from these inputs to images, f32. Feature maps and latents have this precision on
    /// the way.
    pub fn sample(self, model: &Model, mut inputs: SampleInputs<Tensor>) -> lddgan::Result<Trajectory<Tensor>> {
        for latent in std::iter::once(&mut inputs.x).chain(&mut inputs.noise) {
            *latent = self.of(latent)?;
        }
        let mut trajectory = model.sample(&mut CandleBackend, &inputs)?;
        for tensor in trajectory.latents.iter_mut().chain([&mut trajectory.image]) {
            *tensor = tensor.to_dtype(DType::F32)?;
        }
        Ok(trajectory)
    }

    /// A network's input in this precision.
    pub fn of(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::F32 | Self::Tf32 => Ok(x.clone()),
            Self::Bf16 => x.to_dtype(DType::BF16),
        }
    }
}
