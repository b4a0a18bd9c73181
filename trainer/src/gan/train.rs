//! The training loop of generator and discriminator.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use lddgan::model_file::FileConfig;
use lddgan::{ModelFile, Provenance};

use super::latents::Latents;
use super::step::{Losses, Step, Trainer, reconstruction_weight};
use crate::distributed::{self, Processes};
use crate::preset::Preset;
use crate::progress::Progress;
use crate::run::{Run, RunOptions, Sampler};
use crate::{files, grid};

/// Samples that the discriminator compares with each other.
const GROUP: usize = 4;
/// Images in the picture of a checkpoint, made from the seeds 0, 1, ….
const PICTURE_IMAGES: u64 = 64;

/// Options of `lddgan train gan`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,
    /// The file that `lddgan train autoencoder` wrote; of no use to presets of the kinds `identity` and `haar`
    #[arg(long, value_name = "FILE")]
    pub autoencoder: Option<PathBuf>,
}

/// The autoencoder's file, or one without weights for the kinds that have none.
fn read_autoencoder(options: &Options, preset: &Preset) -> Result<(ModelFile, String)> {
    let config = preset.autoencoder.clone();
    let Some(path) = &options.autoencoder else {
        anyhow::ensure!(
            !config.kind.is_learned(),
            "preset {}: name the file of its autoencoder with --autoencoder",
            preset.name
        );
        let config = FileConfig { autoencoder: Some(config), ..Default::default() };
        let provenance = Provenance { data: files::name(&options.run.data), ..Default::default() };
        return Ok((ModelFile { config, provenance, tensors: Default::default() }, preset.name.clone()));
    };
    let name = path.display().to_string();
    let file = ModelFile::from_bytes(&files::read(path)?, &name)?;
    anyhow::ensure!(
        file.config.autoencoder.as_ref() == Some(&config),
        "{name}: its autoencoder is not the one of preset {}",
        preset.name
    );
    Ok((file, name))
}

/// The model file: averaged generator, and the decoder of the autoencoder's file.
fn model_file(trainer: &Trainer, autoencoder: &ModelFile, run: &Run) -> ModelFile {
    let position = &run.position;
    let decoder = autoencoder.tensors.iter().filter(|(name, _)| name.starts_with("decoder."));
    let mut tensors = trainer.averaged_generator();
    tensors.extend(decoder.map(|(name, tensor)| (name.clone(), tensor.clone())));
    let mut provenance = Provenance {
        name: position.preset.name.clone(),
        revision: crate::revision(),
        ..autoencoder.provenance.clone()
    };
    provenance.steps.insert("gan".to_string(), position.step);
    provenance.images.insert("gan".to_string(), position.images);
    let config = FileConfig {
        generator: Some(position.preset.generator.clone()),
        diffusion: Some(position.preset.diffusion.clone()),
        ..autoencoder.config.clone()
    };
    ModelFile { config, provenance, tensors }
}

/// Writes checkpoint, model file and picture.
fn save(trainer: &Trainer, autoencoder: &ModelFile, run: &mut Run, device: &Device) -> Result<()> {
    run.save(trainer.state()?)?;
    let path = run.file("model.safetensors");
    let bytes = model_file(trainer, autoencoder, run).to_bytes(DType::F16)?;
    files::write_atomic(&path, &bytes)?;
    // The picture is made from the file, so that it shows what the file holds.
    let name = path.display().to_string();
    let model = ModelFile::from_bytes(&bytes, &name)?.model(&name, device)?;
    let seeds: Vec<u64> = (0..PICTURE_IMAGES).collect();
    let images = model.sample_seeds(&seeds, device)?.image;
    let picture = grid::arrange(&grid::to_images(&images)?, 8);
    let path = run.file(&format!("grid-{:08}.png", run.position.images));
    Ok(files::write_atomic(&path, &grid::to_png(&picture)?)?)
}

fn named(losses: &Losses) -> Vec<(&'static str, f64)> {
    vec![
        ("real", losses.real),
        ("fake", losses.fake),
        ("adversarial", losses.adversarial),
        ("reconstruction", losses.reconstruction),
    ]
}

/// Runs `lddgan train gan`.
pub fn train(options: &Options) -> Result<()> {
    let device = options.run.device()?;
    distributed::run(&device, |processes| train_among(processes, options, &device))
}

fn train_among(processes: &Processes, options: &Options, device: &Device) -> Result<()> {
    let preset = Preset::load(&options.run.preset)?;
    let batch = preset.train_gan.batch;
    processes.check_batch("train_gan.batch", batch, GROUP)?;
    let (mut run, checkpoint) = Run::open(&options.run, "gan", &preset, processes)?;
    let (mut autoencoder, file) = read_autoencoder(options, &preset)?;
    let encoder = autoencoder.encoder(&file, device)?;
    let images = crate::data::load(&options.run.data, preset.autoencoder.image_size)?;
    let latents = Latents::encode(&encoder, &images, preset.train_gan.latent_normalization, device)?;
    autoencoder.config.latent_scale = latents.scale.clone();
    drop(images);

    let seed = run.position.seed;
    let mut trainer = Trainer::new(&preset, seed, options.run.precision, device, processes)?;
    if let Some(checkpoint) = checkpoint {
        trainer.load(|part| checkpoint.part(part), &run.file("state.safetensors").display().to_string())?;
    }
    let total = options.run.images.unwrap_or(preset.train_gan.images);
    processes.check_same(&format!("{:?} {total} {:?}", run.position, latents.scale))?;
    let mut sampler = Sampler::new(seed, latents.len());
    let mut progress = Progress::new(run.position.images, total);
    while !run.finished(total)? {
        let samples = processes.share(run.position.images..run.position.images + batch as u64);
        let real = latents.batch(&sampler.batch(&samples), seed, &samples)?;
        let weight = reconstruction_weight(run.position.images as f64 / total as f64);
        let step = Step {
            penalty: run.position.step % preset.train_gan.lazy_reg == 0,
            reconstruction_weight: if preset.train_gan.reconstruction { weight } else { 0.0 },
        };
        let losses = trainer.step(&real, seed, &samples, step)?;
        run.advance(batch);
        progress.update(run.position.images, &named(&losses));
        if run.checkpoint_due() {
            save(&trainer, &autoencoder, &mut run, device)?;
            progress.note(&format!("checkpoint at {} images", run.position.images));
        }
    }
    if !processes.is_first() {
        return Ok(());
    }
    save(&trainer, &autoencoder, &mut run, device).context("the last checkpoint could not be written")?;
    let path = run.file("model.safetensors");
    println!("{} images in {:.0} s; wrote {}", run.position.images, run.position.seconds, path.display());
    Ok(())
}
