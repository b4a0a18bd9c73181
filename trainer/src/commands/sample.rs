//! `lddgan sample`: images from seeds.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use lddgan_trainer::network::BackendName;
use lddgan_trainer::sampling::Sampler;
use lddgan_trainer::{files, grid};

use super::read_model;

#[derive(Args)]
pub struct Sample {
    /// Model file
    #[arg(long)]
    model: PathBuf,
    /// Who computes
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Seed of the first image; the others follow it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of images
    #[arg(long, default_value_t = 16)]
    count: u64,
    /// Folder that gets one PNG per image, named by model and seed
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Picture (.png or .jpg) that gets all images side by side
    #[arg(long, value_name = "FILE", value_parser = grid::path)]
    grid: Option<PathBuf>,
    /// Images computed at a time
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// With `--backend wgpu`, time the kernels on this GPU first and use the fastest; the times are kept for other runs
    #[arg(long)]
    tune: bool,
}

pub fn sample(options: &Sample) -> Result<()> {
    anyhow::ensure!(options.out.is_some() || options.grid.is_some(), "say where to: --out FOLDER or --grid FILE");
    let (file, name) = read_model(&options.model)?;
    let mut sampler = Sampler::new(&file, &name, options.backend)?;
    let end = options.seed.checked_add(options.count).context("--seed and --count together are too large")?;
    let seeds: Vec<u64> = (options.seed..end).collect();
    if options.tune {
        sampler.tune(options.batch.clamp(1, seeds.len().max(1)))?;
    }
    let started = std::time::Instant::now();
    let mut pictures = Vec::new();
    for seeds in seeds.chunks(options.batch.max(1)) {
        pictures.extend(grid::to_images(&sampler.images(seeds)?)?);
    }
    let seconds = started.elapsed().as_secs_f64();
    if let Some(folder) = &options.out {
        for (seed, picture) in seeds.iter().zip(&pictures) {
            let path = folder.join(format!("{}-{seed}.png", file.provenance.name));
            files::write_atomic(&path, &grid::to_png(picture)?)?;
        }
    }
    if let Some(path) = &options.grid {
        let columns = (pictures.len() as f64).sqrt().ceil() as usize;
        grid::write(path, &grid::arrange(&pictures, columns))?;
    }
    println!("{} images in {seconds:.2} s ({:.3} s per image)", seeds.len(), seconds / seeds.len().max(1) as f64);
    Ok(())
}
