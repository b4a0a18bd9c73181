//! The checkpoints of a run on disk:
//!
//! ```text
//! checkpoints/00005552/state.safetensors         or, split, state.safetensors.1-of-3, …
//! checkpoints/00005552/model.safetensors         or autoencoder.safetensors
//! checkpoints/00005552/SHA256SUMS                of these files, as `sha256sum --check` reads it
//! ```
//!
//! Each folder is named by the training images seen and appears as a whole.

use std::path::{Path, PathBuf};

use super::{Checkpoint, CheckpointError};
use crate::files::{self, AtomicFolder, FileError};
use crate::warn;
use lddgan::hash::sha256;

const STATE: &str = "state.safetensors";
const SUMS: &str = "SHA256SUMS";

/// The folder of checkpoints of a run.
pub struct Store {
    run: PathBuf,
    /// How many are kept besides the best.
    keep: usize,
    /// Bytes of each file of a state that is split.
    part: Option<usize>,
}

impl Store {
    pub fn new(run: &Path, keep: usize, part: Option<usize>) -> Self {
        Self { run: run.to_path_buf(), keep, part }
    }

    /// The folder of the checkpoint after `images` images.
    pub fn path(&self, images: u64) -> PathBuf {
        self.folder().join(folder_name(images))
    }

    fn folder(&self) -> PathBuf {
        self.run.join("checkpoints")
    }

    /// The state as runs of version 0.1 wrote it.
    fn single_file(&self) -> PathBuf {
        self.run.join(STATE)
    }

    /// Whether there is something to go on from.
    pub fn is_empty(&self) -> Result<bool, FileError> {
        Ok(self.list()?.is_empty() && !self.single_file().exists())
    }

    /// The checkpoints by their images, in ascending order.
    pub fn list(&self) -> Result<Vec<u64>, FileError> {
        let names = files::list(&self.folder())?;
        let images = |name: &String| name.parse().ok().filter(|images| *name == folder_name(*images));
        let mut images: Vec<u64> = names.iter().filter_map(images).collect();
        images.sort_unstable();
        Ok(images)
    }

    /// Writes a checkpoint with its model file.
    pub fn write(&self, checkpoint: &Checkpoint, model: (&str, &[u8])) -> Result<(), CheckpointError> {
        let path = self.path(checkpoint.position.images);
        let state = checkpoint.to_bytes(&path.join(STATE))?;
        let parts: Vec<&[u8]> = state.chunks(self.part.unwrap_or(state.len()).max(1)).collect();
        let count = parts.len();
        let name = |i: usize| if self.part.is_some() { format!("{STATE}.{i}-of-{count}") } else { STATE.to_string() };
        let parts = (1..).zip(parts).map(|(i, part)| (name(i), part));
        if path.exists() {
            self.remove(checkpoint.position.images)?;
        }
        let mut folder = AtomicFolder::create(&path)?;
        let mut sums = String::new();
        for (name, bytes) in parts.chain([(model.0.to_string(), model.1)]) {
            folder.write(&name, bytes)?;
            sums += &format!("{}  {name}\n", sha256(bytes));
        }
        folder.write(SUMS, sums.as_bytes())?;
        Ok(folder.persist()?)
    }

    /// All but the newest ones and the best, by their images.
    pub fn outdated(&self, best: Option<u64>) -> Result<Vec<u64>, FileError> {
        let images = self.list()?.into_iter().rev().skip(self.keep);
        Ok(images.filter(|images| Some(*images) != best).collect())
    }

    /// Removes what was written of a checkpoint. What else is in its folder stays.
    pub fn remove(&self, images: u64) -> Result<(), FileError> {
        let folder = self.path(images);
        if !folder.join(SUMS).exists() {
            return Ok(());
        }
        let sums = files::read(&folder.join(SUMS))?;
        let sums = String::from_utf8_lossy(&sums);
        let written: Vec<&str> = sums.lines().filter_map(|line| Some(line.split_once("  ")?.1)).chain([SUMS]).collect();
        files::remove_folder(&folder, |name| written.contains(&name))
    }

    /// Removes what a killed program left half written.
    pub fn remove_leftovers(&self) -> Result<(), FileError> {
        files::remove_leftovers(&self.folder())
    }

    /// The newest whole checkpoint, and its path. Newer ones that are not whole are told of and, by one process of a run
    /// (`set_aside`), renamed to `….damaged`.
    pub fn newest(&self, set_aside: bool) -> Result<Option<(Checkpoint, PathBuf)>, CheckpointError> {
        let mut damaged: Vec<(PathBuf, CheckpointError)> = Vec::new();
        for images in self.list()?.into_iter().rev() {
            let path = self.path(images);
            match read(&path) {
                Ok(checkpoint) => {
                    for (damaged, error) in &damaged {
                        warn!("warning: {error}; going on from {}", path.display());
                        if set_aside {
                            rename_damaged(damaged)?;
                        }
                    }
                    return Ok(Some((checkpoint, path)));
                }
                Err(error) => damaged.push((path, error)),
            }
        }
        match damaged.into_iter().next() {
            Some((_, error)) => Err(error),
            None if self.single_file().exists() => {
                let path = self.single_file();
                Ok(Some((Checkpoint::from_bytes(&files::read(&path)?, &path)?, path)))
            }
            None => Ok(None),
        }
    }
}

fn folder_name(images: u64) -> String {
    format!("{images:08}")
}

/// Renames a folder that is not whole; ones that were renamed earlier stay.
fn rename_damaged(folder: &Path) -> Result<(), FileError> {
    let numbered = (2..).map(|number| folder.with_extension(format!("damaged-{number}")));
    let mut names = std::iter::once(folder.with_extension("damaged")).chain(numbered);
    names.find(|aside| !aside.exists()).map_or(Ok(()), |aside| files::rename(folder, &aside))
}

/// Reads the checkpoint in `folder`, if its files are what was written. The model file may have stayed behind where the folder
/// was carried to another machine: the state is enough to make it again.
pub fn read(folder: &Path) -> Result<Checkpoint, CheckpointError> {
    let path = folder.join(SUMS);
    let sums = files::read(&path)?;
    let mut state = Vec::new();
    for line in String::from_utf8_lossy(&sums).lines() {
        let (sum, name) =
            line.split_once("  ").ok_or_else(|| CheckpointError::invalid(&path, "not a list of SHA-256 sums"))?;
        let path = folder.join(name);
        if !name.starts_with(STATE) && !path.exists() {
            continue;
        }
        let bytes = files::read(&path)?;
        if sha256(&bytes) != sum {
            return Err(CheckpointError::invalid(&path, "altered or damaged: not the SHA-256 that was written"));
        }
        if name.starts_with(STATE) {
            state.extend(bytes);
        }
    }
    Checkpoint::from_bytes(&state, &folder.join(STATE))
}
