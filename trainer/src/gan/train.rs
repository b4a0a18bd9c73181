//! The training loop of generator and discriminator.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use lddgan::backend::MINIBATCH_GROUP;
use lddgan::hash::sha256;
use lddgan::parameters::TensorMap;
use lddgan::{AutoencoderKind, FileConfig, ModelFile, NetworkName, Provenance};

use super::Moments;
use super::chain::{LinearPicture, PictureJudge};
use super::draws::{Drawing, StepDraws};
use super::latent_cache::{Cache, encoder_sum};
use super::latents::{Encoded, Latents};
use super::losses::Losses;
use super::snapshot::{Judge, SCORED_IMAGES, discriminator_file, reconstructions, snapshot};
use super::step::{Begun, Setup, Step, Trainer};
use crate::autoencoder::Backbone;
use crate::checkpoint::{Before, Checkpoint, Position, Stage};
use crate::data::{DataOptions, ImageSet, prefetch};
use crate::distributed::{self, Processes};
use crate::files;
use crate::memory;
use crate::precision::Precision;
use crate::preset::Preset;
use crate::run::{Ended, EpochOrder, Run, RunOptions, Snapshot, Taken, Training};

/// Where a preset has the batch.
const BATCH_FIELD: &str = "train_gan.batch";
/// What coefficients may exceed their range by.
const ROUNDING: f32 = 1e-5;
/// The most steps that a GPU is given before the numbers of the first are read.
const STEPS_A_READ: usize = 50;

/// Options of `lddgan train gan`.
#[derive(Debug, Clone, clap::Args)]
#[command(mut_arg("data", |data| {
    let help = "Training images, as for the autoencoder; not needed where `--latents` names a file that is there";
    data.required(false).required_unless_present("latents").help(help)
}))]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,
    #[command(flatten)]
    pub data: DataOptions,
    /// The file that `lddgan train autoencoder` wrote; not needed by presets of the kinds `identity` and `haar`
    #[arg(long, value_name = "FILE")]
    pub autoencoder: Option<PathBuf>,
    /// File that keeps the encoded images, for further runs with this autoencoder and this data; without `--data`, the file
    /// to train from, as `data encode` writes it (default: latents.safetensors in the output folder, where the
    /// autoencoder has weights)
    #[arg(long, value_name = "FILE")]
    pub latents: Option<PathBuf>,
    /// A network that recognises images, in an ONNX file, for presets that train on chains with a projected discriminator
    /// (convolutions, Clip, Relu and Add; input N x 3 x H x W, RGB from 0 to 255)
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// Start with the generator of this model file, whose autoencoder must have had the same encoder, instead of a random one
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub generator: Option<PathBuf>,
    /// Start with this discriminator, which another run left as discriminator.safetensors, instead of a random one
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub discriminator: Option<PathBuf>,
}

/// The autoencoder's file, or one without weights for the kinds that have none.
fn read_autoencoder(options: &Options, preset: &Preset) -> Result<(ModelFile, String)> {
    let config = preset.autoencoder.clone();
    let Some(path) = &options.autoencoder else {
        ensure!(
            !config.kind.is_learned(),
            "preset {}: name the file of its autoencoder with --autoencoder",
            preset.name
        );
        let config = FileConfig { autoencoder: Some(config), ..Default::default() };
        let provenance = Provenance { data: options.data.name(), ..Default::default() };
        return Ok((ModelFile { config, provenance, tensors: Default::default() }, preset.name.clone()));
    };
    let (file, name) = files::read_model(path)?;
    ensure!(
        file.config.autoencoder.as_ref() == Some(&config),
        "{name}: its autoencoder is not the one of preset {}",
        preset.name
    );
    Ok((file, name))
}

