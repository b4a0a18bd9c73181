//! The state of a training run: where it stands, and all tensors that it needs to go on.

pub mod changes;
mod store;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use lddgan::parameters::TensorMap;
use serde::{Deserialize, Serialize};

use crate::files::FileError;
use crate::preset::Preset;
use changes::Inputs;

pub use store::{Store, read};

const KEY: &str = "lddgan-state";

/// A state that cannot be saved or taken up.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {reason}", .path.display())]
    Invalid { path: PathBuf, reason: String },
}

impl CheckpointError {
    fn invalid(path: &Path, reason: impl ToString) -> Self {
        Self::Invalid { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Autoencoder,
    Gan,
}

impl Stage {
    /// The name of its model file, without the end.
    fn model(self) -> &'static str {
        match self {
            Self::Autoencoder => "autoencoder",
            Self::Gan => "model",
        }
    }

    /// The name of its model file.
    pub fn model_file(self) -> String {
        format!("{}.safetensors", self.model())
    }

    /// The name of the model file of the best checkpoint.
    pub fn best_model_file(self) -> String {
        format!("{}-best.safetensors", self.model())
    }

    /// What its counts are found under in [`lddgan::Provenance`].
    pub fn key(self) -> &'static str {
        match self {
            Self::Autoencoder => "autoencoder",
            Self::Gan => "gan",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Autoencoder => "autoencoder",
            Self::Gan => "GAN",
        })
    }
}

/// What tells a better checkpoint from a worse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Of reconstructed images, in dB; the higher the better.
    Psnr,
    /// Sliced Wasserstein distance of generated images, times 1000, as runs were judged by before there was a `Distance`; the
    /// lower the better.
    Swd,
    /// Fréchet distance of generated images in principal components, see [`crate::eval::table`]; the lower the better.
    Distance,
}

impl Metric {
    /// As logs name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Psnr => "psnr",
            Self::Swd => "swd",
            Self::Distance => "distance",
        }
    }
}

/// How good a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub metric: Metric,
    pub value: f64,
    /// How many images were measured.
    pub count: usize,
}

impl Score {
    /// Scores that cannot be compared, by other metrics or of other numbers of images, are beaten.
    fn beats(&self, other: &Self) -> bool {
        let comparable = (self.metric, self.count) == (other.metric, other.count);
        !comparable
            || match self.metric {
                Metric::Psnr => self.value > other.value,
                Metric::Swd | Metric::Distance => self.value < other.value,
            }
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.metric {
            Metric::Psnr => write!(f, "PSNR {:.2} dB ({} images)", self.value, self.count),
            Metric::Swd => write!(f, "SWD {:.1} ({} images)", self.value, self.count),
            Metric::Distance => write!(f, "distance {:.1} ({} images)", self.value, self.count),
        }
    }
}

/// The best checkpoint of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// [`Position::images`] of that checkpoint.
    pub images: u64,
    pub score: Score,
}

/// The training that a run's generator had behind it when the run started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// Optimiser steps.
    pub step: u64,
    /// Training images.
    pub images: u64,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub stage: Stage,
    pub preset: Preset,
    pub seed: u64,
    /// Optimiser steps taken.
    pub step: u64,
    /// Training images seen.
    pub images: u64,
    /// In other runs.
    #[serde(default)]
    pub before: Before,
    /// Seconds of training, over all sessions.
    pub seconds: f64,
    /// Seconds that the checkpoint before this one took.
    #[serde(default)]
    pub checkpoint_seconds: f64,
    /// Of the checkpoint that this is the position of.
    #[serde(default)]
    pub score: Option<Score>,
    /// That checkpoint included.
    #[serde(default)]
    pub best: Option<Best>,
    /// What the run is made from.
    #[serde(default)]
    pub inputs: Inputs,
}

impl Position {
    /// Training images that the generator has seen, in other runs too.
    pub fn images_in_all(&self) -> u64 {
        self.before.images + self.images
    }

    /// Notes how good the checkpoint at this position is.
    pub fn set_score(&mut self, score: Option<Score>) {
        self.score = score;
        if let Some(score) = score
            && self.best.is_none_or(|best| score.beats(&best.score))
        {
            self.best = Some(Best { images: self.images, score });
        }
    }
}

/// Everything that a run needs to go on.
pub struct Checkpoint {
    pub position: Position,
    /// Tensors of the parts, named `<part>/<tensor>`.
    pub tensors: TensorMap,
}

impl Checkpoint {
    /// The bytes of a safetensors file; `path` is for errors.
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, CheckpointError> {
        let json = serde_json::to_string(&self.position).map_err(|error| CheckpointError::invalid(path, error))?;
        safetensors::serialize(&self.tensors, Some(HashMap::from([(KEY.to_string(), json)])))
            .map_err(|error| CheckpointError::invalid(path, error))
    }

    /// Reads the bytes of the file at `path`.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let invalid = |reason: String| CheckpointError::invalid(path, reason);
        let (_, header) = safetensors::SafeTensors::read_metadata(bytes)
            .map_err(|error| invalid(format!("not a whole safetensors file ({error})")))?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let json = json.ok_or_else(|| invalid("holds no training state".to_string()))?;
        let position: Position = serde_json::from_str(json).map_err(|error| invalid(error.to_string()))?;
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
            .map_err(|error| invalid(error.to_string()))?
            .into_iter()
            .collect();
        Ok(Self { position, tensors })
    }

    /// Checks that it belongs to this stage; `path` is for errors.
    pub fn check(&self, stage: Stage, path: &Path) -> Result<(), CheckpointError> {
        if self.position.stage != stage {
            let reason = format!("is the state of training the {}, not the {stage}", self.position.stage);
            return Err(CheckpointError::invalid(path, reason));
        }
        Ok(())
    }

    /// The tensors of one part.
    pub fn part(&self, name: &str) -> TensorMap {
        let prefix = format!("{name}/");
        let own = |(key, tensor): (&String, &Tensor)| Some((key.strip_prefix(&prefix)?.to_string(), tensor.clone()));
        self.tensors.iter().filter_map(own).collect()
    }
}

/// Names the tensors of a part.
pub fn named(part: &str, tensors: TensorMap) -> impl Iterator<Item = (String, Tensor)> {
    tensors.into_iter().map(move |(name, tensor)| (format!("{part}/{name}"), tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_psnr_and_less_distance_is_better() {
        let score = |metric, value, count| Score { metric, value, count };
        assert!(score(Metric::Psnr, 30.0, 16).beats(&score(Metric::Psnr, 29.0, 16)));
        assert!(!score(Metric::Psnr, 29.0, 16).beats(&score(Metric::Psnr, 29.0, 16)));
        assert!(score(Metric::Swd, 20.0, 64).beats(&score(Metric::Swd, 21.0, 64)));
        assert!(score(Metric::Distance, 20.0, 64).beats(&score(Metric::Distance, 21.0, 64)));
        assert!(score(Metric::Distance, 99.0, 64).beats(&score(Metric::Swd, 21.0, 64)));
        assert!(score(Metric::Swd, 99.0, 64).beats(&score(Metric::Swd, 21.0, 10)));
    }
}
