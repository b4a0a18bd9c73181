//! What every training run has: a folder, a time limit, a way to stop and to go on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use image::RgbImage;
use lddgan::parameters::TensorMap;

use crate::checkpoint::{Before, Checkpoint, Position, Score, Stage, Store};
use crate::distributed::{Launch, Processes};
use crate::files;
use crate::log::{Line, Log};
use crate::network::BackendName;
use crate::precision::Precision;
use crate::preset::Preset;

/// How much longer than the last one the last checkpoint of a run with a time limit may take.
const RESERVE: f64 = 1.5;

/// The options that all training commands share.
#[derive(Debug, Clone, clap::Args)]
pub struct RunOptions {
    /// Preset: a name, or the path of a TOML file
    #[arg(long, default_value = "faces64")]
    pub preset: String,
    /// Folder for checkpoints, logs, pictures and model files
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Go on from the newest whole checkpoint in the output folder
    #[arg(long)]
    pub resume: bool,
    /// Be done in this many minutes, the last checkpoint, picture and model file included
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Stop when this many training images were seen in all (default: the preset's)
    #[arg(long)]
    pub images: Option<u64>,
    /// Minutes between checkpoints
    #[arg(long, default_value_t = 10.0)]
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

/// Mebibytes, not so few that there would be more parts than one can keep.
fn part_size(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(mib) if (0.001..=1e6).contains(&mib) => Ok(mib),
        _ => Err("needs a number of MiB from 0.001 to 1000000".to_string()),
    }
}

/// A run in progress.
pub struct Run {
    pub options: RunOptions,
    pub position: Position,
    processes: Processes,
    /// Held by the first process.
    _lock: Option<File>,
    store: Store,
    /// Opened when there is something to log.
    log: Option<Log>,
    first_step: u64,
    started: Instant,
    seconds_before: f64,
    saved: Instant,
    /// The step of the newest checkpoint.
    saved_step: Option<u64>,
    /// The images of the checkpoint whose model file stands as the best one.
    published: Option<u64>,
    /// When the last step or checkpoint ended, and the seconds that a step may take.
    ended: Instant,
    step_seconds: f64,
    interrupted: Arc<AtomicBool>,
}

/// What a checkpoint is made of.
pub struct Snapshot {
    /// Everything that is needed to go on.
    pub state: TensorMap,
    /// The model file.
    pub model: Vec<u8>,
    /// `None` where nothing tells how good it is.
    pub score: Option<Score>,
    /// What is logged beside it.
    pub figures: Vec<(&'static str, f64)>,
    /// What the model makes.
    pub picture: RgbImage,
}

/// A step that cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "step {step}: {what} is {value}; {saved}. Checkpoints stay as they are. A lower learning rate, or gradient_clip in \
     the preset, may help"
)]
pub struct NotFinite {
    /// Steps taken before it.
    pub step: u64,
    pub what: String,
    pub value: f64,
    /// Where its inputs are.
    saved: String,
}

impl Run {
    /// Opens the output folder: a fresh run, or the checkpoint to go on from, with its path.
    pub fn open(
        options: &RunOptions,
        stage: Stage,
        preset: &Preset,
        processes: &Processes,
    ) -> Result<(Self, Option<(Checkpoint, PathBuf)>)> {
        let part = options.split.map(|mib| (mib * 1024.0 * 1024.0) as usize);
        let store = Store::new(&options.out, options.keep as usize, part);
        let out = options.out.display();
        match (store.is_empty()?, options.resume) {
            (false, false) => bail!("{out} already holds a run: go on with --resume, or choose another --out"),
            (true, true) => bail!("{out}: no checkpoint to resume from; leave --resume out to start"),
            _ => {}
        }
        let lock = if processes.is_first() { lock(&options.out)? } else { None };
        let checkpoint = if options.resume { store.newest(processes.is_first())? } else { None };
        let position = match &checkpoint {
            Some((checkpoint, path)) => {
                checkpoint.check(stage, preset, path)?;
                Position { preset: preset.clone(), ..checkpoint.position.clone() }
            }
            None => Position {
                stage,
                preset: preset.clone(),
                seed: options.seed,
                step: 0,
                images: 0,
                before: Before::default(),
                seconds: 0.0,
                checkpoint_seconds: 0.0,
                score: None,
                best: None,
            },
        };
        let now = Instant::now();
        let from_store = checkpoint.as_ref().is_some_and(|(_, path)| *path == store.path(position.images));
        let run = Self {
            options: options.clone(),
            processes: processes.clone(),
            _lock: lock,
            store,
            log: None,
            first_step: position.step,
            started: now,
            seconds_before: position.seconds,
            saved: now,
            saved_step: from_store.then_some(position.step),
            published: None,
            ended: now,
            step_seconds: 0.0,
            interrupted: watch_interrupts()?,
            position,
        };
        Ok((run, checkpoint))
    }

    /// Whether to stop: enough images, interrupted, or no time for another step and the last checkpoint. All processes
    /// stop where one has to.
    pub fn finished(&self, total: u64) -> Result<bool> {
        let needed = self.step_seconds + RESERVE * self.position.checkpoint_seconds;
        let out_of_time = |minutes: f64| self.started.elapsed().as_secs_f64() + needed >= minutes * 60.0;
        let finished = self.position.images >= total
            || self.options.minutes.is_some_and(out_of_time)
            || self.interrupted.load(Ordering::SeqCst);
        Ok(self.processes.any(finished)?)
    }

