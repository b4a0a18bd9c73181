//! What numbers a training run computes with.

use candle_core::{DType, Tensor};

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
    /// Takes effect for the whole process.
    pub fn set(self) {
        lddgan::set_tf32(self == Self::Tf32);
    }

    /// A network's input in this precision.
    pub fn of(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::F32 | Self::Tf32 => Ok(x.clone()),
            Self::Bf16 => x.to_dtype(DType::BF16),
        }
    }
}
