//! What every training run has: a folder, a time limit, a way to stop and to go on, and a loop.

mod folder;
mod options;
mod order;
mod training;

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::Tensor;
use image::RgbImage;
use lddgan::parameters::TensorMap;

pub use options::{RunOptions, training_device};
pub use order::EpochOrder;
pub use training::{Taken, Training, train};

use crate::checkpoint::changes::{self, Inputs};
use crate::checkpoint::{Before, Checkpoint, Position, Score, Stage, Store};
use crate::distributed::Processes;
use crate::interrupts::{self, SIGTERM};
use crate::log::{Line, Log};
use crate::preset::Preset;
use crate::{files, log, say, warn};

/// How much longer than the last one the last checkpoint of a run with a time limit may take.
const RESERVE: f64 = 1.5;

/// Seconds that steps may take before anybody looks whether to end.
const AT_ONCE: f64 = 1.0;

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
    /// The images that the model file in the folder has seen, if it is not of a checkpoint that the run goes on from.
    standing: Option<u64>,
    /// When the last step or checkpoint ended, and the seconds that a step may take; 0 before the first one.
    ended: Instant,
    step_seconds: f64,
}

/// Why a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All images were seen.
    Finished,
    /// There was no time for another step.
    OutOfTime,
    /// By the signal of this number.
    Interrupted(u8),
}

