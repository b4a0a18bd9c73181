//! The training latents: every image, and mostly its mirror image, encoded once and kept in memory.

use anyhow::Result;
use candle_core::{Device, Tensor};
use indicatif::{ProgressBar, ProgressStyle};
use lddgan::backend::CandleBackend;
use lddgan::networks::{Encoder, LOG_VARIANCE_RANGE};

use crate::autoencoder::channel_deviations;
use crate::data::ImageSet;
use crate::distributed::Processes;
use crate::interrupts;
use crate::noise::normals;
use crate::preset::LatentNormalization;
use crate::say;

/// Images encoded at a time.
const BATCH: usize = 32;

/// Latents as the encoder gives them.
#[derive(Clone)]
pub struct Encoded {
    /// (images, or twice as many, C, H, W)
    pub means: Tensor,
    /// Of an encoder of the KL kind: the standard deviations of its distributions, as `means`.
    pub deviations: Option<Tensor>,
    /// Whether the mirror images are here too, after all images.
    pub mirrored: bool,
}

impl Encoded {
    /// Encodes all images and, if `mirrored`, their mirror images.
    pub fn new(encoder: &Encoder, images: &ImageSet, mirrored: bool, device: &Device) -> Result<Self> {
        let count = if mirrored { 2 * images.len() } else { images.len() };
        let indices: Vec<u32> = (0..count as u32).collect();
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} latents, {eta} left")?;
        let bar = ProgressBar::new(indices.len() as u64).with_style(style);
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        for indices in indices.chunks(BATCH) {
            interrupts::check()?;
            let images = images.batch(indices, device)?;
            match encoder.latent_distribution(&mut CandleBackend, &images)? {
                Some(posterior) => {
                    means.push(posterior.mean.detach());
                    deviations.push(deviation(&posterior.log_variance)?.detach());
                }
                None => means.push(encoder.forward(&mut CandleBackend, &images)?.detach()),
            }
            bar.inc(indices.len() as u64);
        }
        bar.finish_and_clear();
        say!("latents of {} images encoded", images.len());
        let deviations = if deviations.is_empty() { None } else { Some(Tensor::cat(&deviations, 0)?) };
        Ok(Self { means: Tensor::cat(&means, 0)?, deviations, mirrored })
    }
}

/// Scaled latents.
pub struct Latents {
    means: Tensor,
    deviations: Option<Tensor>,
    mirrored: bool,
    /// What each channel was divided by.
    pub scale: Vec<f32>,
}

impl Latents {
    pub fn new(Encoded { means, deviations, mirrored }: Encoded, normalization: LatentNormalization) -> Result<Self> {
        let of_all = |scale: f32| Ok::<_, candle_core::Error>(vec![scale; means.dim(1)?]);
        let deviations_of_channels = || channel_deviations(&means, &Processes::alone())?.flatten_all();
        let scale = match normalization {
            LatentNormalization::Fixed(scale) => of_all(scale)?,
            LatentNormalization::MaxAbs => of_all(means.abs()?.max_all()?.to_scalar()?)?,
            LatentNormalization::Standardize => deviations_of_channels()?.to_vec1()?,
            LatentNormalization::UnitRms => of_all(deviations_of_channels()?.sqr()?.mean_all()?.sqrt()?.to_scalar()?)?,
        };
        let divisor = Tensor::from_vec(scale.clone(), (1, scale.len(), 1, 1), means.device())?;
        let deviations = deviations.map(|deviations| deviations.broadcast_div(&divisor)).transpose()?;
        Ok(Self { means: means.broadcast_div(&divisor)?, deviations, mirrored, scale })
    }

    /// Those of the images alone. The scale stays, so that a generator that learned on both can learn on.
    pub fn without_mirrored(self) -> Result<Self> {
        if !self.mirrored {
            return Ok(self);
        }
        let own = |latents: &Tensor| latents.narrow(0, 0, latents.dim(0)? / 2);
        let deviations = self.deviations.as_ref().map(own).transpose()?;
        Ok(Self { means: own(&self.means)?, deviations, mirrored: false, scale: self.scale })
    }

    /// The least and the largest number of all latents.
    pub fn range(&self) -> Result<(f32, f32)> {
        let numbers = self.means.flatten_all()?;
        Ok((numbers.min(0)?.to_scalar()?, numbers.max(0)?.to_scalar()?))
    }

    /// The latents, and of the KL kind their means, (N, C, H, W).
    pub fn means(&self) -> &Tensor {
        &self.means
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.means.dims()[0]
    }

    /// The indices of so many latents at most, spread over all.
    pub fn spread(&self, count: usize) -> Vec<u32> {
        let count = count.min(self.count());
        (0..count).map(|i| (i * self.count() / count) as u32).collect()
    }

    /// The latents `indices`, (N, C, H, W); of the KL kind, their means.
    pub fn select(&self, indices: &[u32]) -> Result<Tensor> {
        Ok(self.means.index_select(&Tensor::new(indices, self.means.device())?, 0)?)
    }

