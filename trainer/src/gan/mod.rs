//! Training generator and discriminator in the latent space.

mod augment;
mod latent_cache;
mod latents;
mod step;
mod train;

pub use step::{Draws, Losses, Step, Trainer, gradient_penalty, reconstruction_weight, softplus_mean};
pub use train::{Options, train};