/// Takes up the networks that the options start with, and the training that the generator has behind it.
fn start(trainer: &mut Trainer, options: &Options, position: &mut Position) -> Result<()> {
    let preset = &position.preset;
    if let Some(path) = &options.discriminator {
        let (file, name) = files::read_model(path)?;
        let same = file.config.discriminator.as_ref() == Some(&preset.discriminator);
        ensure!(same, "{name}: its discriminator is not the one of preset {}", preset.name);
        trainer.load_discriminator(&file.tensors_of(NetworkName::Discriminator), &name)?;
    }
    if let Some(path) = &options.generator {
        let (file, name) = files::read_model(path)?;
        let same = file.config.generator.as_ref() == Some(&preset.generator);
        ensure!(same, "{name}: its generator is not the one of preset {}", preset.name);
        trainer.load_generator(&file.tensors_of(NetworkName::Generator), &name)?;
        let gan = |counts: &BTreeMap<String, u64>| counts.get("gan").copied().unwrap_or_default();
        position.before = Before { step: gan(&file.provenance.steps), images: gan(&file.provenance.images) };
    }
    Ok(())
}

/// The latents to train on: kept in a file, or those of the images, which come with their sum. With the sum of the images,
/// if it is known.
fn encoded(
    options: &Options,
    run: &Run,
    autoencoder: &ModelFile,
    file: &str,
    images: Option<(&ImageSet, &String)>,
    device: &Device,
) -> Result<(Encoded, Option<String>)> {
    let learned = autoencoder.config.autoencoder.as_ref().is_some_and(|config| config.kind.is_learned());
    let mirrored = run.position.preset.train_gan.mirrored;
    let path = options.latents.clone().or_else(|| learned.then(|| run.file("latents.safetensors")));
    let Some((images, sum)) = images else {
        let path = path.context("name the training images with --data, or a file of latents with --latents")?;
        let cache = Cache::new(path.clone(), autoencoder, None, mirrored)?;
        return cache.read(device).with_context(|| format!("cannot train from {}", path.display()));
    };
    let encode = || Encoded::new(&autoencoder.encoder(file, device)?, images, mirrored, device);
    let encoded = match path {
        Some(path) => Cache::new(path, autoencoder, Some(sum.clone()), mirrored)?.take(device, encode)?,
        None => encode()?,
    };
    Ok((encoded, Some(sum.clone())))
}

/// Coefficients of wavelets must lie where a generator with tanh can reach them, as WaveDiff demands of every batch.
fn check_range(preset: &Preset, latents: &Latents) -> Result<()> {
    if preset.autoencoder.kind != AutoencoderKind::Haar || !preset.generator.tanh {
        return Ok(());
    }
    let (least, most) = latents.range()?;
    ensure!(
        least >= -1.0 - ROUNDING && most <= 1.0 + ROUNDING,
        "preset {}: the coefficients of the images reach from {least:.2} to {most:.2}, a generator with tanh from -1 to 1; \
         train_gan.latent_normalization must divide them by more, by {} for any image",
        preset.name,
        preset.autoencoder.factor()
    );
    Ok(())
}

/// What judges pictures of latents, where the preset has it. `images` gives those of some latents, by their indices.
fn picture_judge(
    options: &Options,
    position: &Position,
    checkpoint: Option<&Checkpoint>,
    latents: &Latents,
    images: impl FnOnce(&[u32]) -> candle_core::Result<Tensor>,
) -> Result<Option<PictureJudge>> {
    let preset = &position.preset;
    let Some(chain) = preset.train_gan.chain.as_ref().filter(|chain| chain.projected > 0.0) else { return Ok(None) };
    let device = latents.means().device();
    let picture = match checkpoint {
        Some(checkpoint) => LinearPicture::read(&checkpoint.part("picture"), device)?,
        None => {
            let indices = latents.spread(SCORED_IMAGES);
            LinearPicture::fit(&latents.select(&indices)?, &images(&indices)?, chain.picture_size)?
        }
    };
    let path = options.features.as_ref().context("name the network with --features")?;
    Ok(Some(PictureJudge::new(chain, position.seed, Backbone::load(path, device)?, picture)?))
}

