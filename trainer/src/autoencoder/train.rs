//! The training loop of the autoencoder: L1, vector quantisation and a patch discriminator.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use lddgan::backend::{CandleBackend, nearest_codes};
use lddgan::model_file::FileConfig;
use lddgan::networks::{Decoder, Encoder, PatchDiscriminator};
use lddgan::noise::Stream;
use lddgan::parameters::{Parameters, TensorMap};
use lddgan::{ModelFile, Provenance};

use super::{kmeans, pca::PatchPca};
use crate::adam::Adam;
use crate::checkpoint::{Checkpoint, named};
use crate::distributed::{self, Processes};
use crate::preset::{AutoencoderTraining, Preset};
use crate::progress::Progress;
use crate::run::{Run, RunOptions, Sampler};
use crate::{files, grid};

/// Adam's betas for both networks (as VQGAN).
const BETAS: (f64, f64) = (0.5, 0.9);
/// Images that the linear path is fitted on.
const PCA_IMAGES: usize = 512;
/// Latent vectors that the codebook is fitted on.
const KMEANS_POINTS: usize = 40_000;
/// Images in the picture of a checkpoint.
const PICTURE_IMAGES: usize = 16;

/// Options of `lddgan train autoencoder`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub run: RunOptions,
    /// Other images, of which the PSNR of the reconstruction is reported
    #[arg(long, value_name = "PATH")]
    pub validation: Option<PathBuf>,
    /// Train the decoder alone; latents stay what they are, so a generator trained on them stays valid
    #[arg(long)]
    pub hold_encoder: bool,
}

/// The networks under training.
struct Trainer {
    options: AutoencoderTraining,
    processes: Processes,
    hold_encoder: bool,
    encoder: Encoder,
    decoder: Decoder,
    parameters: Parameters,
    optimizer: Adam,
    critic: PatchDiscriminator,
    critic_parameters: Parameters,
    critic_optimizer: Adam,
}

/// The losses of one step.
#[derive(Default)]
struct Losses {
    l1: f64,
    quantization: f64,
    adversarial: f64,
    critic: f64,
}

impl Losses {
    fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("l1", self.l1),
            ("quantization", self.quantization),
            ("adversarial", self.adversarial),
            ("discriminator", self.critic),
        ]
    }
}

impl Trainer {
    fn new(preset: &Preset, seed: u64, hold_encoder: bool, device: &Device, processes: &Processes) -> Result<Self> {
        let options = preset.autoencoder_training()?.clone();
        let parameters = Parameters::new(seed, device);
        let vb = parameters.var_builder();
        let encoder = Encoder::new(vb.pp("encoder"), &preset.autoencoder)?;
        let decoder = Decoder::new(vb.pp("decoder"), &preset.autoencoder)?;
        let critic_parameters = Parameters::new(seed, device);
        let critic = PatchDiscriminator::new(
            critic_parameters.var_builder().pp("patch_discriminator"),
            preset.autoencoder.image_channels,
            options.discriminator_channels,
            options.discriminator_layers,
        )?;
        Ok(Self {
            optimizer: Adam::new(&parameters, options.learning_rate, BETAS)?,
            critic_optimizer: Adam::new(&critic_parameters, options.discriminator_learning_rate, BETAS)?,
            options,
            processes: processes.clone(),
            hold_encoder,
            encoder,
            decoder,
            parameters,
            critic,
            critic_parameters,
        })
    }

    /// Starts from principal components, and from a codebook fitted to the first latents.
    fn start(&self, preset: &Preset, images: &Tensor, seed: u64, device: &Device) -> Result<()> {
        let config = &preset.autoencoder;
        if config.linear_path {
            PatchPca::fit(images, config.factor(), config.latent_channels)?
                .set_linear_path(&self.parameters, device)?;
        }
        let latents = self.encoder.forward(&mut CandleBackend, images)?.detach();
        let points = latents.permute((0, 2, 3, 1))?.contiguous()?.reshape(((), config.latent_channels))?;
        let stride = points.dim(0)?.div_ceil(KMEANS_POINTS);
        let chosen: Vec<u32> = (0..points.dim(0)? as u32).step_by(stride).collect();
        let chosen = Tensor::from_vec(chosen.clone(), chosen.len(), device)?;
        let codebook = kmeans::centres(&points.index_select(&chosen, 0)?, config.codes, seed)?;
        for (name, var) in self.parameters.vars() {
            if name == "decoder.codebook" {
                var.set(&codebook.to_device(device)?)?;
            }
        }
        // Processors may differ in the last bits.
        Ok(self.processes.copy_first(&self.parameters)?)
    }

