//! The state of a training run on disk: one safetensors file that is replaced as a whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use lddgan::parameters::TensorMap;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::preset::Preset;

const KEY: &str = "lddgan-state";

/// A state that cannot be saved or taken up.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {reason}", .path.display())]
    Invalid { path: PathBuf, reason: String },
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// What is trained: `autoencoder` or `gan`.
    pub stage: String,
    pub preset: Preset,
    pub seed: u64,
    /// Optimiser steps taken.
    pub step: u64,
    /// Training images seen.
    pub images: u64,
    /// Seconds of training, over all sessions.
    pub seconds: f64,
}

/// Everything that a run needs to go on.
pub struct Checkpoint {
    pub position: Position,
    /// Tensors of the parts, named `<part>/<tensor>`.
    pub tensors: TensorMap,
}

impl Checkpoint {
    /// Replaces the file at `path`.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let invalid = |reason: String| CheckpointError::Invalid { path: path.to_path_buf(), reason };
        let json = serde_json::to_string(&self.position).map_err(|error| invalid(error.to_string()))?;
        let bytes = safetensors::serialize(&self.tensors, Some(HashMap::from([(KEY.to_string(), json)])))
            .map_err(|error| invalid(error.to_string()))?;
        Ok(files::write_atomic(path, &bytes)?)
    }

    /// Reads the file at `path` and checks that it belongs to this stage and these networks.
    pub fn load(path: &Path, stage: &str, preset: &Preset) -> Result<Self, CheckpointError> {
        let invalid = |reason: String| CheckpointError::Invalid { path: path.to_path_buf(), reason };
        let bytes = files::read(path)?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
            .map_err(|error| invalid(format!("no whole safetensors file ({error})")))?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let json = json.ok_or_else(|| invalid("holds no training state".to_string()))?;
        let position: Position = serde_json::from_str(json).map_err(|error| invalid(error.to_string()))?;
        if position.stage != stage {
            return Err(invalid(format!("is the state of training the {}, not the {stage}", position.stage)));
        }
        let networks =
            |preset: &Preset| (preset.autoencoder.clone(), preset.generator.clone(), preset.discriminator.clone());
        if networks(&position.preset) != networks(preset) {
            return Err(invalid("was trained with networks of other sizes than the preset's".to_string()));
        }
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|error| invalid(error.to_string()))?
            .into_iter()
            .collect();
        Ok(Self { position, tensors })
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
