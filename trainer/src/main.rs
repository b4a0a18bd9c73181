//! `lddgan`: trains, samples and inspects Latent Denoising Diffusion GANs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::{Args, Parser, Subcommand};
use lddgan::ModelFile;
use lddgan_trainer::{autoencoder, data, files, gan, grid};

/// Latent Denoising Diffusion GAN: train it, make images with it
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train an autoencoder, or generator and discriminator on its latents
    #[command(subcommand)]
    Train(Train),
    /// Make images from seeds
    Sample(Sample),
    /// Encode and decode images, and measure what is lost
    Reconstruct(Reconstruct),
    /// Show what a model file holds
    Info(Info),
}

#[derive(Subcommand)]
enum Train {
    /// Train the autoencoder: images to latents and back
    Autoencoder(autoencoder::Options),
    /// Train generator and discriminator on the latents of an autoencoder
    Gan(gan::Options),
}

#[derive(Args)]
struct Sample {
    /// Model file
    #[arg(long)]
    model: PathBuf,
    /// Seed of the first image; the others follow it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of images
    #[arg(long, default_value_t = 16)]
    count: u64,
    /// Folder that gets one PNG per image, named by model and seed
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// PNG file that gets all images side by side
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,
    /// Images computed at a time
    #[arg(long, default_value_t = 16)]
    batch: usize,
}

#[derive(Args)]
struct Reconstruct {
    /// File that `lddgan train autoencoder` wrote
    #[arg(long)]
    model: PathBuf,
    /// Images: a folder (jpg, png, webp) or a Parquet file with a column `image.bytes`
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// PNG file that gets the first images, each beside its reconstruction
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,
}

#[derive(Args)]
struct Info {
    /// Model file
    #[arg(long)]
    model: PathBuf,
}

fn main() -> ExitCode {
    // SAFETY: no other thread runs yet. Candle reads it once per thread; the R1 penalty needs second-order gradients.
    unsafe { std::env::set_var("CANDLE_GRAD_DO_NOT_DETACH", "1") };
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without anyhow's backtrace, which would bury the message.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Train(Train::Autoencoder(options)) => autoencoder::train(options),
        Command::Train(Train::Gan(options)) => gan::train(options),
        Command::Sample(options) => sample(options),
        Command::Reconstruct(options) => reconstruct(options),
        Command::Info(options) => info(options),
    }
}

fn read_model(path: &Path) -> Result<(ModelFile, String)> {
    let name = path.display().to_string();
    Ok((ModelFile::from_bytes(&files::read(path)?, &name)?, name))
}

fn sample(options: &Sample) -> Result<()> {
    anyhow::ensure!(options.out.is_some() || options.grid.is_some(), "say where to: --out FOLDER or --grid FILE");
    let (file, name) = read_model(&options.model)?;
    let model = file.model(&name, &Device::Cpu)?;
    let end = options.seed.checked_add(options.count).context("--seed and --count together are too large")?;
    let seeds: Vec<u64> = (options.seed..end).collect();
    let started = std::time::Instant::now();
    let mut pictures = Vec::new();
    for seeds in seeds.chunks(options.batch.max(1)) {
        let images = model.sample_seeds(seeds, &Device::Cpu)?.image;
        pictures.extend(grid::to_images(&images)?);
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
        files::write_atomic(path, &grid::to_png(&grid::arrange(&pictures, columns))?)?;
    }
    println!("{} images in {seconds:.2} s ({:.3} s per image)", seeds.len(), seconds / seeds.len().max(1) as f64);
    Ok(())
}

fn reconstruct(options: &Reconstruct) -> Result<()> {
    const BATCH: usize = 16;
    let device = Device::Cpu;
    let (file, name) = read_model(&options.model)?;
    let (encoder, decoder) = file.autoencoder(&name, &device)?;
    let images = data::load(&options.data, file.config.autoencoder.image_size)?;
    let mut pairs = Vec::new();
    let mut sum = 0.0;
    for start in (0..images.len() as u32).step_by(BATCH) {
        let indices: Vec<u32> = (start..images.len() as u32).take(BATCH).collect();
        let batch = images.batch(&indices, &device)?;
        let restored = autoencoder::reconstruct(&encoder, &decoder, &batch)?.clamp(-1f32, 1f32)?;
        let error = (&restored - &batch)?.sqr()?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
        sum += error.into_iter().map(|error| autoencoder::psnr(f64::from(error))).sum::<f64>();
        if start == 0 {
            let both = grid::to_images(&batch)?.into_iter().zip(grid::to_images(&restored)?);
            pairs.extend(both.flat_map(|(original, restored)| [original, restored]));
        }
    }
    if let Some(path) = &options.grid {
        files::write_atomic(path, &grid::to_png(&grid::arrange(&pairs, 8))?)?;
    }
    println!("mean PSNR of {} images: {:.2} dB", images.len(), sum / images.len() as f64);
    Ok(())
}

fn info(options: &Info) -> Result<()> {
    let (file, _) = read_model(&options.model)?;
    println!("{}", toml::to_string_pretty(&file.provenance)?);
    println!("{}", toml::to_string_pretty(&file.config)?);
    let count = |network: &str| -> usize {
        let own = file.tensors.iter().filter(|(name, _)| name.split('.').next() == Some(network));
        own.map(|(_, tensor)| tensor.elem_count()).sum()
    };
    for network in ["encoder", "generator", "decoder"] {
        println!("{network}: {} parameters", count(network));
    }
    Ok(())
}
