//! The training loop of the autoencoder: L1, vector quantisation and a patch discriminator.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use lddgan::backend::CandleBackend;
use lddgan::compare::psnr;
use lddgan::networks::{Decoder, Encoder};
use lddgan::noise::Stream;
use lddgan::parameters::TensorMap;
use lddgan::{FileConfig, ModelFile, Provenance};

use super::backbone::Backbone;
use super::samples::Samples;
use super::step::{Given, Setup, Trainer, scalar};
use crate::checkpoint::{Metric, Position, Score, Stage};
use crate::data::{DataOptions, ImageSet, prefetch};
use crate::distributed::{self, Processes};
use crate::eval::lpips::Lpips;
use crate::memory;
use crate::precision::Precision;
use crate::preset::{AutoencoderTraining, Preset};
use crate::run::{Ended, EpochOrder, Run, RunOptions, Snapshot, Taken, Training};
use crate::{files, grid};

/// Where a preset has the batch.
const BATCH_FIELD: &str = "train_autoencoder.batch";
/// Images that the linear path is fitted on.
const PCA_IMAGES: usize = 512;
/// Images in the picture of a checkpoint.
const PICTURE_IMAGES: usize = 16;

/// Options of `lddgan train autoencoder`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,
    #[command(flatten)]
    pub data: DataOptions,
    /// Other images, whose reconstruction PSNR is reported
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub validation: Vec<PathBuf>,
    /// Weights of the perceptual loss LPIPS: torchvision's VGG-16 and the distance's own, PyTorch or safetensors files
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub lpips: Vec<PathBuf>,
    /// A network that recognises images, in an ONNX file, for the losses that the preset takes on its features (convolutions, Clip,
    /// Relu and Add; input N x 3 x H x W, RGB from 0 to 255)
    #[arg(long, value_name = "FILE")]
    pub features: Option<PathBuf>,
    /// Start with the autoencoder of this file instead of principal components
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub autoencoder: Option<PathBuf>,
    /// Train the decoder alone; latents stay what they are, so a generator trained on them stays valid
    #[arg(long)]
    pub hold_encoder: bool,
    /// Show the discriminators samples of this model's generator beside reconstructions, so that the decoder learns to make
    /// both look real; the generator must have been trained on latents of this encoder
    #[arg(long, value_name = "FILE", requires = "hold_encoder")]
    pub generator: Option<PathBuf>,
}

/// What goes into a checkpoint.
fn snapshot(trainer: &Trainer, position: &Position, data: &DataOptions, validation: &Validation) -> Result<Snapshot> {
    let (psnr, count) = (validation.psnr(&trainer.encoder, &trainer.decoder)?, validation.count()?);
    let provenance = Provenance {
        name: format!("{}-autoencoder", position.preset.name),
        data: data.name(),
        steps: [("autoencoder".to_string(), position.step)].into(),
        images: [("autoencoder".to_string(), position.images)].into(),
        metrics: [(format!("reconstruction PSNR in dB ({count} images)"), psnr)].into(),
        revision: crate::revision(),
        directions: Vec::new(),
    };
    let autoencoder = position.preset.autoencoder.clone();
    let config = FileConfig { autoencoder: Some(autoencoder), ..Default::default() };
    let file = ModelFile { config, provenance, tensors: trainer.parameters.tensors() };
    Ok(Snapshot {
        state: trainer.state()?,
        model: file.to_bytes(DType::F32)?,
        score: Some(Score { metric: Metric::Psnr, value: psnr, count }),
        figures: Vec::new(),
        picture: validation.picture(&trainer.encoder, &trainer.decoder)?,
    })
}

/// This process's share of a batch.
struct Batch {
    /// The positions of its samples in the endless sequence of epochs.
    samples: Vec<u64>,
    /// Which images they are.
    indices: Vec<u32>,
    /// (N, C, H, W), on the CPU.
    images: Tensor,
}

/// The batches from this position on, without end.
fn batches(
    images: ImageSet,
    training: &AutoencoderTraining,
    position: &Position,
    processes: &Processes,
) -> impl Iterator<Item = Result<Batch>> + Send + use<> {
    let (seed, first, step) = (position.seed, position.images, position.step);
    let (batch, crop, share) = (training.batch as u64, training.crop, processes.share());
    let mut order = EpochOrder::new(seed, 2 * images.len());
    (0..).map(move |i| {
        let samples = share(first + i * batch..first + (i + 1) * batch);
        let indices = order.batch(&samples);
        let images = images.batch(&indices, &Device::Cpu)?;
        let images = match crop {
            Some(crop) => random_crop(&images, crop, &mut Stream::new(seed, step + i, "crop"))?,
            None => images,
        };
        Ok(Batch { samples, indices, images })
    })
}

/// A square of `size` pixels at the same random place of every image (N, C, H, W).
fn random_crop(images: &Tensor, size: usize, stream: &mut Stream) -> Result<Tensor> {
    let (_, _, h, w) = images.dims4()?;
    let mut place = |length: usize| stream.below((length - size + 1) as u32) as usize;
    let (top, left) = (place(h), place(w));
    Ok(images.narrow(2, top, size)?.narrow(3, left, size)?.contiguous()?)
}

