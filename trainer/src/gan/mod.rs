//! Training generator and discriminator in the latent space.

mod latents;
mod step;
mod train;

pub use step::{Draws, Losses, Step, Trainer, reconstruction_weight};
pub use train::{Options, train};
