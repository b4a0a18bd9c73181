//! Reading the weights of networks that measure images, which users bring along.

use std::path::Path;

use candle_core::Device;
use lddgan::parameters::TensorMap;

use super::EvalError;
use crate::import::pytorch::PytorchFile;

/// The tensors of a state dictionary whose names `keep` accepts, from the bytes of a PyTorch checkpoint or a
/// safetensors file (told apart by the name `path`).
pub fn read(bytes: Vec<u8>, path: &Path, keep: fn(&str) -> bool) -> Result<TensorMap, EvalError> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
        let fail = |reason: candle_core::Error| EvalError::file(path, format!("not readable: {reason}"));
        return Ok(tensors.map_err(fail)?.into_iter().filter(|(name, _)| keep(name)).collect());
    }
    let file = PytorchFile::from_bytes(bytes, path)?;
    let state = file.state_dict(&["state_dict"])?;
    let names = state.shapes().map(|(name, _)| name).filter(|name| keep(name));
    names.map(|name| Ok((name.to_string(), state.tensor(name)?))).collect()
}
