//! `lddgan golden` and `lddgan check` on the shipped model.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use lddgan::ModelFile;
use lddgan::check::{Golden, LATENT_TOLERANCE, Report};

use common::{fail, program, succeed};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/models/faces64.safetensors");

fn check(model: &Path, golden: &Path, report: &Path) -> Output {
    let mut command = program(&["check", "--model"]);
    command.arg(model).arg("--golden").arg(golden).arg("--json").arg(report).output().unwrap()
}

fn recorded(folder: &Path) -> PathBuf {
    let golden = folder.join("golden.safetensors");
    succeed(&program(&["golden", "--model", MODEL, "--count", "1", "--out"]).arg(&golden).output().unwrap());
    golden
}

#[test]
fn this_machine_agrees_with_itself_and_not_with_a_falsified_recording() {
    let folder = tempfile::tempdir().unwrap();
    let (golden, report) = (recorded(folder.path()), folder.path().join("report.json"));
    let said = succeed(&check(Path::new(MODEL), &golden, &report));
    assert!(said.contains("latent/4") && !said.contains("FAILED"), "{said}");
    let read = |path: &Path| serde_json::from_slice::<Report>(&std::fs::read(path).unwrap()).unwrap();
    let good = read(&report);
    // Noise (a start, four z, three of the posterior), five latents, the image.
    assert!(good.passed && good.stages.len() == 8 + 5 + 1, "{good:?}");

    let mut altered = Golden::from_bytes(&std::fs::read(&golden).unwrap(), "golden").unwrap();
    let image = (altered.stages["image"].clone() + 0.05).unwrap();
    altered.stages.insert("image".to_string(), image);
    std::fs::write(&golden, altered.to_bytes().unwrap()).unwrap();
    let bad = folder.path().join("bad.json");
    let output = check(Path::new(MODEL), &golden, &bad);
    fail(&output, &["cpu does not compute this model correctly"]);
    let failed: Vec<String> = read(&bad).stages.into_iter().filter(|stage| !stage.passed).map(|s| s.name).collect();
    assert_eq!(failed, ["image"]);

    let said = succeed(&program(&["check", "compare"]).arg(&report).arg(&bad).output().unwrap());
    assert!(said.contains("a passed") && said.contains("b FAILED"), "{said}");
}

/// Latents are far off in numbers of 8 bits (a tenth, where f32 may differ by a thousandth); the image tells.
#[test]
fn fewer_bits_are_judged_by_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let (golden, path) = (recorded(folder.path()), folder.path().join("report.json"));
    let check = |backend: &str, precision: &str| {
        let mut command = program(&["check", "--model", MODEL, "--backend", backend, "--precision", precision]);
        command.arg("--golden").arg(&golden).arg("--json").arg(&path).output().unwrap()
    };
    succeed(&check("candle", "bf16"));
    let report: Report = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(report.executor, "candle, bf16");
    let last = report.stages.iter().find(|stage| stage.name == "latent/0").unwrap();
    assert!(last.passed && last.max_error > LATENT_TOLERANCE, "{last:?}");
    fail(&check("candle", "tf32"), &["only CUDA devices have TF32"]);
    let needs = ["`--precision bf16` needs `--backend cuda` or `candle`"];
    fail(&check("cpu", "bf16"), &needs);
    fail(&program(&["bench", "sample", "--model", MODEL, "--precision", "bf16"]).output().unwrap(), &needs);
}

#[test]
fn a_recording_of_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let golden = recorded(folder.path());
    let mut other = ModelFile::from_bytes(&std::fs::read(MODEL).unwrap(), "model").unwrap();
    other.provenance.name = "another".to_string();
    let path = folder.path().join("another.safetensors");
    std::fs::write(&path, other.to_bytes(candle_core::DType::F16).unwrap()).unwrap();
    let report = folder.path().join("report.json");
    fail(&check(&path, &golden, &report), &["is not the model that the golden tensors were made with (faces64)"]);
    assert!(!report.exists());
    fail(&check(&path, &path, &report), &["not a file of golden tensors"]);
}
