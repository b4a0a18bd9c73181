//! The training latents: every image and its mirror image, encoded once and kept in memory.

use anyhow::Result;
use candle_core::{Device, Tensor};
use indicatif::{ProgressBar, ProgressStyle};
use lddgan::backend::CandleBackend;
use lddgan::networks::Encoder;

use crate::data::ImageSet;
use crate::preset::LatentNormalization;

/// Images encoded at a time.
const BATCH: usize = 32;

/// Scaled latents.
pub struct Latents {
    /// (2 x images, C, H, W)
    values: Tensor,
    /// What each channel was divided by.
    pub scale: Vec<f32>,
}

impl Latents {
    /// Encodes all images in both flips, and scales the latents.
    pub fn encode(
        encoder: &Encoder,
        images: &ImageSet,
        normalization: LatentNormalization,
        device: &Device,
    ) -> Result<Self> {
        let indices: Vec<u32> = (0..2 * images.len() as u32).collect();
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} latents, {eta} left")?;
        let bar = ProgressBar::new(indices.len() as u64).with_style(style);
        let mut latents = Vec::new();
        for indices in indices.chunks(BATCH) {
            let latent = encoder.forward(&mut CandleBackend, &images.batch(indices, device)?)?;
            latents.push(latent.detach());
            bar.inc(indices.len() as u64);
        }
        bar.finish_and_clear();
        let latents = Tensor::cat(&latents, 0)?;
        let scale = match normalization {
            LatentNormalization::Fixed(scale) => vec![scale; latents.dim(1)?],
            LatentNormalization::MaxAbs => vec![latents.abs()?.max_all()?.to_scalar::<f32>()?; latents.dim(1)?],
            LatentNormalization::Standardize => standard_deviations(&latents)?,
        };
        let divisor = Tensor::from_vec(scale.clone(), (1, scale.len(), 1, 1), device)?;
        Ok(Self { values: latents.broadcast_div(&divisor)?, scale })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.dims()[0]
    }

    /// The latents `indices`, (N, C, H, W).
    pub fn batch(&self, indices: &[u32]) -> Result<Tensor> {
        let indices = Tensor::from_vec(indices.to_vec(), indices.len(), self.values.device())?;
        Ok(self.values.index_select(&indices, 0)?)
    }
}

/// The standard deviation of each channel of (N, C, H, W).
fn standard_deviations(latents: &Tensor) -> Result<Vec<f32>> {
    let channels = latents.transpose(0, 1)?.contiguous()?.flatten_from(1)?;
    let centred = channels.broadcast_sub(&channels.mean_keepdim(1)?)?;
    Ok(centred.sqr()?.mean(1)?.sqrt()?.to_vec1::<f32>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_per_channel() {
        // Channel 0 alternates between 0 and 2, channel 1 between -3 and 3.
        let values: Vec<f32> = vec![0.0, 2.0, -3.0, 3.0, 2.0, 0.0, 3.0, -3.0];
        let latents = Tensor::from_vec(values, (2, 2, 1, 2), &Device::Cpu).unwrap();
        assert_eq!(standard_deviations(&latents).unwrap(), [1.0, 3.0]);
    }
}
