//! What a run writes down for those who watch it: numbers, curves and pictures. A run goes on without what cannot be
//! written.

mod canvas;
mod curves;
mod history;
mod losses;
mod tensorboard;

use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::files::{self, FileError};
use crate::grid;
use crate::warn;
use history::History;
use losses::Losses;
use tensorboard::Events;

pub use losses::Line;

/// A log that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {reason}", .path.display())]
    Other { path: PathBuf, reason: String },
}

impl LogError {
    fn other(path: &Path, reason: impl ToString) -> Self {
        Self::Other { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

/// The name of the file with a line for every step.
pub const LOSSES: &str = "losses.jsonl";

/// The folder of the same numbers for TensorBoard.
const EVENTS: &str = "tensorboard";

/// The name of the picture of the checkpoint after so many images.
pub fn picture_name(images: u64) -> String {
    format!("grid-{images:08}.png")
}

/// Removes the numbers that an earlier run logged.
pub fn remove(run: &Path) -> Result<(), FileError> {
    files::remove_file(&run.join(LOSSES))?;
    let events = run.join(EVENTS);
    if events.is_dir() { files::remove_folder(&events, |name| name.starts_with(tensorboard::NAME)) } else { Ok(()) }
}

/// The logs of a run in its folder: `losses.jsonl`, `curves.png`, `grid-<images>.png`, and `tensorboard/` with event
/// files.
pub struct Log {
    folder: PathBuf,
    /// Of the curves.
    history: History,
    /// The latest step, of which a checkpoint may add to the numbers.
    pending: Option<Line>,
    losses: Option<Losses>,
    events: Option<Events>,
}

impl Log {
    /// Goes on after `step`: what was written of later steps is forgotten, as they are done again.
    pub fn open(folder: &Path, step: u64) -> Self {
        let (losses, history) = unless_failed(Losses::open(&folder.join(LOSSES), step)).unzip();
        let events = unless_failed(Events::create(&folder.join(EVENTS), step));
        Self { folder: folder.to_path_buf(), history: history.unwrap_or_default(), pending: None, losses, events }
    }

    /// Notes the numbers of a step.
    pub fn step(&mut self, line: Line) {
        self.flush();
        self.pending = Some(line);
    }

    /// Notes the numbers of a checkpoint beside those of its step, and its picture.
    pub fn checkpoint(&mut self, line: Line, picture: &RgbImage) {
        let (step, images) = (line.step, line.images);
        match &mut self.pending {
            Some(pending) if pending.step == step => pending.values.extend(line.values),
            _ => self.step(line),
        }
        self.flush();
        unless_failed(self.draw(step, images, picture));
    }

    fn draw(&mut self, step: u64, images: u64, picture: &RgbImage) -> Result<(), LogError> {
        let path = self.folder.join(picture_name(images));
        let png = grid::to_png(picture, &[]).map_err(|error| LogError::other(&path, error))?;
        write(&mut self.events, |events| events.image(step, "grid", picture.dimensions(), &png));
        files::write_atomic(&path, &png)?;
        let path = self.folder.join("curves.png");
        let curves = curves::draw(&self.history).and_then(|curves| Ok(grid::to_png(&curves, &[])?));
        Ok(files::write_atomic(&path, &curves.map_err(|error| LogError::other(&path, error))?)?)
    }

    fn flush(&mut self) {
        let Some(line) = self.pending.take() else { return };
        write(&mut self.losses, |losses| losses.append(&line));
        write(&mut self.events, |events| events.scalars(line.step, &line.values));
        self.history.add(&line);
    }
}

/// Writes to a log; one that cannot be written is given up.
fn write<T>(log: &mut Option<T>, write: impl FnOnce(&mut T) -> Result<(), LogError>) {
    if let Some(open) = log
        && unless_failed(write(open)).is_none()
    {
        *log = None;
    }
}

/// Reports an error and goes on.
fn unless_failed<T>(result: Result<T, LogError>) -> Option<T> {
    let report = |error: &LogError| warn!("warning: {error}; the run goes on without this log");
    result.inspect_err(report).ok()
}
