//! `lddgan data encode`: the latents of a set of images in a small file, to train elsewhere without the images.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::Tensor;

use super::latent_cache::Cache;
use super::latents::Encoded;
use super::rounded::Rounded;
use crate::backend::{BackendName, device};
use crate::data::DataOptions;
use crate::say;
use crate::{files, interrupts};

/// Options of `lddgan data encode`.
#[derive(Debug, Clone, clap::Args)]
pub struct EncodeOptions {
    #[command(flatten)]
    pub data: DataOptions,
    /// The file that `lddgan train autoencoder` wrote
    #[arg(long, value_name = "FILE")]
    pub autoencoder: PathBuf,
    /// File to write, for `lddgan train gan --latents`; its name must end with .safetensors
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Whether to encode each image's mirror image too; a preset with `mirrored = false` does without
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub mirrored: bool,
    /// Backend that computes
    #[arg(long, default_value = "cpu")]
    pub backend: BackendName,
}

/// Runs `lddgan data encode`.
pub fn encode(options: &EncodeOptions) -> Result<()> {
    let out = options.out.display();
    ensure!(
        options.out.extension().is_some_and(|end| end == "safetensors"),
        "{out}: its name must end with .safetensors"
    );
    interrupts::watch()?;
    let device = device(options.backend)?;
    let (file, name) = files::read_model(&options.autoencoder)?;
    let encoder = file.encoder(&name, &device)?;
    let size = file.config.autoencoder.as_ref().map_or(0, |config| config.image_size);
    let images = options.data.load(size)?;
    let means =
        Encoded::new(&encoder, &images, options.mirrored, &device)?.means.to_device(&candle_core::Device::Cpu)?;
    let rounded = Rounded::new(&means)?;
    let root_mean_square =
        |x: &Tensor| -> candle_core::Result<f64> { Ok(f64::from(x.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt()) };
    let error = root_mean_square(&(rounded.values()? - &means)?)?;
    let centred = means.broadcast_sub(&means.mean_keepdim(0)?)?;
    let share = 100.0 * error / root_mean_square(&centred)?;
    Cache::new(options.out.clone(), &file, Some(images.sha256()), options.mirrored)?
        .write_rounded(&rounded, options.mirrored)?;
    say!("{} latents; rounding moves them by {share:.2} % of their deviation", means.dim(0)?);
    say!("wrote {out}");
    Ok(())
}
