//! `lddgan calibrate` on a tiny model with a Gaussian start.

mod common;
#[path = "common/folder.rs"]
mod folder;

use std::path::{Path, PathBuf};
use std::process::Output;

use lddgan::ModelFile;

use common::{fail, program, succeed};
use folder::{AUTOENCODER, Folder, PRESET, bits};

/// A model whose generator starts from six modes and has hardly learned anything yet, so that it samples from those.
fn model(folder: &Folder) -> PathBuf {
    succeed(&folder.train("autoencoder", "ae", &[]));
    let preset = std::fs::read_to_string(PRESET).unwrap();
    let preset = preset.replace("z_dim = 6\n", "z_dim = 6\ngaussian_modes = 6\ntanh = false\n");
    let preset = preset.replace("generator_learning_rate = 1e-3", "generator_learning_rate = 1e-6");
    let path = folder.path("gaussian.toml");
    std::fs::write(&path, preset + "\n[diffusion]\nalpha_bar = [0.7, 0.3, 0.06, 0.0001]\n").unwrap();
    let mut train = program(&["train", "gan", "--images", "4", "--preset"]);
    train.arg(&path).arg("--data").arg(folder.path("images")).arg("--out").arg(folder.path("gan"));
    succeed(&train.arg("--autoencoder").arg(folder.path("ae").join(AUTOENCODER)).output().unwrap());
    folder.path("gan/model.safetensors")
}

fn calibrate(folder: &Folder, model: &Path, out: &Path) -> Output {
    let mut command = program(&["calibrate", "--count", "400", "--data"]);
    command.arg(folder.path("images")).arg("--autoencoder").arg(folder.path("ae").join(AUTOENCODER));
    command.arg("--model").arg(model).arg("--out").arg(out).output().unwrap()
}

fn read(path: &Path) -> ModelFile {
    ModelFile::from_bytes(&std::fs::read(path).unwrap(), "model").unwrap()
}

fn variances(model: &ModelFile) -> Vec<f32> {
    model.tensors["generator.gaussian.variances"].to_dtype(candle_core::DType::F32).unwrap().to_vec1().unwrap()
}

/// Samples of a start with four times the variances vary too much; calibrating takes that back for the most part.
#[test]
fn a_start_that_is_too_wide_is_narrowed() {
    let folder = Folder::new();
    let mut wide = read(&model(&folder));
    let before = variances(&wide);
    let start = wide.tensors.get_mut("generator.gaussian.variances").unwrap();
    *start = (&*start * 4.0).unwrap();
    let (given, out) = (folder.path("wide.safetensors"), folder.path("calibrated.safetensors"));
    std::fs::write(&given, wide.to_bytes(candle_core::DType::F16).unwrap()).unwrap();
    let said = succeed(&calibrate(&folder, &given, &out));
    assert!(said.contains("along 6 directions"), "{said}");
    let calibrated = read(&out);
    for (before, after) in before.iter().zip(variances(&calibrated)) {
        assert!(after < 3.0 * before, "{after} of four times {before}");
    }
    assert!(calibrated.provenance.metrics.is_empty());
    let others =
        |path: &Path| bits(path).into_iter().filter(|(name, _)| !name.ends_with(".variances")).collect::<Vec<_>>();
    assert!(others(&out) == others(&given), "weights changed");
}

#[test]
fn what_has_no_such_start_is_refused() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "gan", &[]));
    let out = folder.path("out.safetensors");
    let refused = calibrate(&folder, &folder.path("gan/model.safetensors"), &out);
    fail(&refused, &["does not start from a normal distribution"]);
    assert!(!out.exists());
}