    fn step(&mut self, images: &Tensor, adversarial: bool) -> Result<Losses> {
        let backend = &mut CandleBackend;
        let mut latent = self.encoder.forward(backend, images)?;
        if self.hold_encoder {
            latent = latent.detach();
        }
        let (n, c, h, w) = latent.dims4()?;
        let codebook = self.decoder.codebook().context("only autoencoders with a codebook are trained here")?;
        let codes = codebook.index_select(&nearest_codes(&latent, codebook)?, 0)?;
        let codes = codes.reshape((n, h, w, c))?.permute((0, 3, 1, 2))?.contiguous()?;
        // The decoder sees the codes; gradients pass straight through to the encoder.
        let quantized = (&latent + (&codes - &latent)?.detach())?;
        let restored = self.decoder.forward(backend, &quantized)?;

        let l1 = (&restored - images)?.abs()?.mean_all()?;
        let commitment = (&latent - codes.detach())?.sqr()?.mean_all()?;
        let attraction = (&codes - latent.detach())?.sqr()?.mean_all()?;
        let quantization = (attraction + (commitment * self.options.commitment)?)?;
        let mut loss = (&l1 + &quantization)?;
        let mut losses = Losses { l1: scalar(&l1)?, quantization: scalar(&quantization)?, ..Default::default() };
        if adversarial {
            let verdict = self.critic.forward(backend, &restored)?.mean_all()?.neg()?;
            losses.adversarial = scalar(&verdict)?;
            loss = (loss + (verdict * self.options.adversarial)?)?;
        }
        self.optimizer.step(&self.processes.backward(&loss, &self.parameters)?)?;
        if adversarial {
            losses.critic = self.critic_step(images, &restored.detach())?;
        }
        let Losses { l1, quantization, adversarial, critic } = &mut losses;
        self.processes.average(&mut [l1, quantization, adversarial, critic])?;
        Ok(losses)
    }

    /// Hinge loss of the patch discriminator.
    fn critic_step(&mut self, real: &Tensor, fake: &Tensor) -> Result<f64> {
        let backend = &mut CandleBackend;
        let on_real = (1.0 - self.critic.forward(backend, real)?)?.relu()?.mean_all()?;
        let on_fake = (self.critic.forward(backend, fake)? + 1.0)?.relu()?.mean_all()?;
        let loss = ((on_real + on_fake)? * 0.5)?;
        self.critic_optimizer.step(&self.processes.backward(&loss, &self.critic_parameters)?)?;
        scalar(&loss)
    }

    fn state(&self) -> Result<TensorMap> {
        let own = named("autoencoder", self.parameters.tensors()).chain(named("adam", self.optimizer.tensors()?));
        let critic = named("critic", self.critic_parameters.tensors());
        Ok(own.chain(critic).chain(named("critic_adam", self.critic_optimizer.tensors()?)).collect())
    }

    fn load(&mut self, checkpoint: &Checkpoint, file: &str) -> Result<()> {
        self.parameters.load(&checkpoint.part("autoencoder"), file)?;
        self.critic_parameters.load(&checkpoint.part("critic"), file)?;
        self.optimizer.load(&checkpoint.part("adam"))?;
        self.critic_optimizer.load(&checkpoint.part("critic_adam"))?;
        Ok(())
    }

    /// Writes checkpoint, model file and picture.
    fn save(&self, run: &mut Run, validation: &Validation) -> Result<f64> {
        run.save(self.state()?)?;
        let psnr = validation.psnr(&self.encoder, &self.decoder)?;
        let position = &run.position;
        let provenance = Provenance {
            name: format!("{}-autoencoder", position.preset.name),
            data: files::name(&run.options.data),
            steps: [("autoencoder".to_string(), position.step)].into(),
            images: [("autoencoder".to_string(), position.images)].into(),
            metrics: [(format!("reconstruction PSNR in dB ({} images)", validation.count()?), psnr)].into(),
            revision: crate::revision(),
        };
        let autoencoder = position.preset.autoencoder.clone();
        let config = FileConfig { autoencoder: Some(autoencoder), ..Default::default() };
        let file = ModelFile { config, provenance, tensors: self.parameters.tensors() };
        files::write_atomic(&run.file("autoencoder.safetensors"), &file.to_bytes(DType::F32)?)?;
        validation.picture(&self.encoder, &self.decoder, &run.file(&format!("grid-{:08}.png", run.position.images)))?;
        Ok(psnr)
    }
}

