//! The options that all training commands share.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::Device;

use super::Ended;
use crate::backend::BackendName;
use crate::distributed::Launch;
use crate::memory::{self, Estimate};
use crate::precision::Precision;
use crate::preset::Preset;

/// The preset of a fresh run that names none.
pub const PRESET: &str = "faces64";

/// The options that all training commands share.
#[derive(Debug, Clone, clap::Args)]
pub struct RunOptions {
    /// Preset: a name, or the path of a TOML file (default: faces64; with --resume, that of the run)
    #[arg(long)]
    pub preset: Option<String>,
    /// Folder for checkpoints, logs, pictures and model files
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Continue from the newest whole checkpoint in the output folder. Preset, seed and data must be those of the run; what
    /// may differ is --precision, --hold-encoder and, in the preset, its name, images, learning rates and gradient_clip
    #[arg(long)]
    pub resume: bool,
    /// Start over in a folder that holds a run or a model, and replace them with the first checkpoint
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Say about how much memory the training takes, and do nothing else
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
    /// Be done in this many minutes, the last checkpoint, picture and model file included
    #[arg(long, value_parser = minutes)]
    pub minutes: Option<f64>,
    /// Stop when this many training images were seen in all (default: the preset's)
    #[arg(long)]
    pub images: Option<u64>,
    /// Minutes between checkpoints
    #[arg(long, default_value_t = 10.0, value_parser = minutes)]
    pub checkpoint_minutes: f64,
    /// Optimiser steps between checkpoints, where that is sooner
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_steps: Option<u64>,
    /// Checkpoints to keep: so many of the newest, and the best. That is the one of the highest PSNR of reconstructed
    /// images (autoencoder), or of the least Fréchet distance between 256 generated images and as many training images, in
    /// 64 principal components (GAN)
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub keep: u64,
    /// Split the state in each checkpoint into files of this size
    #[arg(long, value_name = "MIB", value_parser = part_size)]
    pub split: Option<f64>,
    /// Backend that computes; `wgpu` cannot train
    #[arg(long, default_value = "cpu")]
    pub backend: BackendName,
    /// Type of the numbers that it computes with
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
    /// Seed of every random number of the run (default: 0; with --resume, that of the run)
    #[arg(long)]
    pub seed: Option<u64>,
}

impl RunOptions {
    /// The device to train on, of several GPUs that of this process; sets the precision.
    pub fn device(&self) -> Result<Device> {
        training_device(self.backend, self.precision, Launch::from_environment()?.local_rank)
    }

    /// What `--dry-run` does. `estimate` gives the memory that a preset takes, and its batch.
    pub fn print_memory(
        &self,
        field: &str,
        estimate: impl FnOnce(&Preset, Precision) -> Result<(Estimate, usize)>,
    ) -> Result<Ended> {
        let preset = Preset::load(self.preset.as_deref().unwrap_or(PRESET))?;
        let (estimate, batch) = estimate(&preset, self.precision)?;
        let available = if self.backend.is_cpu() { memory::available() } else { None };
        estimate.print(field, batch, available);
        Ok(Ended::Finished)
    }
}

/// The device to train on with this backend, the GPU of this number; sets the precision for the process.
pub fn training_device(backend: BackendName, precision: Precision, number: usize) -> Result<Device> {
    ensure!(backend != BackendName::Wgpu, "the WebGPU executor cannot train: choose the backend `cpu` or `cuda`");
    precision.set(backend)?;
    crate::backend::numbered_device(backend, number)
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.0..=1e9).contains(&minutes) => Ok(minutes),
        _ => Err("needs a number of minutes, 0 or more".to_string()),
    }
}

/// Mebibytes, not so few that there would be more parts than one can keep.
fn part_size(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(mib) if (0.001..=1e6).contains(&mib) => Ok(mib),
        _ => Err("needs a number of MiB from 0.001 to 1000000".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_a_number() {
        assert_eq!(minutes("0.5"), Ok(0.5));
        for text in ["-1", "nan", "inf", "1e99", "soon"] {
            assert!(minutes(text).is_err(), "{text}");
        }
    }
}