/// Whether a network is given exactly where the preset needs one. With its sum, to be noted in the run.
fn check_features(options: &Options, preset: &Preset) -> Result<String> {
    let needed = preset.train_gan.chain.as_ref().is_some_and(|chain| chain.projected > 0.0);
    let name = &preset.name;
    match &options.features {
        None => {
            ensure!(!needed, "preset {name}: its judge of pictures needs a network: name a file with --features");
            Ok("not given".to_string())
        }
        Some(path) => {
            ensure!(needed, "preset {name} has no judge of pictures (train_gan.chain.projected): leave --features out");
            Ok(sha256(&files::read(path)?))
        }
    }
}

/// What is shown while training.
fn named(losses: &Losses) -> Vec<(&'static str, f64)> {
    let mut named = vec![("real", losses.real), ("fake", losses.fake), ("adversarial", losses.adversarial)];
    match losses.pictures {
        Some(pictures) => named.push(("projected", pictures.verdict)),
        None => named.push(("reconstruction", losses.reconstruction)),
    }
    named
}

/// As [`named`], with what is not shown but logged and watched: the norms of gradients and, for each step t, the share of
/// pairs that the discriminator ordered right, `ordered/t`.
fn logged(losses: &Losses) -> Vec<(String, f64)> {
    let penalty = losses.penalty.map(|penalty| ("penalty", penalty));
    let [discriminator, generator] = losses.gradient_norms;
    let norms = [("gradient_norm/discriminator", discriminator), ("gradient_norm/generator", generator)];
    let pictures = losses.pictures.into_iter().flat_map(|pictures| {
        [
            ("projected_discriminator", pictures.discriminator),
            ("gradient_norm/projected", pictures.gradient_norm),
            ("gradient_ratio", pictures.gradient_ratio),
        ]
    });
    let named = named(losses).into_iter().chain(penalty).chain(norms).chain(pictures);
    let ordered = losses.ordered.iter().enumerate().map(|(t, ordered)| (format!("ordered/{t}"), *ordered));
    let pictures = losses.pictures.map(|pictures| ("ordered/pictures".to_string(), pictures.ordered));
    let ordered = ordered.chain(pictures).filter(|(_, ordered)| ordered.samples > 0.0);
    let ordered = ordered.map(|(name, ordered)| (name, ordered.right / ordered.samples));
    named.map(|(name, value)| (name.to_string(), value)).chain(ordered).collect()
}

/// What a step takes besides latents.
struct Drawn {
    /// The positions of this process's samples in the endless sequence of epochs.
    samples: Vec<u64>,
    /// Which latents they are.
    indices: Vec<u32>,
    draws: StepDraws,
}

/// What the steps from this position on take, without end; `count` latents are an epoch.
fn drawn(
    drawing: Drawing,
    position: &Position,
    count: usize,
    processes: &Processes,
) -> impl Iterator<Item = Result<Drawn>> + Send + use<> {
    let (first, number) = (position.images, position.step);
    let (batch, share) = (position.preset.train_gan.batch as u64, processes.share());
    let mut order = EpochOrder::new(position.seed, count);
    (0..).map(move |i| {
        let samples = share(first + i * batch..first + (i + 1) * batch);
        let (indices, draws) = (order.batch(&samples), drawing.draw(number + i, &samples)?);
        Ok(Drawn { samples, indices, draws })
    })
}

/// The seconds of a step with the first `count` of these latents, of a trainer of its own.
fn probe(preset: &Preset, precision: Precision, latents: &Tensor, count: usize) -> Result<f64> {
    let step = Step { penalty: true, reconstruction_weight: 1.0, generator_learns: true };
    let (processes, moments) = (Processes::alone(), Moments::standard(preset)?);
    let (device, moments) = (latents.device(), Some(&moments));
    let mut trainer = Trainer::new(&Setup { preset, seed: 0, precision, device, processes: &processes, moments })?;
    let started = Instant::now();
    trainer.step(&latents.narrow(0, 0, count)?, 0, 0, &(0..count as u64).collect::<Vec<_>>(), step)?;
    Ok(started.elapsed().as_secs_f64())
}

