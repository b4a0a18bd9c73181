//! The memory that training takes, estimated from recordings of its networks.

use anyhow::{Error, Result, anyhow};
use lddgan::NetworkName;
use lddgan::cost::{self, Cost};

use super::gib;
use crate::precision::Precision;
use crate::preset::Preset;
use crate::say;

/// Numbers for each parameter: itself, its gradient, the two moments of Adam, and what becomes of one of these.
const TRAINED: u64 = 5;
/// And where there is a moving average, that and its successor.
const AVERAGED: u64 = 2;
/// And for each further step of a chain: what becomes of the parameters for that step, and the gradient of this.
const FURTHER_STEP: u64 = 2;
/// What a network that is differentiated once takes, as a multiple of its values: they are kept, and some of their
/// gradients beside them. The test `memory` measures it.
const DIFFERENTIATED: f64 = 2.2;
/// The same for a discriminator on real and generated samples, with the derivative of a derivative (the R1 penalty).
const PENALISED: f64 = 9.0;

/// About how many bytes the training of a preset takes, images aside.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    /// Parameters, gradients, optimisers and averages.
    pub networks: u64,
    /// Each sample of a batch.
    pub sample: u64,
}

impl Estimate {
    /// For generator and discriminator, without the network of `--features`.
    pub fn of_gan(preset: &Preset, precision: Precision) -> Result<Self> {
        let config = preset.networks();
        let generator = Cost::of(NetworkName::Generator, &config)?;
        let discriminator = Cost::of(NetworkName::Discriminator, &config)?;
        let discriminator_half = PENALISED * kept(&[discriminator]);
        let networks = numbers(generator, TRAINED + AVERAGED) + numbers(discriminator, TRAINED);
        let (sample, further) = match &preset.train_gan.chain {
            None => (discriminator_half.max(DIFFERENTIATED * kept(&[generator, discriminator])), 0),
            // The values of all steps are there while the discriminator learns.
            Some(chain) => {
                let steps = chain.steps.iter().copied().max().unwrap_or(1);
                let values = steps as f64 * kept(&[generator]);
                ((values + discriminator_half).max(DIFFERENTIATED * values), steps as u64 - 1)
            }
        };
        Ok(Self {
            networks: networks + further * numbers(generator, FURTHER_STEP),
            sample: (sample * share_of_f32(precision)) as u64,
        })
    }

    /// For the autoencoder, with or without generated samples beside the images, and without the networks of `--lpips`,
    /// `--features` and `--generator`.
    pub fn of_autoencoder(preset: &Preset, precision: Precision, samples: bool) -> Result<Self> {
        let (config, training) = (&preset.autoencoder, preset.autoencoder_training()?);
        let networks = preset.networks();
        let coders = [Cost::of(NetworkName::Encoder, &networks)?, Cost::of(NetworkName::Decoder, &networks)?];
        let side = training.crop.unwrap_or(config.image_size);
        let (channels, layers) = (training.discriminator_channels, training.discriminator_layers);
        let discriminator = cost::patch_discriminator(config.image_channels, channels, layers, side)?;
        let cropped = (side as f64 / config.image_size as f64).powi(2);
        let [encoder, decoder] = coders;
        let image = kept(&coders) * cropped + kept(&[discriminator]);
        let generated = if samples { kept(&[decoder]) * cropped + kept(&[discriminator]) } else { 0.0 };
        let sample = DIFFERENTIATED * (image + generated);
        let networks = [encoder, decoder, discriminator].map(|network| numbers(network, TRAINED));
        Ok(Self { networks: networks.iter().sum(), sample: (sample * share_of_f32(precision)) as u64 })
    }

    /// Bytes for a batch of so many samples.
    pub fn bytes(&self, batch: usize) -> u64 {
        self.networks.saturating_add(self.sample.saturating_mul(batch as u64))
    }

    /// Says what a batch takes, and what fits into `available` bytes. `field` is where the preset has the batch.
    pub fn print(&self, field: &str, batch: usize, available: Option<u64>) {
        let (networks, samples) = (gib(self.networks), gib(self.bytes(batch).saturating_sub(self.networks)));
        say!("memory: about {} for {field} = {batch}", gib(self.bytes(batch)));
        say!("  parameters, gradients, optimisers and averages: {networks}");
        say!("  values that are kept for the gradient: {samples}");
        say!("  training images, as they are kept in memory, come on top");
        let Some(available) = available else { return };
        let fits = available.saturating_sub(self.networks) / self.sample.max(1) / 4 * 4;
        match (self.bytes(batch) <= available, fits) {
            (true, _) => say!("{} of memory is free: it fits", gib(available)),
            (false, 0) => say!("{} of memory is free: not even a batch of 4 fits", gib(available)),
            (false, fits) => say!("{} of memory is free: {field} = {fits} fits", gib(available)),
        }
    }

    /// An error that says what a batch takes, if memory ran out at a step with so many samples. Other errors stay what
    /// they are.
    pub fn explain(&self, error: Error, field: &str, batch: usize) -> Error {
        if !is_out_of_memory(&error) {
            return error;
        }
        let half = batch / 2 / 4 * 4;
        let advice = if half == 0 {
            "choose smaller networks".to_string()
        } else {
            format!("{half} take about {}; reduce {field} in the preset, or use more GPUs", gib(self.bytes(half)))
        };
        let needed = gib(self.bytes(batch));
        anyhow!(
            "the GPU's memory is too small for {batch} samples at a time, which take about {needed}: {advice}. \
             Checkpoints stay as they are"
        )
    }
}

/// Bytes of a network's parameters, so many times.
fn numbers(network: Cost, times: u64) -> u64 {
    4 * times * network.parameters as u64
}

/// Bytes of the values of these networks for one sample.
fn kept(networks: &[Cost]) -> f64 {
    networks.iter().map(|network| network.kept_bytes as f64).sum()
}

/// Feature maps are most of what is kept.
fn share_of_f32(precision: Precision) -> f64 {
    match precision {
        Precision::F32 | Precision::Tf32 => 1.0,
        Precision::Bf16 => 0.5,
    }
}

/// CUDA's error, as it comes through Candle and cuDNN.
fn is_out_of_memory(error: &Error) -> bool {
    let said = format!("{error:#}");
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUDNN_STATUS_ALLOC_FAILED", "out of memory"].iter().any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_out_is_explained() {
        let full = || anyhow!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")").context("step 3");
        let estimate = Estimate { networks: 1 << 30, sample: 1 << 28 };
        let said = estimate.explain(full(), "train_gan.batch", 72).to_string();
        assert!(said.contains("for 72 samples at a time, which take about 19.0 GiB"), "{said}");
        assert!(said.contains("36 take about 10.0 GiB; reduce train_gan.batch"), "{said}");
        assert!(estimate.explain(full(), "train_gan.batch", 4).to_string().contains("smaller networks"));
        assert_eq!(estimate.explain(anyhow!("a disk"), "train_gan.batch", 72).to_string(), "a disk");
    }
}
