//! The networks of LDDGAN, each written once over [`crate::Backend`].

mod attention;
mod autoencoder;
mod discriminator;
mod gaussian;
mod generator;
mod network;
mod patch_discriminator;
mod residual;
mod wavelet;

pub use attention::{AttentionBlock, AttentionStyle};
pub use autoencoder::{Decoder, Encoder, LOG_VARIANCE_RANGE, LatentDistribution};
pub use discriminator::Discriminator;
pub use gaussian::Gaussian;
pub use generator::Generator;
pub use network::{Dimension, Input, Network, NetworkName};
pub use patch_discriminator::PatchDiscriminator;
pub use residual::{Condition, ResidualBlock};
pub use wavelet::{FineBands, WaveletDown, WaveletPyramid, WaveletUp};

use std::collections::BTreeMap;

/// What a network takes that depends on the steps t of the samples alone, by name, each (N, …): `time`, the sinusoids of the
/// steps, and what a [`Gaussian`] needs.
pub type StepInputs<V> = BTreeMap<String, V>;

/// 1 / sqrt(2): keeps the variance of a sum of two branches.
const SKIP_RESCALE: f32 = std::f32::consts::FRAC_1_SQRT_2;
