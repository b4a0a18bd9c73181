//! `losses.jsonl`: a line of JSON for every step.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::LogError;
use crate::files;

/// The numbers of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Optimiser steps taken.
    pub step: u64,
    /// Training images seen.
    pub images: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Losses, norms of gradients, and figures of a checkpoint.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
}

/// The file, open for the next line.
pub struct Losses {
    path: PathBuf,
    file: File,
}

impl Losses {
    /// Takes up the file, without the lines after `step`, and what a kill left half written; gives the lines that stay.
    pub fn open(path: &Path, step: u64) -> Result<(Self, Vec<Line>), LogError> {
        let text = if path.exists() { files::read(path)? } else { Vec::new() };
        let text = String::from_utf8_lossy(&text);
        let whole = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let lines: Vec<Line> = whole.filter(|line: &Line| line.step <= step).collect();
        let mut kept = String::new();
        for line in &lines {
            kept += &to_json(line, path)?;
        }
        files::write_atomic(path, kept.as_bytes())?;
        let file = File::options().append(true).open(path).map_err(|error| LogError::other(path, error))?;
        Ok((Self { path: path.to_path_buf(), file }, lines))
    }

    pub fn append(&mut self, line: &Line) -> Result<(), LogError> {
        let json = to_json(line, &self.path)?;
        let fail = |error| LogError::other(&self.path, format!("cannot be written: {error}"));
        self.file.write_all(json.as_bytes()).map_err(fail)
    }
}

fn to_json(line: &Line, path: &Path) -> Result<String, LogError> {
    let json = serde_json::to_string(line).map_err(|error| LogError::other(path, error))?;
    Ok(json + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> Line {
        Line { step, images: 4 * step, seconds: 0.5, values: BTreeMap::from([("l1".to_string(), 0.25)]) }
    }

    #[test]
    fn steps_that_are_done_again_appear_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.jsonl");
        let (mut losses, before) = Losses::open(&path, 0).unwrap();
        assert!(before.is_empty());
        (1..=5).for_each(|step| losses.append(&line(step)).unwrap());
        // Killed within a line, resumed at step 3.
        losses.file.write_all(b"{\"step\":6,\"ima").unwrap();
        drop(losses);
        let (mut losses, before) = Losses::open(&path, 3).unwrap();
        assert_eq!(before, [line(1), line(2), line(3)]);
        losses.append(&line(4)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert_eq!(text.lines().last().unwrap(), r#"{"step":4,"images":16,"seconds":0.5,"l1":0.25}"#);
    }
}