    /// The latents `indices` as the decoder takes them, (N, C, H, W); of the KL kind, their means.
    pub fn unscaled(&self, indices: &[u32]) -> Result<Tensor> {
        let latents = self.select(indices)?;
        let scale = Tensor::from_vec(self.scale.clone(), (1, self.scale.len(), 1, 1), self.means.device())?;
        Ok(latents.broadcast_mul(&scale)?)
    }

    /// The latents `indices`, (N, C, H, W). Of the KL kind they are samples of the encoder's distributions, with noise
    /// of their own for each of the training samples numbered `samples` (as the reference's `get_first_stage_encoding`).
    pub fn batch(&self, indices: &[u32], seed: u64, samples: &[u64]) -> Result<Tensor> {
        let means = self.select(indices)?;
        let Some(deviations) = &self.deviations else { return Ok(means) };
        let indices = Tensor::new(indices, self.means.device())?;
        let noise = normals(seed, samples, "latent", &means.dims()[1..], means.device())?;
        Ok((means + (deviations.index_select(&indices, 0)? * noise)?)?)
    }
}

/// The standard deviation of a distribution from its log variance.
fn deviation(log_variance: &Tensor) -> Result<Tensor> {
    let (least, most) = LOG_VARIANCE_RANGE;
    Ok((log_variance.clamp(least, most)? * 0.5)?.exp()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of distributions with known means and deviations: many samples have them.
    #[test]
    fn samples_follow_the_encoders_distribution() {
        let tensor = |values: [f32; 2]| Tensor::new(&values, &Device::Cpu).unwrap().reshape((1, 2, 1, 1)).unwrap();
        let log_variance = deviation(&tensor([-100.0, 4f32.ln()])).unwrap();
        let (means, deviations) = (tensor([3.0, -1.0]), Some(log_variance));
        let latents = Latents { means, deviations, mirrored: false, scale: vec![1.0; 2] };
        let samples = latents.batch(&[0; 4000], 0, &(0..4000).collect::<Vec<_>>()).unwrap();
        let mean = samples.mean(0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let deviations =
            channel_deviations(&samples, &Processes::alone()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // The log variance is clamped at -30.
        assert!((mean[0] - 3.0).abs() < 1e-5 && deviations[0] < 1e-5, "{mean:?} {deviations:?}");
        assert!((mean[1] + 1.0).abs() < 0.1 && (deviations[1] - 2.0).abs() < 0.1, "{mean:?} {deviations:?}");
    }

    /// The deviations of the channels are 3 and 9, whose mean square is 45.
    #[test]
    fn channels_are_scaled_each_or_together() {
        let means = Tensor::new(&[7f32, 1.0, -9.0, 9.0], &Device::Cpu).unwrap().reshape((1, 2, 1, 2)).unwrap();
        let scale = |normalization| {
            Latents::new(Encoded { means: means.clone(), deviations: None, mirrored: false }, normalization)
                .unwrap()
                .scale
        };
        assert_eq!(scale(LatentNormalization::Fixed(2.5)), [2.5, 2.5]);
        assert_eq!(scale(LatentNormalization::MaxAbs), [9.0, 9.0]);
        assert_eq!(scale(LatentNormalization::Standardize), [3.0, 9.0]);
        let together = scale(LatentNormalization::UnitRms);
        assert!(together[0] == together[1] && (together[0] - 45f32.sqrt()).abs() < 1e-5, "{together:?}");
    }

    /// Two images, whose mirror images follow them.
    #[test]
    fn mirrored_latents_are_left_out() {
        let tensor = |values: [f32; 4]| Tensor::new(&values, &Device::Cpu).unwrap().reshape((4, 1, 1, 1)).unwrap();
        let (means, deviations) = (tensor([1.0, 2.0, 3.0, 6.0]), Some(tensor([0.1, 0.2, 0.3, 0.4])));
        let encoded = Encoded { means, deviations, mirrored: true };
        let latents = Latents::new(encoded, LatentNormalization::Fixed(2.0)).unwrap();
        let own = latents.without_mirrored().unwrap();
        assert_eq!((own.count(), own.scale.as_slice()), (2, [2.0].as_slice()));
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(own.means()), [0.5, 1.0]);
        assert_eq!(values(own.deviations.as_ref().unwrap()), [0.05, 0.1]);
        // They are left out once.
        assert_eq!(own.without_mirrored().unwrap().count(), 2);
    }

    #[test]
    fn deviations_are_per_channel() {
        // Channel 0 alternates between 0 and 2, channel 1 between -3 and 3.
        let values: Vec<f32> = vec![0.0, 2.0, -3.0, 3.0, 2.0, 0.0, 3.0, -3.0];
        let latents = Tensor::from_vec(values, (2, 2, 1, 2), &Device::Cpu).unwrap();
        let deviations = channel_deviations(&latents, &Processes::alone()).unwrap();
        assert_eq!(deviations.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, 3.0]);
    }
}
