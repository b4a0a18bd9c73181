//! Training and trying out the autoencoder.

mod kmeans;
mod pca;
mod train;

use candle_core::Tensor;
use lddgan::backend::CandleBackend;
use lddgan::networks::{Decoder, Encoder};

pub use train::{Options, train};

/// Images (N, C, H, W) after encoding, quantising and decoding.
pub fn reconstruct(encoder: &Encoder, decoder: &Decoder, images: &Tensor) -> lddgan::Result<Tensor> {
    let backend = &mut CandleBackend;
    let latent = encoder.forward(backend, images)?;
    let quantized = decoder.quantize(backend, &latent)?;
    Ok(decoder.forward(backend, &quantized)?.detach())
}

/// Peak signal-to-noise ratio in dB of a mean squared error between images in \[-1, 1\].
pub fn psnr(mean_squared_error: f64) -> f64 {
    10.0 * (4.0 / mean_squared_error.max(1e-12)).log10()
}
