//! Recordings, and comparing with them.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use lddgan::parameters::TensorMap;
use lddgan::{ModelFile, NetworkName, Provenance};
use lddgan_tests::Tolerance;
use lddgan_trainer::backend::BackendName;
use lddgan_trainer::import::{load_from, settings};
use lddgan_trainer::network;

/// Largest error of an output, relative to the largest value of what was recorded.
pub const OUTPUTS: f64 = 1e-4;
/// The same for losses, gradients and trained parameters.
pub const TRAINING: f64 = 1e-3;

/// The folder of a recording that is kept here.
pub fn kept(name: &str) -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name))
}

/// The folder of a recording that is too large to be kept here, by the name of its set and its own. Tests that need it are
/// ignored unless asked for.
pub fn large(name: &str) -> PathBuf {
    let all = std::env::var_os("LDDGAN_FIXTURES");
    existing(Path::new(&all.expect("LDDGAN_FIXTURES names the folder of all recordings")).join(name))
}

fn existing(folder: PathBuf) -> PathBuf {
    assert!(folder.is_dir(), "there is no recording {}", folder.display());
    folder
}

/// The authors' settings of a recording.
pub fn args(folder: &Path) -> serde_json::Value {
    let text = std::fs::read(folder.join("config.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()["args"].take()
}

pub fn steps(t: &Tensor) -> Vec<u32> {
    values(t).into_iter().map(|t| t as u32).collect()
}

pub fn recorded(folder: &Path) -> TensorMap {
    candle_core::safetensors::load(folder.join("io.safetensors"), &Device::Cpu).unwrap().into_iter().collect()
}

pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Checks the largest error, relative to the largest recorded value.
pub fn check(label: &str, found: &Tensor, expected: &Tensor, most: f64) {
    Tolerance::Relative(most).check(&values(found), &values(expected), expected.dims(), label);
}

pub fn check_values(label: &str, found: &[f64], expected: &[f64], most: f64) {
    Tolerance::Relative(most).check(found, expected, &[expected.len()], label);
}

/// One network of the authors as a model file of ours, through bytes.
pub fn import(settings_file: &Path, network: &str, weights: &Path) -> ModelFile {
    let network = settings::read(settings_file, network).unwrap();
    let tensors = load_from(&network, weights).unwrap();
    let file = ModelFile { config: network.file_config(), provenance: Provenance::default(), tensors };
    ModelFile::from_bytes(&file.to_bytes(DType::F32).unwrap(), "imported").unwrap()
}

pub const BACKENDS: [BackendName; 3] = [BackendName::Candle, BackendName::Cpu, BackendName::Wgpu];

pub fn run(file: &ModelFile, network: NetworkName, inputs: &[(&str, &Tensor)], backend: BackendName) -> TensorMap {
    let inputs = inputs.iter().map(|(name, tensor)| (name.to_string(), (*tensor).clone())).collect();
    network::run(file, "imported", network, &inputs, backend, true).unwrap()
}
