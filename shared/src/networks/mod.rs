//! The networks of LDDGAN, each written once over [`crate::Backend`].

mod attention;
mod autoencoder;
mod discriminator;
mod generator;
mod patch_discriminator;
mod record;

pub use attention::{AttentionBlock, AttentionStyle};
pub use autoencoder::{Decoder, Encoder, LOG_VARIANCE_RANGE, Posterior};
pub use discriminator::Discriminator;
pub use generator::{Condition, Generator, ResidualBlock};
pub use patch_discriminator::PatchDiscriminator;

/// 1 / sqrt(2): keeps the variance of a sum of two branches.
const SKIP_RESCALE: f32 = std::f32::consts::FRAC_1_SQRT_2;