/// A square of `size` pixels at the same random place of every image (N, C, H, W).
fn random_crop(images: &Tensor, size: usize, stream: &mut Stream) -> Result<Tensor> {
    let (_, _, h, w) = images.dims4()?;
    let mut place = |length: usize| stream.below((length - size + 1) as u32) as usize;
    let (top, left) = (place(h), place(w));
    Ok(images.narrow(2, top, size)?.narrow(3, left, size)?.contiguous()?)
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_scalar::<f32>()?))
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
            let restored = super::reconstruct(encoder, decoder, &images)?.clamp(-1f32, 1f32)?;
            sum += scalar(&(restored - images)?.sqr()?.sum_all()?)?;
        }
        Ok(super::psnr(sum / self.images.elem_count() as f64))
    }

    /// Pairs of original and reconstruction.
    fn picture(&self, encoder: &Encoder, decoder: &Decoder, path: &Path) -> Result<()> {
        let images = self.images.narrow(0, 0, PICTURE_IMAGES.min(self.count()?))?;
        let restored = super::reconstruct(encoder, decoder, &images)?;
        let pairs = grid::to_images(&images)?.into_iter().zip(grid::to_images(&restored)?);
        let pictures: Vec<_> = pairs.flat_map(|(original, restored)| [original, restored]).collect();
        Ok(files::write_atomic(path, &grid::to_png(&grid::arrange(&pictures, 8))?)?)
    }
}

/// Runs `lddgan train autoencoder`.
pub fn train(options: &Options) -> Result<()> {
    let device = Device::Cpu;
    distributed::run(&device, |processes| train_among(processes, options, &device))
}

fn train_among(processes: &Processes, options: &Options, device: &Device) -> Result<()> {
    let preset = Preset::load(&options.run.preset)?;
    let training = preset.autoencoder_training()?;
    let batch = training.batch;
    processes.check_batch("train_autoencoder.batch", batch, 1)?;
    let (mut run, checkpoint) = Run::open(&options.run, "autoencoder", &preset, processes)?;
    let size = preset.autoencoder.image_size;
    let images = crate::data::load(&options.run.data, size)?;
    let validation = match &options.validation {
        Some(path) => crate::data::load(path, size)?.batch_all(device)?,
        None => images.batch(&(0..PICTURE_IMAGES.min(images.len()) as u32).collect::<Vec<_>>(), device)?,
    };
    let validation = Validation { images: validation };

    let seed = run.position.seed;
    let mut trainer = Trainer::new(&preset, seed, options.hold_encoder, device, processes)?;
    match checkpoint {
        Some(checkpoint) => trainer.load(&checkpoint, &run.file("state.safetensors").display().to_string())?,
        None => {
            let first: Vec<u32> = (0..PCA_IMAGES.min(images.len()) as u32).collect();
            trainer.start(&preset, &images.batch(&first, device)?, seed, device)?;
        }
    }
    println!("before training: PSNR {:.2} dB", validation.psnr(&trainer.encoder, &trainer.decoder)?);

    let total = options.run.images.unwrap_or(training.images);
    processes.check_same(&format!("{:?} {total} {} {}", run.position, images.len(), options.hold_encoder))?;
    let mut sampler = Sampler::new(seed, 2 * images.len());
    let mut progress = Progress::new(run.position.images, total);
    while !run.finished(total)? {
        let position = run.position.images;
        let samples = processes.share(position..position + batch as u64);
        let own = images.batch(&sampler.batch(&samples), device)?;
        let own = match training.crop {
            Some(crop) => random_crop(&own, crop, &mut Stream::new(seed, run.position.step, "crop"))?,
            None => own,
        };
        let losses = trainer.step(&own, position >= training.adversarial_from)?;
        run.advance(batch);
        progress.update(run.position.images, &losses.named());
        if run.checkpoint_due() {
            let psnr = trainer.save(&mut run, &validation)?;
            progress.note(&format!("checkpoint at {} images: PSNR {psnr:.2} dB", run.position.images));
        }
    }
    if !processes.is_first() {
        return Ok(());
    }
    let psnr = trainer.save(&mut run, &validation).context("the last checkpoint could not be written")?;
    println!(
        "{} images in {:.0} s: PSNR {psnr:.2} dB; wrote {}",
        run.position.images,
        run.position.seconds,
        run.file("autoencoder.safetensors").display()
    );
    Ok(())
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
