//! `lddgan calibrate`: a Gaussian start whose samples vary as much as the data.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use lddgan::ModelFile;
use lddgan_trainer::backend::BackendName;
use lddgan_trainer::data::DataOptions;
use lddgan_trainer::eval::bar;
use lddgan_trainer::files::{self, read_model};
use lddgan_trainer::gan::{Encoded, Moments};
use lddgan_trainer::loaded_model::LoadedModel;
use lddgan_trainer::say;

/// Images made at a time.
const BATCH: u64 = 16;

#[derive(Args)]
pub struct Calibrate {
    /// Model file, whose generator starts from the normal distribution of the latents (`gaussian_modes`)
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// File that `lddgan train autoencoder` wrote, with the encoder that the generator was trained with
    #[arg(long, value_name = "FILE")]
    autoencoder: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// Samples whose variances are compared with those of the images
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..))]
    count: u64,
    /// Backend that samples
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// File that gets the model with the new variances, with weights in f16
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub fn calibrate(options: &Calibrate) -> Result<()> {
    let (mut model, name) = read_model(&options.model)?;
    let (autoencoder, other_name) = read_model(&options.autoencoder)?;
    let moments = Moments::read(&model.tensors, "generator");
    let moments =
        moments.with_context(|| format!("{name}: its generator does not start from a normal distribution"))?;
    let same = model.config.autoencoder == autoencoder.config.autoencoder;
    ensure!(same, "{other_name}: its autoencoder is of another kind or size than that of {name}");
    let images = options.data.load(model.config.autoencoder.as_ref().map_or(0, |config| config.image_size))?;
    ensure!(images.len() >= 2, "the data has one image, and variances need at least two");
    let latents = Encoded::new(&autoencoder.encoder(&other_name, &Device::Cpu)?, &images, false, &Device::Cpu)?.means;
    let scale = Tensor::new(model.config.latent_scale.as_slice(), &Device::Cpu)?.reshape((1, (), 1, 1))?;
    let latents = latents.broadcast_div(&scale)?;

    let samples = sample(&model, &name, options)?;
    let moments = moments.calibrated(&latents, &samples)?;
    let deviations = (moments.variances_of(&samples)? / moments.variances_of(&latents)?)?.sqrt()?.to_vec1::<f32>()?;
    model.tensors.extend(moments.constants("generator"));
    // Figures of the images that it made before no longer hold.
    model.provenance.metrics.clear();
    model.provenance.revision = lddgan_trainer::revision();
    files::write_atomic(&options.out, &model.to_bytes(DType::F16)?)?;
    let mean = deviations.iter().sum::<f32>() / deviations.len() as f32;
    say!(
        "along {} directions, samples had {mean:.3} times the standard deviation of {} images; wrote {}",
        deviations.len(),
        images.len(),
        options.out.display()
    );
    Ok(())
}

/// Scaled latents of the seeds 0, 1, …
fn sample(model: &ModelFile, name: &str, options: &Calibrate) -> Result<Tensor> {
    let mut loaded = LoadedModel::new(model, name, options.backend)?;
    let progress = bar(options.count, "samples");
    let mut latents = Vec::new();
    for first in (0..options.count).step_by(BATCH as usize) {
        let seeds: Vec<u64> = (first..(first + BATCH).min(options.count)).collect();
        let trajectory = loaded.trajectory(&seeds)?;
        let last = trajectory.latents.last().context("sampling gave no latents")?;
        latents.push(last.to_device(&Device::Cpu)?);
        progress.inc(seeds.len() as u64);
    }
    progress.finish_and_clear();
    Ok(Tensor::cat(&latents, 0)?)
}