/// Images that are reconstructed at every checkpoint.
struct Validation {
    images: Tensor,
}

impl Validation {
    fn count(&self) -> Result<usize> {
        Ok(self.images.dim(0)?)
    }

    fn psnr(&self, encoder: &Encoder, decoder: &Decoder) -> Result<f64> {
        let mut sum = 0.0;
        for start in (0..self.count()?).step_by(PICTURE_IMAGES) {
            let images = self.images.narrow(0, start, PICTURE_IMAGES.min(self.count()? - start))?;
            let restored =
                super::reconstruct(&mut CandleBackend, encoder, decoder, &images)?.detach().clamp(-1f32, 1f32)?;
            sum += scalar(&(restored - images)?.sqr()?.sum_all()?)?;
        }
        Ok(psnr(sum / self.images.elem_count() as f64, 2.0))
    }

    /// Pairs of original and reconstruction.
    fn picture(&self, encoder: &Encoder, decoder: &Decoder) -> Result<RgbImage> {
        let images = self.images.narrow(0, 0, PICTURE_IMAGES.min(self.count()?))?;
        let restored = super::reconstruct(&mut CandleBackend, encoder, decoder, &images)?.detach();
        let pairs = grid::to_images(&images)?.into_iter().zip(grid::to_images(&restored)?);
        let pictures: Vec<_> = pairs.flat_map(|(original, restored)| [original, restored]).collect();
        Ok(grid::arrange(&pictures, 8))
    }
}

/// The seconds of a step with the first `count` of these images, of a trainer of its own.
fn probe(preset: &Preset, precision: Precision, images: &Tensor, count: usize) -> Result<f64> {
    let (device, processes) = (images.device(), &Processes::alone());
    let setup = Setup { preset, seed: 0, hold_encoder: false, precision, device, processes };
    let mut trainer = Trainer::new(&setup, Given::default())?;
    let started = Instant::now();
    trainer.step(&images.narrow(0, 0, count)?, None, &(0..count as u64).collect::<Vec<_>>(), 0, u64::MAX)?;
    Ok(started.elapsed().as_secs_f64())
}

/// The networks that the options name and the preset needs.
fn given(options: &Options, preset: &Preset, device: &Device) -> Result<Given> {
    let training = preset.autoencoder_training()?;
    let needed = training.features > 0.0 || training.projected > 0.0;
    let name = &preset.name;
    match &options.features {
        None => ensure!(!needed, "preset {name}: its losses on features need a network: name a file with --features"),
        Some(_) => {
            ensure!(needed, "preset {name} has no losses on features (features, projected): leave --features out");
        }
    }
    Ok(Given {
        lpips: (!options.lpips.is_empty()).then(|| Lpips::load(&options.lpips, device)).transpose()?,
        backbone: options.features.as_ref().map(|path| Backbone::load(path, device)).transpose()?,
    })
}

/// Takes up the autoencoder of a file.
fn start_from(trainer: &Trainer, preset: &Preset, path: &Path) -> Result<()> {
    let (file, name) = files::read_model(path)?;
    let same = file.config.autoencoder.as_ref() == Some(&preset.autoencoder);
    ensure!(same, "{name}: its autoencoder is not the one of preset {}", preset.name);
    Ok(trainer.parameters.load(&file.tensors, &name)?)
}

/// Runs `lddgan train autoencoder`.
pub fn train(options: &Options) -> Result<Ended> {
    if options.run.dry_run {
        return options.run.print_memory(BATCH_FIELD, |preset, precision| {
            let estimate = memory::Estimate::of_autoencoder(preset, precision, options.generator.is_some())?;
            Ok((estimate, preset.autoencoder_training()?.batch))
        });
    }
    let device = options.run.device()?;
    distributed::run(&device, |processes| train_among(processes, options, &device))
}

