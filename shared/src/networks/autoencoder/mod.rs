//! Images to latents and back: VQGAN-style encoder and decoder (reference: `Encoder` and `Decoder` in
//! `ldm/modules/diffusionmodules/model.py`) with the quantisation layer inside the decoder (paper, section 3.2), and the
//! fixed maps of the systems that the paper compares with.

mod blocks;
mod decoder;
mod encoder;
mod haar;
mod map;

pub use decoder::Decoder;
pub use encoder::{Encoder, LOG_VARIANCE_RANGE, LatentDistribution};
