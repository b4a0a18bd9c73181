//! Training generator and discriminator in the latent space.

mod augment;
mod chain;
mod draws;
mod encode;
mod gaussian;
mod inputs;
mod latent_cache;
mod latents;
mod losses;
mod numbers;
mod passes;
#[cfg(feature = "cuda")]
mod recordings;
mod rounded;
mod snapshot;
mod step;
mod train;

pub use chain::{LinearPicture, PictureJudge};
pub use draws::{Drawing, Draws, StepDraws};
pub use encode::{EncodeOptions, encode};
pub use gaussian::Moments;
pub use latent_cache::{Cache, encoded};
pub use latents::{Encoded, Latents};
pub use losses::{Losses, gradient_penalty, reconstruction_weight, softplus_mean};
pub use step::{Setup, Step, Trainer};
pub use train::{Options, train};
