//! Latents that a generator makes, for a decoder that learns to make images of them that pass for real.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use lddgan::backend::CandleBackend;
use lddgan::{Model, SampleInputs};
use rayon::prelude::*;

use crate::files;
use crate::preset::Preset;

/// Batches that are made at once, which a GPU takes hardly longer for.
const AHEAD: u64 = 16;

/// A generator, and what it made ahead.
pub struct Samples {
    model: Model,
    device: Device,
    /// Training samples and their latents.
    ready: VecDeque<(Vec<u64>, Tensor)>,
}

impl Samples {
    /// The generator of a model file, whose latents the preset's decoder can take.
    pub fn load(path: &Path, preset: &Preset, device: &Device) -> Result<Self> {
        let (file, name) = files::read_model(path)?;
        let same = file.config.autoencoder.as_ref() == Some(&preset.autoencoder);
        ensure!(same, "{name}: its autoencoder is not the one of preset {}", preset.name);
        Ok(Self { model: file.model(&name, device)?, device: device.clone(), ready: VecDeque::new() })
    }

    /// Latents (N, latent_channels, h, w), neither scaled nor quantised: one for each of the training samples numbered `samples`,
    /// by which alone it is determined. The next ones to be asked for are taken to be later by `batch`.
    pub fn latents(&mut self, samples: &[u64], batch: usize) -> Result<Tensor> {
        if self.ready.front().is_none_or(|(ready, _)| ready != samples) {
            self.ready = self.make(samples, batch as u64)?;
        }
        let (_, latents) = self.ready.pop_front().context("no latents were made")?;
        Ok(latents)
    }

    fn make(&self, samples: &[u64], batch: u64) -> Result<VecDeque<(Vec<u64>, Tensor)>> {
        let of_batch = |i: u64| samples.iter().map(|sample| sample + i * batch).collect::<Vec<_>>();
        let batches: Vec<Vec<u64>> = (0..AHEAD).map(of_batch).collect();
        // Counted from the end: people ask for the first seeds.
        let seeds: Vec<u64> = batches.iter().flatten().map(|sample| u64::MAX - sample).collect();
        let drawn = seeds.par_chunks(samples.len()).map(|seeds| self.model.inputs(seeds, &Device::Cpu));
        let inputs = together(&drawn.collect::<lddgan::Result<Vec<_>>>()?, &self.device)?;
        let latents = self.model.sample_latents(&mut CandleBackend, &inputs)?.detach();
        let of_batch = |(i, samples): (usize, Vec<u64>)| {
            let count = samples.len();
            Ok((samples, latents.narrow(0, i * count, count)?))
        };
        batches.into_iter().enumerate().map(of_batch).collect()
    }
}

/// Inputs of several batches as those of one, on a device.
fn together(batches: &[SampleInputs<Tensor>], device: &Device) -> Result<SampleInputs<Tensor>> {
    let cat = |of: &dyn Fn(&SampleInputs<Tensor>) -> Tensor| -> Result<Tensor> {
        Ok(Tensor::cat(&batches.iter().map(of).collect::<Vec<_>>(), 0)?.to_device(device)?)
    };
    let of_steps = |of: fn(&SampleInputs<Tensor>) -> &Vec<Tensor>| {
        (0..of(&batches[0]).len()).map(|i| cat(&|inputs| of(inputs)[i].clone())).collect::<Result<Vec<_>>>()
    };
    let (z, noise) = (of_steps(|inputs| &inputs.z)?, of_steps(|inputs| &inputs.noise)?);
    Ok(SampleInputs { x: cat(&|inputs| inputs.x.clone())?, z, noise })
}