/// Runs `lddgan train gan`.
pub fn train(options: &Options) -> Result<Ended> {
    if options.run.dry_run {
        return options.run.print_memory(BATCH_FIELD, |preset, precision| {
            Ok((memory::Estimate::of_gan(preset, precision)?, preset.train_gan.batch))
        });
    }
    let device = options.run.device()?;
    distributed::run(&device, |processes| train_among(processes, options, &device))
}

fn train_among(processes: &Processes, options: &Options, device: &Device) -> Result<Ended> {
    let (mut run, checkpoint) = Run::open(&options.run, Stage::Gan, processes)?;
    run.limit_reading();
    let preset = run.position.preset.clone();
    let batch = preset.train_gan.batch;
    processes.check_batch(BATCH_FIELD, batch, MINIBATCH_GROUP)?;
    let (mut autoencoder, file) = read_autoencoder(options, &preset)?;
    let seed = run.position.seed;
    let has_images = !options.data.data.is_empty();
    let images = has_images.then(|| options.data.load(preset.autoencoder.image_size)).transpose()?;
    let precision = options.run.precision;
    let data = images.as_ref().map(ImageSet::sha256);
    let features = check_features(options, &preset)?;
    run.accept([
        ("encoder", encoder_sum(&autoencoder)?),
        ("precision", precision.to_string()),
        ("features", features),
    ])?;
    // Before images are encoded that it does not go on with; a file of latents may say later whose they are.
    run.accept(data.clone().map(|data| ("data", data)))?;
    let (encoded, data) = encoded(options, &run, &autoencoder, &file, images.as_ref().zip(data.as_ref()), device)?;
    run.accept(data.map(|data| ("data", data)))?;
    let latents = Latents::new(encoded, preset.train_gan.latent_normalization)?;
    let latents = if preset.train_gan.mirrored { latents } else { latents.without_mirrored()? };
    check_range(&preset, &latents)?;
    autoencoder.config.latent_scale = latents.scale.clone();
    let restored = match images {
        Some(_) => None,
        None => Some(reconstructions(&autoencoder, &file, &latents, device)?),
    };
    let shown = images.as_ref().or(restored.as_ref()).context("there are no images to compare with")?;
    let judge = Judge::new(shown)?;
    let saved = checkpoint.as_ref().map(|(checkpoint, _)| checkpoint);
    let picture_judge = picture_judge(options, &run.position, saved, &latents, |indices| match &images {
        Some(images) => images.batch(indices, device),
        // They are of these latents.
        None => shown.batch_all(device),
    })?;
    drop((images, restored));

    let moments = match (&checkpoint, &options.generator) {
        (Some((checkpoint, _)), _) => Moments::read(&checkpoint.part("generator"), "generator"),
        (None, Some(path)) => Moments::read(&files::read_model(path)?.0.tensors, "generator"),
        (None, None) => latents.moments(&preset)?,
    };
    let share = processes.share();
    let count = share(0..batch as u64).len();
    let first: Vec<u64> = (0..MINIBATCH_GROUP.min(count) as u64).collect();
    let indices: Vec<u32> = first.iter().map(|i| (i % latents.count() as u64) as u32).collect();
    let few = latents.batch(&indices, seed, &first)?;
    run.expect_step(first.len() as f64 / count as f64, || probe(&preset, precision, &few, first.len()))?;
    let mut trainer =
        Trainer::new(&Setup { preset: &preset, seed, precision, device, processes, moments: moments.as_ref() })?
            .with_judge(picture_judge);
    if let Some((checkpoint, path)) = checkpoint {
        trainer.load(|part| checkpoint.part(part), &path.display().to_string())?;
    } else {
        start(&mut trainer, options, &mut run.position)?;
    }

    let total = options.run.images.unwrap_or(preset.train_gan.images);
    processes.check_same(&format!("{:?} {total} {:?}", run.position, latents.scale))?;
    let memory = memory::Estimate::of_gan(&preset, precision)?;
    let drawn = prefetch(drawn(trainer.drawing(seed), &run.position, latents.count(), processes));
    let mut training =
        Gan { trainer, preset, autoencoder, judge, latents, drawn, memory, device, alone: processes.size() == 1 };
    crate::run::train(&mut run, &mut training, total)
}

