//! The training loop.

use anyhow::{Context, Result};
use candle_core::Tensor;
use lddgan::parameters::TensorMap;

use super::{Ended, Run, Snapshot};
use crate::checkpoint::Position;
use crate::progress::Progress;

/// A step that was taken.
pub struct Taken {
    /// The items of this process's share of the batch.
    pub indices: Vec<u32>,
    /// What they are.
    pub batch: Tensor,
    /// The losses that the progress bar shows.
    pub shown: Vec<(&'static str, f64)>,
    /// All numbers that are logged, and must be finite.
    pub logged: Vec<(String, f64)>,
}

/// What is trained in a run.
pub trait Training {
    /// Samples of a batch, of all processes.
    fn batch(&self) -> usize;

    /// Takes one or more steps after `position`, `most` at most, in a run of so many images in all.
    fn steps(&mut self, position: &Position, total: u64, most: usize) -> Result<Vec<Taken>>;

    /// Everything that is needed to go on.
    fn state(&self) -> Result<TensorMap>;

    /// What goes into a checkpoint.
    fn snapshot(&self, position: &Position) -> Result<Snapshot>;

    /// Writes what only the end of a run leaves.
    fn finish(&self, _run: &Run) -> Result<()> {
        Ok(())
    }
}

/// Trains until `total` images were seen, or the run has another reason to end.
pub fn train(run: &mut Run, training: &mut impl Training, total: u64) -> Result<Ended> {
    let mut progress = Progress::new(run.position.images, total).within(run.seconds_left());
    let ended = loop {
        if run.checkpoint_due() {
            run.save(|position| training.snapshot(position))?;
            progress.note(&format!("checkpoint at {}", run.summary()));
        }
        // After the checkpoint, which the first process alone writes: it may leave no time for a step.
        if let Some(ended) = run.ended(total)? {
            break ended;
        }
        let taken = training.steps(&run.position, total, run.steps_at_once(total, training.batch()))?;
        run.time(taken.len());
        for Taken { indices, batch, shown, logged } in taken {
            let logged: Vec<(&str, f64)> = logged.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            run.guard(&logged, &indices, &batch, || training.state())?;
            run.advance(training.batch(), &logged);
            progress.update(run.position.images, &shown);
        }
    };
    progress.finish();
    if run.processes.is_first() {
        run.save(|position| training.snapshot(position)).context("the last checkpoint could not be written")?;
        training.finish(run)?;
        run.conclude(ended, total);
    }
    Ok(ended)
}