impl Ended {
    /// The exit status of the program: 0, or as shells have it 128 and the signal.
    pub fn status(self) -> u8 {
        match self {
            Self::Finished | Self::OutOfTime => 0,
            Self::Interrupted(signal) => 128 + signal,
        }
    }
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
    /// Opens the output folder: a fresh run, or the checkpoint to go on from, with its path. The run's preset and seed are
    /// those of its [`Position`].
    pub fn open(
        options: &RunOptions,
        stage: Stage,
        processes: &Processes,
    ) -> Result<(Self, Option<(Checkpoint, PathBuf)>)> {
        let part = options.split.map(|mib| (mib * 1024.0 * 1024.0) as usize);
        let store = Store::new(&options.out, options.keep as usize, part);
        let given = options.preset.as_deref().map(Preset::load).transpose()?;
        folder::check_folder(options, stage, &store)?;
        let lock = if processes.is_first() { folder::lock(&options.out)? } else { None };
        if processes.is_first() {
            files::remove_leftovers(&options.out)?;
            store.remove_leftovers()?;
        }
        let checkpoint = if options.resume { store.newest(processes.is_first())? } else { None };
        let position = match &checkpoint {
            Some((checkpoint, path)) => folder::resumed(checkpoint, path, stage, given, options.seed)?,
            None => Position {
                stage,
                preset: given.map_or_else(|| Preset::load(options::PRESET), Ok)?,
                seed: options.seed.unwrap_or(0),
                step: 0,
                images: 0,
                before: Before::default(),
                seconds: 0.0,
                checkpoint_seconds: 0.0,
                score: None,
                best: None,
                inputs: Inputs::new(),
            },
        };
        let standing = if options.overwrite { None } else { folder::images_seen(&options.out, stage) };
        let standing = standing.filter(|&seen| seen > position.images_in_all());
        if let Some(seen) = standing {
            let model = options.out.join(stage.model_file());
            say!(
                "{} has seen {seen} images, more than the checkpoint; it is kept until the run has seen as many",
                model.display()
            );
        }
        interrupts::watch()?;
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
            standing,
            ended: now,
            step_seconds: 0.0,
            position,
        };
        Ok((run, checkpoint))
    }

    /// Notes what the run is made from, if it goes on with the same. Names and values.
    pub fn accept<'a>(&mut self, inputs: impl IntoIterator<Item = (&'a str, String)>) -> Result<()> {
        let inputs = inputs.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        folder::accept_changes(&changes::of_inputs(&self.position.inputs, &inputs), &self.options.out)?;
        self.position.inputs.extend(inputs);
        Ok(())
    }

    /// Ends reading and encoding, too, when the time of the run is over.
    pub fn limit_reading(&self) {
        let limit = self.options.minutes.and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
        if let Some(end) = limit.and_then(|limit| self.started.checked_add(limit)) {
            interrupts::limit(end);
        }
    }

    /// The seconds that are left, where there is a limit.
    pub fn seconds_left(&self) -> Option<f64> {
        self.options.minutes.map(|minutes| minutes * 60.0 - self.started.elapsed().as_secs_f64())
    }

    /// Before the first step of a run with a time limit: finds out how long it will take. `probe` takes a step on `share` of
    /// the samples and says its seconds. A first one may be slow, so only a second one tells that there is no time.
    pub fn expect_step(&mut self, share: f64, mut probe: impl FnMut() -> Result<f64>) -> Result<()> {
        for _ in 0..2 {
            let fits = self.step_seconds > 0.0 && self.seconds_left().is_none_or(|left| self.needed() < left);
            if fits || self.seconds_left().is_none_or(|left| left <= 0.0) {
                break;
            }
            self.step_seconds = probe()? / share;
        }
        self.ended = Instant::now();
        Ok(())
    }

    /// The seconds for another step and the last checkpoint.
    fn needed(&self) -> f64 {
        self.step_seconds + RESERVE * self.position.checkpoint_seconds
    }

    /// Whether and why to stop. All processes stop where one has to.
    pub fn ended(&self, total: u64) -> Result<Option<Ended>> {
        let signal = interrupts::signal();
        let out_of_time = self.seconds_left().is_some_and(|left| self.needed() >= left);
        let reasons = [self.position.images >= total, signal.is_some(), out_of_time];
        let [finished, interrupted, out_of_time] = self.processes.any(reasons)?;
        Ok(match () {
            () if finished => Some(Ended::Finished),
            // Where another process was told to stop, it is as if this one had been.
            () if interrupted => Some(Ended::Interrupted(signal.unwrap_or(SIGTERM))),
            () if out_of_time => Some(Ended::OutOfTime),
            () => None,
        })
    }

    /// Says what came of the run, after the last checkpoint.
    pub fn conclude(&self, ended: Ended, total: u64) {
        let Position { stage, images, seconds, .. } = self.position;
        let model = self.file(&stage.model_file());
        match self.standing {
            None => say!("{}; {seconds:.0} s; wrote {}", self.summary(), model.display()),
            Some(seen) => {
                say!("{}; {seconds:.0} s; {} stays, which has seen {seen} images", self.summary(), model.display());
            }
        }
        match ended {
            Ended::Finished => {}
            Ended::OutOfTime => {
                let minutes = self.options.minutes.unwrap_or_default();
                say!("the {minutes} minutes are used up at {images} of {total} images; --resume goes on");
            }
            Ended::Interrupted(_) => warn!("interrupted at {images} of {total} images; --resume goes on"),
        }
    }

    /// Stops the run if one of the losses or norms of the step under way is no number, with all that went into the step
    /// in a file: a checkpoint with the tensors `indices` (of this process's items of the batch) and `batch`. The
    /// parameters in it are those before the step, as a gradient that is not finite changes nothing; where only one of two networks has
    /// such a gradient, those of the other are after it. Of steps that were taken at once, they are those after the last.
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

    /// How many steps of so many images may be taken before it is time for a checkpoint, or to look whether to end.
    fn steps_at_once(&self, total: u64, images: usize) -> usize {
        let of_images = total.saturating_sub(self.position.images).div_ceil(images as u64);
        let saved = self.saved_step.unwrap_or(self.position.step);
        let of_checkpoint = self.options.checkpoint_steps.map(|due| (saved + due).saturating_sub(self.position.step));
        let seconds = self.seconds_left().map_or(AT_ONCE, |left| AT_ONCE.min(left - self.needed()));
        let of_time = if self.step_seconds > 0.0 { (seconds / self.step_seconds) as u64 } else { 1 };
        of_images.min(of_checkpoint.unwrap_or(u64::MAX)).min(of_time).max(1) as usize
    }

    /// Notes how long it took to take so many steps.
    fn time(&mut self, steps: usize) {
        // Some steps do more than others; what was expected of the first one does not count any more.
        let before = if self.position.step > self.first_step { self.step_seconds } else { 0.0 };
        self.step_seconds = (self.ended.elapsed().as_secs_f64() / steps as f64).max(0.95 * before);
        self.ended = Instant::now();
    }

    /// Counts a step, and logs its losses and norms.
    fn advance(&mut self, images: usize, values: &[(&str, f64)]) {
        self.position.step += 1;
        self.position.images += images as u64;
        self.position.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
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
        let model = self.position.stage.model_file();
        if self.options.overwrite && self.saved_step.is_none() {
            self.clear()?;
        }
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
        if self.supersedes() {
            self.standing = None;
            self.publish(self.position.images, &model, &model)?;
            let best = self.position.best.map(|best| best.images);
            if let Some(images) = best.filter(|_| best != self.published) {
                self.publish(images, &model, &self.position.stage.best_model_file())?;
                self.published = best;
            }
        }
        for images in self.store.outdated(self.position.best.map(|best| best.images))? {
            self.remove_checkpoint(images)?;
        }
        self.saved = Instant::now();
        self.ended = self.saved;
        self.position.checkpoint_seconds = started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Whether the model files in the folder have seen no more than this run.
    pub fn supersedes(&self) -> bool {
        self.standing.is_none_or(|seen| self.position.images_in_all() >= seen)
    }

    /// Removes what an earlier run wrote and this one would go on with, before its first checkpoint.
    fn clear(&self) -> Result<()> {
        self.store.list()?.into_iter().try_for_each(|images| self.remove_checkpoint(images))?;
        files::remove_file(&self.file(&self.position.stage.best_model_file()))?;
        Ok(log::remove(&self.options.out)?)
    }

    fn remove_checkpoint(&self, images: u64) -> Result<()> {
        files::remove_file(&self.file(&log::picture_name(images)))?;
        Ok(self.store.remove(images)?)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::backend::BackendName;
    use crate::precision::Precision;

    /// A fresh run of one minute in a folder of its own.
    fn run_of_a_minute(out: &Path) -> Run {
        let options = RunOptions {
            preset: None,
            out: out.to_path_buf(),
            resume: false,
            overwrite: false,
            dry_run: false,
            minutes: Some(1.0),
            images: None,
            checkpoint_minutes: 10.0,
            checkpoint_steps: None,
            keep: 1,
            split: None,
            backend: BackendName::Cpu,
            precision: Precision::F32,
            seed: None,
        };
        Run::open(&options, Stage::Autoencoder, &Processes::alone()).unwrap().0
    }

    /// A quarter of the samples takes so many seconds at the first and at the second try.
    #[test]
    fn a_step_that_does_not_fit_is_not_begun() {
        let cases = [([21.0, 21.0], 2, Some(Ended::OutOfTime)), ([21.0, 0.1], 2, None), ([0.1, 0.1], 1, None)];
        for (seconds, expected_tries, ended) in cases {
            let folder = tempfile::tempdir().unwrap();
            let mut run = run_of_a_minute(folder.path());
            let mut tries = 0;
            run.expect_step(0.25, || {
                tries += 1;
                Ok(seconds[tries - 1])
            })
            .unwrap();
            assert_eq!(tries, expected_tries);
            assert_eq!(run.ended(1000).unwrap(), ended, "{seconds:?}");
        }
    }

    /// As many as take a second, but none after the last image, the next checkpoint or the last minute.
    #[test]
    fn no_more_steps_at_once_than_until_something_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = run_of_a_minute(folder.path());
        assert_eq!(run.steps_at_once(1000, 4), 1, "before the first step nothing is known");
        run.step_seconds = 0.01;
        assert_eq!(run.steps_at_once(1000, 4), 100);
        assert_eq!(run.steps_at_once(7, 4), 2);
        run.saved_step = Some(0);
        run.position.step = 3;
        run.options.checkpoint_steps = Some(10);
        assert_eq!(run.steps_at_once(1000, 4), 7);
        run.position.checkpoint_seconds = 100.0;
        assert_eq!(run.steps_at_once(1000, 4), 1);
    }
}
