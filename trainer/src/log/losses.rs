//! `losses.jsonl`: a line of JSON for every step.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::LogError;
use super::history::History;

/// Bytes of lines that the history is read from when a run goes on.
const PARSED: u64 = 16 << 20;

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
    /// Takes up the file, without the lines after `step`, and what a kill left half written. The lines that stay are not
    /// changed; of a very long file, the history has some of them.
    pub fn open(path: &Path, step: u64) -> Result<(Self, History), LogError> {
        let fail = |error| LogError::other(path, format!("cannot be opened: {error}"));
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        let (end, history) = read(&file, step).map_err(fail)?;
        // What is appended begins where the lines that stay end.
        file.set_len(end).map_err(fail)?;
        let file = File::options().append(true).open(path).map_err(fail)?;
        Ok((Self { path: path.to_path_buf(), file }, history))
    }

    pub fn append(&mut self, line: &Line) -> Result<(), LogError> {
        let json = to_json(line, &self.path)?;
        let fail = |error| LogError::other(&self.path, format!("cannot be written: {error}"));
        self.file.write_all(json.as_bytes()).map_err(fail)
    }
}

/// Where the first line after `step` begins, or the half of a line at the end; and the history until there.
fn read(file: &File, step: u64) -> std::io::Result<(u64, History)> {
    // Of a long file, as many lines as take so many bytes tell what the curves show.
    let every = file.metadata()?.len().div_ceil(PARSED).max(1);
    let mut reader = BufReader::new(file);
    let (mut end, mut history, mut bytes) = (0, History::default(), Vec::new());
    for number in 0u64.. {
        bytes.clear();
        reader.read_until(b'\n', &mut bytes)?;
        // What is no line of ours stays, as long as it is whole.
        if bytes.last() != Some(&b'\n') || step_of(&bytes).is_some_and(|of_line| of_line > step) {
            break;
        }
        end += bytes.len() as u64;
        if number.is_multiple_of(every)
            && let Ok(line) = serde_json::from_slice(&bytes)
        {
            history.add(&line);
        }
    }
    Ok((end, history))
}

/// The step of a line, without reading the rest of it.
fn step_of(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"step\":")?;
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..count]).ok()?.parse().ok()
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
        assert_eq!(before.images(), 0);
        (1..=5).for_each(|step| losses.append(&line(step)).unwrap());
        // Killed within a line, resumed at step 3.
        losses.file.write_all(b"{\"step\":6,\"ima").unwrap();
        drop(losses);
        let (mut losses, before) = Losses::open(&path, 3).unwrap();
        assert_eq!(before.images(), 12);
        losses.append(&line(4)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert_eq!(text.lines().last().unwrap(), r#"{"step":4,"images":16,"seconds":0.5,"l1":0.25}"#);
    }

    /// Digits that reading and writing would round, another program's spaces, a line that is damaged: the bytes stay.
    #[test]
    fn lines_that_stay_are_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.jsonl");
        let kept = "{\"step\":1,\"images\":4,\"seconds\":0.1,\"l1\":2.3841853646899835e-7}\n\
                    { \"step\": 2, \"images\": 8, \"seconds\": 1, \"l1\": 0.50 }\ndamaged\n";
        std::fs::write(&path, format!("{kept}{{\"step\":3,\"images\":12,\"seconds\":1}}\n")).unwrap();
        let (_, history) = Losses::open(&path, 2).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
        assert_eq!(history.images(), 8);
        // Half a line of the step that the run goes on from is written again with the next one.
        std::fs::write(&path, format!("{kept}{{\"step\":2,\"ima")).unwrap();
        Losses::open(&path, 2).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
    }

    /// More than is parsed: every so many lines are enough for the curves, and all of them stay.
    #[test]
    fn a_long_file_stays_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.jsonl");
        let padding = "0".repeat(2000);
        let mut text = String::new();
        for step in 1..=20_000 {
            text += &format!("{{\"step\":{step},\"images\":{step},\"seconds\":0.{padding},\"l1\":1.0}}\n");
        }
        std::fs::write(&path, &text).unwrap();
        let (_, history) = Losses::open(&path, 19_999).unwrap();
        let end = text.trim_end().rfind('\n').unwrap() + 1;
        assert!(std::fs::read(&path).unwrap() == text.as_bytes()[..end]);
        let (_, bins) = history.series().next().unwrap();
        assert!(history.images() > 19_990 && bins.iter().map(|bin| bin.count).sum::<u64>() < 10_000);
    }
}
