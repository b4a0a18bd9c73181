//! Training and trying out the autoencoder.

pub mod backbone;
mod codebook;
mod kmeans;
mod lattice;
mod pca;
mod projected;
mod samples;
mod step;
mod structure;
mod train;

use candle_core::Tensor;
use lddgan::Backend;
use lddgan::networks::{Decoder, Encoder};

use crate::distributed::Processes;

pub use backbone::Backbone;
pub use lattice::Lattice;
pub use projected::{Learning, ProjectedDiscriminator};
pub use train::{Options, train};

/// Images (N, C, H, W) after encoding, quantising and decoding.
pub fn reconstruct<B: Backend>(
    b: &mut B,
    encoder: &Encoder,
    decoder: &Decoder,
    images: &B::Value,
) -> lddgan::Result<B::Value> {
    let latent = encoder.forward(b, images)?;
    let quantized = decoder.quantize(b, &latent)?;
    decoder.forward(b, &quantized)
}

/// The standard deviation of each channel of the latents (N, C, H, W) of all processes, (1, C, 1, 1).
pub fn channel_deviations(latents: &Tensor, processes: &Processes) -> candle_core::Result<Tensor> {
    let channels = latents.transpose(0, 1)?.contiguous()?.flatten_from(1)?;
    let centred = channels.broadcast_sub(&processes.mean(&channels.mean_keepdim(1)?)?)?;
    processes.mean(&centred.sqr()?.mean(1)?)?.sqrt()?.reshape((1, (), 1, 1))
}
