//! The scripts that train on a machine with a GPU which is at hand for some minutes (`cargo xtask gpu-visit`), at toy size and on
//! the CPU: what comes back is a model that training goes on with here.
#![cfg(unix)]

mod common;
#[path = "common/folder.rs"]
mod folder;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use lddgan::check::Report;

use common::{fail, program, succeed};
use folder::{AUTOENCODER, Folder, PRESET, bits};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../xtask/gpu-visit");
const BACKBONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/backbone.onnx");
/// The most that one file may have to be brought back.
const FILE_LIMIT: u64 = 16 << 20;

/// The program, with this machine's CPU in the place of a GPU.
fn stand_in() -> String {
    let program = env!("CARGO_BIN_EXE_lddgan");
    format!(
        "#!/bin/sh\nfor argument; do\n  shift\n  [ \"$argument\" != cuda ] || argument=cpu\n  \
         [ \"$argument\" != tf32 ] || argument=f32\n  set -- \"$@\" \"$argument\"\ndone\nexec '{program}' \"$@\"\n"
    )
}

/// What a call brings along: the scripts, and all that generator and decoder are trained from.
fn pack(folder: &Folder) -> PathBuf {
    let call = folder.path("call");
    fs::create_dir_all(call.join("presets")).unwrap();
    for name in ["visit.sh", "libraries.sh", "webgpu.sh", "train.sh", "train-generator.sh", "train-decoder.sh"] {
        fs::copy(Path::new(SCRIPTS).join(name), call.join(name)).unwrap();
    }
    fs::write(call.join("lddgan"), stand_in()).unwrap();
    fs::set_permissions(call.join("lddgan"), fs::Permissions::from_mode(0o755)).unwrap();
    let preset = fs::read_to_string(PRESET).unwrap();
    fs::write(call.join("presets/faces256.toml"), &preset).unwrap();
    let losses = "adversarial = 0.1\nfeatures = 1.0\nprojected = 0.5\n";
    fs::write(call.join("decoder-a.toml"), preset.replace("adversarial = 0.1\n", losses)).unwrap();
    symlink(folder.path("images"), call.join("images.zip")).unwrap();
    fs::copy(BACKBONE, call.join("features.onnx")).unwrap();
    for name in ["faces256-autoencoder.safetensors", "decoder.safetensors"] {
        fs::copy(folder.path("ae").join(AUTOENCODER), call.join(name)).unwrap();
    }
    for (name, from) in [("faces256", "model"), ("faces256-discriminator", "discriminator")] {
        let from = folder.path("gan").join(format!("{from}.safetensors"));
        fs::copy(from, call.join(format!("{name}.safetensors"))).unwrap();
    }
    let mut golden = program(&["golden", "--model"]);
    golden.arg(call.join("faces256.safetensors")).arg("--out").arg(call.join("faces256.golden.safetensors"));
    succeed(&golden.output().unwrap());
    let mut encode = program(&["data", "encode", "--data"]);
    encode.arg(folder.path("images")).arg("--autoencoder").arg(folder.path("ae").join(AUTOENCODER));
    succeed(&encode.arg("--out").arg(call.join("latents.safetensors")).output().unwrap());
    call
}

/// Joins the parts of a file that came back.
fn join(out: &Path, name: &str, to: &Path) {
    let is_part = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(name);
    let mut parts: Vec<PathBuf> =
        fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path()).filter(is_part).collect();
    parts.sort();
    assert!(!parts.is_empty(), "no {name} came back");
    fs::write(to, parts.iter().flat_map(|part| fs::read(part).unwrap()).collect::<Vec<u8>>()).unwrap();
}

#[test]
fn what_a_visit_brings_back_is_trained_on_here() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "gan", &[]));
    let (call, run, out) = (pack(&folder), folder.path("run"), folder.path("out"));
    // The time that a decoder takes is not measured here.
    fs::create_dir(&run).unwrap();
    fs::write(run.join("decoder-plan"), "a 24\n").unwrap();
    let mut visit = Command::new(call.join("visit.sh"));
    visit
        .arg(&out)
        .args(["--webgpu", "16", "--train", "300"])
        .env("GPU_VISIT_RUN", &run)
        .env("TRAIN_SECONDS", "10")
        .env("CHECKPOINT_MINUTES", "0");
    let said = succeed(&visit.env_remove("RUST_BACKTRACE").output().unwrap());
    assert!(said.contains("training starts"), "{said}");
    // The first thing that is done with WebGPU; the rest is cut off when the seconds are over.
    let checked = fs::read(run.join("results/webgpu/check-faces256.json")).unwrap();
    assert!(serde_json::from_slice::<Report>(&checked).unwrap().passed, "{said}");
    for entry in fs::read_dir(&out).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.metadata().unwrap().len() <= FILE_LIMIT, "{:?}", entry.path());
    }

    let model = folder.path("model.safetensors");
    join(&out, "model-", &model);
    let seen = |model: &Path| {
        let described = succeed(&program(&["info", "--model"]).arg(model).output().unwrap());
        let counts: Vec<String> =
            described.lines().filter(|line| line.starts_with("gan = ")).map(str::to_string).collect();
        assert_eq!(counts.len(), 2, "steps and images: {described}");
        counts
    };
    let trained = seen(&model);
    assert_ne!(trained, seen(&call.join("faces256.safetensors")));
    let discriminator = out.join("discriminator.safetensors");
    let start = ["--generator", model.to_str().unwrap(), "--discriminator", discriminator.to_str().unwrap()];
    succeed(&folder.train("gan", "further", &start));
    assert_ne!(seen(&folder.path("further/model.safetensors")), trained);

    join(&out, "decoders.tar", &folder.path("decoders.tar"));
    let unpack = Command::new("tar").arg("-xf").arg(folder.path("decoders.tar")).current_dir(folder.path("")).output();
    succeed(&unpack.unwrap());
    for name in ["a-1", "a-2"] {
        let decoder = folder.path(&format!("{name}.safetensors"));
        assert_ne!(bits(&decoder), bits(&call.join("decoder.safetensors")), "{name}");
        let mut put = program(&["replace-decoder", "--model"]);
        put.arg(&model).arg("--autoencoder").arg(&decoder);
        succeed(&put.arg("--out").arg(folder.path("put.safetensors")).output().unwrap());
    }
}

#[test]
fn a_folder_with_nothing_to_train_from_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("train.sh");
    for name in ["train.sh", "libraries.sh"] {
        fs::copy(Path::new(SCRIPTS).join(name), folder.path().join(name)).unwrap();
    }
    fail(
        &Command::new(&script).arg(folder.path().join("run")).output().unwrap(),
        &["latents.safetensors", "features.onnx"],
    );
}