    /// Stops the run if one of the losses or norms of the step under way is no number, with all that went into the step
    /// in a file: a checkpoint with the tensors `indices` (of this process's items of the batch) and `batch`. The
    /// parameters in it are those before the step, as a gradient that is not finite changes nothing; where the discriminator is updated
    /// first, its parameters may be those after its part.
    pub fn guard(
        &self,
        values: &[(&str, f64)],
        indices: &[u32],
        batch: &Tensor,
        state: impl FnOnce() -> Result<TensorMap>,
    ) -> Result<()> {
        let Some(&(what, value)) = values.iter().find(|(_, value)| !value.is_finite()) else { return Ok(()) };
        let of_process = match self.processes.size() {
            1 => String::new(),
            _ => format!("-rank{}", self.processes.rank()),
        };
        let path = self.file(&format!("not-finite-{:08}{of_process}.safetensors", self.position.step));
        let save = || -> Result<()> {
            let indices = Tensor::new(indices, batch.device())?;
            let inputs = [("indices".to_string(), indices), ("batch".to_string(), batch.clone())];
            let tensors = state()?.into_iter().chain(inputs).collect();
            let bytes = Checkpoint { position: self.position.clone(), tensors }.to_bytes(&path)?;
            Ok(files::write_atomic(&path, &bytes)?)
        };
        let saved = match save() {
            Ok(()) => format!("what went into it is in {}", path.display()),
            Err(error) => format!("what went into it could not be saved ({error:#})"),
        };
        Err(NotFinite { step: self.position.step, what: what.to_string(), value, saved }.into())
    }

    /// Counts a step, and logs its losses and norms.
    pub fn advance(&mut self, images: usize, values: &[(&str, f64)]) {
        self.position.step += 1;
        self.position.images += images as u64;
        self.position.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        // Some steps do more than others.
        self.step_seconds = self.ended.elapsed().as_secs_f64().max(0.95 * self.step_seconds);
        self.ended = Instant::now();
        if self.processes.is_first() {
            let line = self.line(values);
            self.log().step(line);
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.get_or_insert_with(|| Log::open(&self.options.out, self.first_step))
    }

    fn line(&self, values: &[(&str, f64)]) -> Line {
        let Position { step, images, seconds, .. } = self.position;
        let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        Line { step, images, seconds, values }
    }

    /// Whether a checkpoint is due, which is the first process's to write. The first checkpoint is due at once: it shows
    /// how long the last one may take.
    pub fn checkpoint_due(&self) -> bool {
        if !self.processes.is_first() {
            return false;
        }
        let Some(saved_step) = self.saved_step else { return true };
        let steps = self.position.step - saved_step;
        steps > 0
            && (self.saved.elapsed().as_secs_f64() >= self.options.checkpoint_minutes * 60.0
                || self.options.checkpoint_steps.is_some_and(|due| steps >= due))
    }

    /// Writes a checkpoint, unless the newest one is of this step, and copies of the newest and the best model file to
    /// the output folder.
    pub fn save(&mut self, snapshot: impl FnOnce(&Position) -> Result<Snapshot>) -> Result<()> {
        let started = Instant::now();
        let model = format!("{}.safetensors", self.position.stage.model());
        if self.saved_step != Some(self.position.step) {
            let Snapshot { state, model: bytes, score, figures, picture } = snapshot(&self.position)?;
            self.position.set_score(score);
            let checkpoint = Checkpoint { position: self.position.clone(), tensors: state };
            self.store.write(&checkpoint, (&model, &bytes))?;
            self.saved_step = Some(self.position.step);
            let score = score.map(|score| (score.metric.name(), score.value));
            let line = self.line(&score.into_iter().chain(figures).collect::<Vec<_>>());
            self.log().checkpoint(line, &picture);
        }
        self.publish(self.position.images, &model, &model)?;
        let best = self.position.best.map(|best| best.images);
        if let Some(images) = best.filter(|_| best != self.published) {
            self.publish(images, &model, &format!("{}-best.safetensors", self.position.stage.model()))?;
            self.published = best;
        }
        self.store.prune(best)?;
        files::remove_leftovers(&self.options.out)?;
        self.saved = Instant::now();
        self.ended = self.saved;
        self.position.checkpoint_seconds = started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Copies a checkpoint's model file, if it is there, to the output folder.
    fn publish(&self, images: u64, model: &str, name: &str) -> Result<()> {
        let path = self.store.path(images).join(model);
        if path.exists() {
            files::write_atomic(&self.file(name), &files::read(&path)?)?;
        }
        Ok(())
    }

    /// How many images were seen, and how good the newest checkpoint is.
    pub fn summary(&self) -> String {
        let Position { images, score, best, .. } = &self.position;
        let score = score.map(|score| format!(": {score}")).unwrap_or_default();
        let best = match best {
            Some(best) if best.images == *images => ", the best so far".to_string(),
            Some(best) => format!(", best {} at {} images", best.score, best.images),
            None => String::new(),
        };
        format!("{images} images{score}{best}")
    }

    /// The path of an output file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.options.out.join(name)
    }
}

/// Keeps other programs from training in the folder.
fn lock(out: &Path) -> Result<Option<File>> {
    let lock = files::lock(&out.join("run.lock"))?;
    ensure!(lock.is_some(), "{}: another program is training in this folder", out.display());
    Ok(lock)
}

/// Becomes true with the first interrupt; the second does not wait for the checkpoint.
fn watch_interrupts() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
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
    Ok(interrupted)
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