fn train_among(processes: &Processes, options: &Options, device: &Device) -> Result<Ended> {
    let (mut run, checkpoint) = Run::open(&options.run, Stage::Autoencoder, processes)?;
    run.limit_reading();
    let preset = run.position.preset.clone();
    let training = preset.autoencoder_training()?;
    let batch = training.batch;
    processes.check_batch(BATCH_FIELD, batch, 1)?;
    let size = preset.autoencoder.image_size;
    let images = options.data.load(size)?;
    let validation = match &options.validation[..] {
        paths @ [_, ..] => options.data.load_validation(paths, size)?.batch_all(device)?,
        [] => images.batch(&(0..PICTURE_IMAGES.min(images.len()) as u32).collect::<Vec<_>>(), device)?,
    };
    let validation = Validation { images: validation };

    let precision = options.run.precision;
    let inputs = [
        ("data", images.sha256()),
        ("precision", precision.to_string()),
        ("lpips", if options.lpips.is_empty() { "not given" } else { "given" }.to_string()),
        ("features", if options.features.is_none() { "not given" } else { "given" }.to_string()),
        ("hold-encoder", options.hold_encoder.to_string()),
        ("generator", if options.generator.is_none() { "not given" } else { "given" }.to_string()),
    ];
    run.accept(inputs)?;
    let count = processes.share()(0..batch as u64).len();
    let first = images.batch(&[0], device)?;
    let first = training.crop.map_or(Ok(first.clone()), |crop| first.narrow(2, 0, crop)?.narrow(3, 0, crop))?;
    run.expect_step(1.0 / count as f64, || probe(&preset, precision, &first, 1))?;

    let seed = run.position.seed;
    let given = given(options, &preset, device)?;
    let setup = Setup { preset: &preset, seed, hold_encoder: options.hold_encoder, precision, device, processes };
    let mut trainer = Trainer::new(&setup, given)?;
    let samples = options.generator.as_ref().map(|path| Samples::load(path, &preset, device)).transpose()?;
    match (checkpoint, &options.autoencoder) {
        (Some((checkpoint, path)), _) => trainer.load(&checkpoint, &path.display().to_string())?,
        (None, Some(path)) => start_from(&trainer, &preset, path)?,
        (None, None) => {
            let first: Vec<u32> = (0..PCA_IMAGES.min(images.len()) as u32).collect();
            trainer.start(&preset, &images.batch(&first, device)?)?;
        }
    }

    let total = options.run.images.unwrap_or(training.images);
    processes.check_same(&format!("{:?} {total} {} {}", run.position, images.len(), options.hold_encoder))?;
    let memory = memory::Estimate::of_autoencoder(&preset, precision, samples.is_some())?;
    let batches = prefetch(batches(images, training, &run.position, processes));
    let data = &options.data;
    let mut training = Autoencoder { trainer, training, samples, batches, validation, data, memory, device };
    crate::run::train(&mut run, &mut training, total)
}

/// The autoencoder, and what it is trained with.
struct Autoencoder<'a, B> {
    trainer: Trainer,
    training: &'a AutoencoderTraining,
    samples: Option<Samples>,
    batches: B,
    validation: Validation,
    data: &'a DataOptions,
    memory: memory::Estimate,
    device: &'a Device,
}

impl<B> Autoencoder<'_, B> {
    /// As many generated latents as there are samples, of the size of a crop.
    fn generated(&mut self, samples: &[u64], position: &Position) -> Result<Option<Tensor>> {
        let Some(generator) = &mut self.samples else { return Ok(None) };
        let latents = generator.latents(samples, self.training.batch)?;
        let Some(crop) = self.training.crop else { return Ok(Some(latents)) };
        let mut stream = Stream::new(position.seed, position.step, "generated_crop");
        Ok(Some(random_crop(&latents, crop / position.preset.autoencoder.factor(), &mut stream)?))
    }
}

impl<B: Iterator<Item = Result<Batch>>> Training for Autoencoder<'_, B> {
    fn batch(&self) -> usize {
        self.training.batch
    }

    fn steps(&mut self, position: &Position, total: u64, _most: usize) -> Result<Vec<Taken>> {
        let batch = self.batches.next().context("the thread that prepares batches stopped")?;
        let Batch { samples, indices, images } = batch?;
        let batch = images.to_device(self.device)?;
        self.trainer.anneal(position.images as f64 / total as f64);
        let generated = self.generated(&samples, position)?;
        let losses = self.trainer.step(&batch, generated.as_ref(), &samples, position.step, position.images);
        let losses = losses.map_err(|error| self.memory.explain(error.into(), BATCH_FIELD, samples.len()))?;
        let shown = losses.named();
        let logged = shown.iter().copied().chain(self.trainer.gradient_norms()?);
        let logged = logged.map(|(name, value)| (name.to_string(), value)).collect();
        Ok(vec![Taken { indices, batch, shown, logged }])
    }

    fn state(&self) -> Result<TensorMap> {
        Ok(self.trainer.state()?)
    }

    fn snapshot(&self, position: &Position) -> Result<Snapshot> {
        snapshot(&self.trainer, position, self.data, &self.validation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an image whose pixels are their own places, a crop is a square of neighbours, and not always the same one.
    #[test]
    fn crops_are_squares_of_the_image() {
        let image = Tensor::arange(0f32, 30.0, &Device::Cpu).unwrap().reshape((1, 1, 5, 6)).unwrap();
        let mut corners = std::collections::BTreeSet::new();
        for step in 0..200 {
            let crop = random_crop(&image, 4, &mut Stream::new(0, step, "crop")).unwrap();
            let rows = crop.squeeze(0).unwrap().squeeze(0).unwrap().to_vec2::<f32>().unwrap();
            let first = rows[0][0];
            for (y, row) in rows.iter().enumerate() {
                let expected: Vec<f32> = (0..4).map(|x| first + (6 * y + x) as f32).collect();
                assert_eq!(row, &expected);
            }
            corners.insert(first as u32);
        }
        assert_eq!(corners.into_iter().collect::<Vec<_>>(), [0, 1, 2, 6, 7, 8]);
    }
}
