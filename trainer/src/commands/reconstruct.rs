//! `lddgan reconstruct`: what an autoencoder loses.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use clap::Args;
use lddgan::compare::psnr;
use lddgan_trainer::autoencoder::Lattice;
use lddgan_trainer::data::{DataOptions, ImageSet};
use lddgan_trainer::eval::lpips::Lpips;
use lddgan_trainer::eval::ssim::ssim;
use lddgan_trainer::eval::{self, Evaluation, Metric};
use lddgan_trainer::files::read_model;
use lddgan_trainer::{autoencoder, grid, say, warn};

use super::FeatureNetwork;

#[derive(Args)]
pub struct Reconstruct {
    /// File that `lddgan train autoencoder` wrote
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// Weights of LPIPS: torchvision's VGG-16 and the distance's own, PyTorch or safetensors files
    #[arg(long, value_name = "FILE", num_args = 1..)]
    lpips: Vec<PathBuf>,
    #[command(flatten)]
    network: FeatureNetwork,
    /// Real images that the network's features of reconstructions are compared with, by FID and KID (default: those of --data)
    #[arg(long, value_name = "PATH")]
    real: Vec<PathBuf>,
    /// Number of these real images, spread evenly; all unless given
    #[arg(long, requires = "real")]
    real_count: Option<usize>,
    /// Keeps the network's features of the real images (.safetensors or .npy): read if it is there, else written
    #[arg(long, value_name = "FILE")]
    feature_cache: Option<PathBuf>,
    /// Picture (.png or .jpg) that gets the first images, each beside its reconstruction
    #[arg(long, value_name = "FILE", value_parser = grid::path)]
    grid: Option<PathBuf>,
}

/// Sums of figures over images.
#[derive(Default)]
struct Sums {
    psnr: f64,
    ssim: f64,
    lpips: f64,
    /// Of reconstructions and of the images.
    lattice: [f64; 2],
}

impl Sums {
    fn add(&mut self, restored: &Tensor, images: &Tensor, lpips: Option<&Lpips>, lattice: &Lattice) -> Result<()> {
        let error = (restored - images)?.sqr()?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
        self.psnr += error.into_iter().map(|error| psnr(f64::from(error), 2.0)).sum::<f64>();
        self.ssim += ssim(restored, images)?.iter().sum::<f64>();
        if let Some(lpips) = lpips {
            self.lpips += f64::from(lpips.distances(restored, images)?.sum_all()?.to_scalar::<f32>()?);
        }
        if images.dim(2)? >= Lattice::WINDOW {
            for (sum, images) in self.lattice.iter_mut().zip([restored, images]) {
                *sum += lattice.decibels(images)?.iter().sum::<f64>();
            }
        }
        Ok(())
    }
}

pub fn reconstruct(options: &Reconstruct) -> Result<()> {
    const BATCH: usize = 16;
    let device = Device::Cpu;
    let network = options.network.load()?;
    let (file, name) = read_model(&options.model)?;
    let (encoder, decoder) = file.autoencoder(&name, &device)?;
    let config = file.config.autoencoder.as_ref().context("the file holds no autoencoder")?;
    let images = options.data.load(config.image_size)?;
    let lpips = (!options.lpips.is_empty()).then(|| Lpips::load(&options.lpips, &device)).transpose()?;
    let lattice = Lattice::new(&device)?;
    let mut pairs = Vec::new();
    let mut sums = Sums::default();
    let mut all = ImageSet::new(config.image_size);
    for start in (0..images.len() as u32).step_by(BATCH) {
        let indices: Vec<u32> = (start..images.len() as u32).take(BATCH).collect();
        let batch = images.batch(&indices, &device)?;
        let restored = autoencoder::reconstruct(&encoder, &decoder, &batch)?.clamp(-1f32, 1f32)?;
        sums.add(&restored, &batch, lpips.as_ref(), &lattice)?;
        if network.is_some() {
            all.append(&restored)?;
        }
        if start == 0 {
            let both = grid::to_images(&batch)?.into_iter().zip(grid::to_images(&restored)?);
            pairs.extend(both.flat_map(|(original, restored)| [original, restored]));
        }
    }
    if let Some(path) = &options.grid {
        grid::write(path, &grid::arrange(&pairs, 8))?;
    }
    let count = images.len() as f64;
    let lpips = lpips.map(|_| format!(", mean LPIPS {:.4}", sums.lpips / count)).unwrap_or_default();
    say!("mean PSNR of {count} images: {:.2} dB, mean SSIM {:.4}{lpips}", sums.psnr / count, sums.ssim / count);
    if images.size() >= Lattice::WINDOW {
        let [restored, original] = sums.lattice.map(|sum| sum / count);
        say!("excess of patterns of 4 pixels: {restored:.2} dB, of the images themselves {original:.2} dB");
    }
    let Some(network) = network else { return Ok(()) };
    let real = match &options.real[..] {
        [] => images,
        paths => options.data.load_validation(paths, config.image_size)?,
    };
    let evaluation = Evaluation::prepare(
        &real,
        Some(network),
        eval::Options {
            metrics: &[Metric::Fid, Metric::Kid],
            leave_out: true,
            generated: all.len() as u64,
            real: options.real_count,
            cache: options.feature_cache.as_deref(),
            seed: 0,
        },
    )?;
    for warning in evaluation.warnings() {
        warn!("warning: {warning}");
    }
    super::eval::print_measured(&evaluation.measure(&all)?);
    Ok(())
}
