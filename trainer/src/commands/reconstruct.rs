//! `lddgan reconstruct`: what an autoencoder loses.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::Args;
use lddgan_trainer::data::DataOptions;
use lddgan_trainer::eval::lpips::Lpips;
use lddgan_trainer::eval::ssim::ssim;
use lddgan_trainer::files::read_model;
use lddgan_trainer::{autoencoder, grid, say};

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
    /// Picture (.png or .jpg) that gets the first images, each beside its reconstruction
    #[arg(long, value_name = "FILE", value_parser = grid::path)]
    grid: Option<PathBuf>,
}

pub fn reconstruct(options: &Reconstruct) -> Result<()> {
    const BATCH: usize = 16;
    let device = Device::Cpu;
    let (file, name) = read_model(&options.model)?;
    let (encoder, decoder) = file.autoencoder(&name, &device)?;
    let config = file.config.autoencoder.as_ref().context("the file holds no autoencoder")?;
    let images = options.data.load(config.image_size)?;
    let mut pairs = Vec::new();
    let lpips = (!options.lpips.is_empty()).then(|| Lpips::load(&options.lpips, &device)).transpose()?;
    let (mut psnr_sum, mut ssim_sum, mut lpips_sum) = (0.0, 0.0, 0.0);
    for start in (0..images.len() as u32).step_by(BATCH) {
        let indices: Vec<u32> = (start..images.len() as u32).take(BATCH).collect();
        let batch = images.batch(&indices, &device)?;
        let restored = autoencoder::reconstruct(&encoder, &decoder, &batch)?.clamp(-1f32, 1f32)?;
        let error = (&restored - &batch)?.sqr()?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
        psnr_sum += error.into_iter().map(|error| autoencoder::psnr(f64::from(error))).sum::<f64>();
        ssim_sum += ssim(&restored, &batch)?.iter().sum::<f64>();
        if let Some(lpips) = &lpips {
            lpips_sum += f64::from(lpips.distances(&restored, &batch)?.sum_all()?.to_scalar::<f32>()?);
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
    let lpips = lpips.map(|_| format!(", mean LPIPS {:.4}", lpips_sum / count)).unwrap_or_default();
    say!("mean PSNR of {count} images: {:.2} dB, mean SSIM {:.4}{lpips}", psnr_sum / count, ssim_sum / count);
    Ok(())
}
