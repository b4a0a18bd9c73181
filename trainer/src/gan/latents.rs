//! The training latents: every image and its mirror image, encoded once and kept in memory.

use anyhow::Result;
use candle_core::{Device, Tensor};
use indicatif::{ProgressBar, ProgressStyle};
use lddgan::backend::CandleBackend;
use lddgan::networks::Encoder;

use crate::data::ImageSet;

/// Images encoded at a time.
const BATCH: usize = 32;

/// Scaled latents (2 x images, C, H, W).
pub struct Latents(Tensor);

impl Latents {
    /// Encodes all images in both flips, and divides by `scale`.
    pub fn encode(encoder: &Encoder, images: &ImageSet, scale: f32, device: &Device) -> Result<Self> {
        let indices: Vec<u32> = (0..2 * images.len() as u32).collect();
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} latents, {eta} left")?;
        let bar = ProgressBar::new(indices.len() as u64).with_style(style);
        let mut latents = Vec::new();
        for indices in indices.chunks(BATCH) {
            let latent = encoder.forward(&mut CandleBackend, &images.batch(indices, device)?)?;
            latents.push((latent.detach() / f64::from(scale))?);
            bar.inc(indices.len() as u64);
        }
        bar.finish_and_clear();
        Ok(Self(Tensor::cat(&latents, 0)?))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.dims()[0]
    }

    /// The latents `indices`, (N, C, H, W).
    pub fn batch(&self, indices: &[u32]) -> Result<Tensor> {
        let indices = Tensor::from_vec(indices.to_vec(), indices.len(), self.0.device())?;
        Ok(self.0.index_select(&indices, 0)?)
    }
}
