//! What every training run has: a folder, a time limit, a way to stop and to go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;

use crate::checkpoint::{Checkpoint, Position};
use crate::distributed::{Launch, Processes};
use crate::network::BackendName;
use crate::precision::Precision;
use crate::preset::Preset;

/// The options that all training commands share.
#[derive(Debug, Clone, clap::Args)]
pub struct RunOptions {
    /// Preset: a name, or the path of a TOML file
    #[arg(long, default_value = "faces64")]
    pub preset: String,
    /// Training images: a folder or a file (Parquet, tar, CIFAR-10's .bin, LMDB's data.mdb, what `data prepare` wrote)
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Folder for checkpoints, pictures and the model file
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Go on from the checkpoint in the output folder
    #[arg(long)]
    pub resume: bool,
    /// Stop after this many minutes, with checkpoint, picture and model file
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Stop when this many training images were seen in all (default: the preset's)
    #[arg(long)]
    pub images: Option<u64>,
    /// Minutes between checkpoints
    #[arg(long, default_value_t = 10.0)]
    pub checkpoint_minutes: f64,
    /// Who computes; `wgpu` cannot train
    #[arg(long, default_value = "cpu")]
    pub backend: BackendName,
    /// What numbers it computes with
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
    /// Seed of every random number of the run
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl RunOptions {
    /// The device to train on; sets the precision.
    pub fn device(&self) -> Result<Device> {
        training_device(self.backend, self.precision)
    }
}

/// The device to train on with this backend, of several GPUs that of this process; sets the precision for the process.
pub fn training_device(backend: BackendName, precision: Precision) -> Result<Device> {
    ensure!(backend != BackendName::Wgpu, "the WebGPU executor cannot train: choose the backend `cpu` or `cuda`");
    let tf32_on_cpu = precision == Precision::Tf32 && backend == BackendName::Cpu;
    ensure!(!tf32_on_cpu, "only CUDA devices have TF32: choose the precision `f32`");
    precision.set();
    crate::network::numbered_device(backend, Launch::from_environment()?.local_rank)
}

/// A run in progress.
pub struct Run {
    pub options: RunOptions,
    pub position: Position,
    processes: Processes,
    started: Instant,
    saved: Instant,
    seconds_before: f64,
    interrupted: Arc<AtomicBool>,
}

impl Run {
    /// Opens the output folder: a fresh run, or the checkpoint to go on from.
    pub fn open(
        options: &RunOptions,
        stage: &str,
        preset: &Preset,
        processes: &Processes,
    ) -> Result<(Self, Option<Checkpoint>)> {
        let path = state_path(&options.out);
        let checkpoint = match (path.exists(), options.resume) {
            (true, true) => Some(Checkpoint::load(&path, stage, preset)?),
            (true, false) => {
                bail!("{} already holds a run: go on with --resume, or choose another --out", options.out.display())
            }
            (false, true) => bail!("{}: no checkpoint to resume from; leave --resume out to start", path.display()),
            (false, false) => None,
        };
        let fresh = || Position {
            stage: stage.to_string(),
            preset: preset.clone(),
            seed: options.seed,
            step: 0,
            images: 0,
            seconds: 0.0,
        };
        let position = checkpoint
            .as_ref()
            .map_or_else(fresh, |checkpoint| Position { preset: preset.clone(), ..checkpoint.position.clone() });
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        ctrlc::set_handler(move || {
            // The second interrupt does not wait for the checkpoint.
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .context("the interrupt key cannot be watched")?;
        // By SIGTERM, schedulers and systems end a program; SIGUSR1 is what mpirun passes on to its processes at once.
        #[cfg(unix)]
        for signal in [libc::SIGTERM, libc::SIGUSR1] {
            signal_hook::flag::register(signal, interrupted.clone()).context("signals cannot be watched")?;
        }
        let now = Instant::now();
        let seconds_before = position.seconds;
        let (options, processes) = (options.clone(), processes.clone());
        let run = Self { options, position, processes, started: now, saved: now, seconds_before, interrupted };
        Ok((run, checkpoint))
    }

    /// Whether to stop: enough images, out of time, or interrupted. All processes stop where one has to.
    pub fn finished(&self, total: u64) -> Result<bool> {
        let limit = self.options.minutes.map(|minutes| Duration::from_secs_f64(minutes.max(0.0) * 60.0));
        let finished = self.position.images >= total
            || limit.is_some_and(|limit| self.started.elapsed() >= limit)
            || self.interrupted.load(Ordering::SeqCst);
        Ok(self.processes.any(finished)?)
    }

    /// Counts a step.
    pub fn advance(&mut self, images: usize) {
        self.position.step += 1;
        self.position.images += images as u64;
        self.position.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
    }

    /// Whether a checkpoint is due, which is the first process's to write.
    pub fn checkpoint_due(&self) -> bool {
        self.processes.is_first() && self.saved.elapsed().as_secs_f64() >= self.options.checkpoint_minutes * 60.0
    }

    /// Replaces the checkpoint.
    pub fn save(&mut self, tensors: lddgan::parameters::TensorMap) -> Result<()> {
        let checkpoint = Checkpoint { position: self.position.clone(), tensors };
        checkpoint.save(&state_path(&self.options.out))?;
        self.saved = Instant::now();
        Ok(())
    }

    /// The path of an output file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.options.out.join(name)
    }
}

fn state_path(folder: &Path) -> PathBuf {
    folder.join("state.safetensors")
}

/// The indices of a batch out of `count` items: every item once per epoch, in an order of the epoch's own.
pub struct Sampler {
    seed: u64,
    count: u32,
    epoch: Option<u64>,
    order: Vec<u32>,
}

impl Sampler {
    pub fn new(seed: u64, count: usize) -> Self {
        Self { seed, count: count as u32, epoch: None, order: Vec::new() }
    }

    /// The items at these positions of the endless sequence of epochs.
    pub fn batch(&mut self, positions: &[u64]) -> Vec<u32> {
        positions.iter().map(|&position| self.item(position)).collect()
    }

    fn item(&mut self, position: u64) -> u32 {
        let epoch = position / u64::from(self.count.max(1));
        if self.epoch != Some(epoch) {
            self.order = lddgan::noise::Stream::new(self.seed, epoch, "order").permutation(self.count);
            self.epoch = Some(epoch);
        }
        self.order[(position % u64::from(self.count.max(1))) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_per_epoch() {
        let positions = |range: std::ops::Range<u64>| range.collect::<Vec<_>>();
        let mut sampler = Sampler::new(1, 10);
        let mut first: Vec<u32> = sampler.batch(&positions(0..10));
        let second = sampler.batch(&positions(10..20));
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        assert_eq!(Sampler::new(1, 10).batch(&positions(13..17)), second[3..7]);
    }
}