/// Generator and discriminator, and what they are trained with.
struct Gan<'a, D> {
    trainer: Trainer,
    preset: Preset,
    /// The file of the autoencoder.
    autoencoder: ModelFile,
    judge: Judge,
    latents: Latents,
    drawn: D,
    memory: memory::Estimate,
    device: &'a Device,
    /// Whether no other process shares the run.
    alone: bool,
}

impl<D: Iterator<Item = Result<Drawn>>> Gan<'_, D> {
    /// Begins the step that is `further` steps after `position`. With the items of its batch, and what they are.
    fn begin(&mut self, position: &Position, further: u64, total: u64) -> Result<(Begun, (Vec<u32>, Tensor))> {
        let drawn = self.drawn.next().context("the thread that draws random numbers stopped")?;
        let Drawn { samples, indices, draws } = drawn?;
        let options = &self.preset.train_gan;
        let images = position.images + further * options.batch as u64;
        let progress = images as f64 / total as f64;
        self.trainer.anneal(progress);
        let step = Step {
            penalty: (position.step + further).is_multiple_of(options.lazy_reg),
            reconstruction_weight: options.reconstruction_weight(progress),
            generator_learns: options.chain.as_ref().is_none_or(|chain| images >= chain.generator_from),
        };
        let batch = self.latents.batch(&indices, position.seed, &samples)?;
        let begun = self.trainer.begin(&batch, &draws, step).map_err(|error| self.explain(error, samples.len()))?;
        Ok((begun, (indices, batch)))
    }

    /// Says what to do where memory did not suffice for so many samples.
    fn explain(&self, error: lddgan::Error, samples: usize) -> anyhow::Error {
        self.memory.explain(error.into(), BATCH_FIELD, samples)
    }
}

impl<D: Iterator<Item = Result<Drawn>>> Training for Gan<'_, D> {
    fn batch(&self) -> usize {
        self.preset.train_gan.batch
    }

    /// On a GPU, a step begins while the one before is under way, and the numbers of several are read together.
    fn steps(&mut self, position: &Position, total: u64, most: usize) -> Result<Vec<Taken>> {
        let count = if self.device.is_cuda() && self.alone { most.min(STEPS_A_READ) } else { 1 };
        let begun = (0..count).map(|i| self.begin(position, i as u64, total)).collect::<Result<Vec<_>>>()?;
        let (steps, inputs): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
        let samples = inputs.first().map_or(0, |(indices, _): &(Vec<u32>, Tensor)| indices.len());
        let losses = self.trainer.losses(&steps).map_err(|error| self.explain(error, samples))?;
        let taken = |((indices, batch), losses)| Taken { indices, batch, shown: named(losses), logged: logged(losses) };
        Ok(inputs.into_iter().zip(&losses).map(taken).collect())
    }

    fn state(&self) -> Result<TensorMap> {
        Ok(self.trainer.state()?)
    }

    fn snapshot(&self, position: &Position) -> Result<Snapshot> {
        snapshot(&self.trainer, &self.autoencoder, &self.judge, position, self.device)
    }

    /// The discriminator, which another run may start with.
    fn finish(&self, run: &Run) -> Result<()> {
        if run.supersedes() {
            let file = discriminator_file(&self.trainer, &self.autoencoder, &run.position).to_bytes(DType::F16)?;
            files::write_atomic(&run.file("discriminator.safetensors"), &file)?;
        }
        Ok(())
    }
}
