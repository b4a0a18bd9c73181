//! `lddgan import` and `lddgan run` as their users run them, on checkpoints in the format of the authors.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;

use candle_core::{DType, Device, Tensor};
use lddgan::ModelFile;
use lddgan_trainer::import::pytorch::PytorchFile;

use common::{fail, program, succeed};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// Imports a whole model; the autoencoder is always the one that fits.
fn import(preset: &Path, generator: &Path, out: &Path) -> Output {
    let mut command = program(&["import", "--preset"]);
    command.arg(preset).arg("--generator").arg(generator).arg("--out").arg(out);
    command.arg("--autoencoder").arg(fixture("autoencoder-kl-f2/16x16x4_551.ckpt")).output().unwrap()
}

/// Checks that an import failed with all of `words` in its message, and wrote nothing.
fn refused(output: &Output, out: &Path, words: &[&str]) {
    fail(output, words);
    assert!(!out.exists());
}

/// A checkpoint in the zip format whose pickle is `pickle`.
fn checkpoint(path: &Path, pickle: &[u8]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("archive/data.pkl", stored).unwrap();
    archive.write_all(pickle).unwrap();
    archive.finish().unwrap();
}

#[test]
fn an_imported_model_agrees_with_the_recording_and_samples() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.safetensors");
    let mut command = program(&["import", "--preset"]);
    command.arg(fixture("imported.toml")).arg("--generator").arg(fixture("train-step/netG_init.pth"));
    command.arg("--autoencoder").arg(fixture("autoencoder-kl-f2/16x16x4_551.ckpt")).arg("--out").arg(&out);
    let output = command.arg("--verify").arg(fixture("autoencoder-kl-f2/io.safetensors")).output().unwrap();
    succeed(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("decode_of_z_in: largest error"));
    let mut sample = program(&["sample", "--count", "2", "--model"]);
    succeed(&sample.arg(&out).arg("--out").arg(folder.path()).output().unwrap());
    let picture = image::open(folder.path().join("imported-1.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 32));
}

/// A WaveDiff, whose transform has no weights.
#[test]
fn a_model_without_autoencoder_goes_through_all_commands() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let import = |more: &[&Path]| {
        let mut command = program(&["import", "--preset"]);
        command.arg(fixture("wavediff/imported.toml")).arg("--generator");
        command.arg(fixture("wavediff/train-step/netG_init.pth")).arg("--out").arg(path("model.safetensors"));
        command.args(more).output().unwrap()
    };
    let autoencoder = fixture("autoencoder-kl-f2/16x16x4_551.ckpt");
    let output = import(&[Path::new("--autoencoder"), &autoencoder]);
    refused(&output, &path("model.safetensors"), &["imported-wavediff", "--autoencoder"]);
    succeed(&import(&[]));
    let on_model = |command: &[&str], more: &[&Path]| {
        let mut command = program(command);
        succeed(&command.arg("--model").arg(path("model.safetensors")).args(more).output().unwrap())
    };
    let (out, golden) = (Path::new("--out"), Path::new("--golden"));
    on_model(&["sample", "--count", "1"], &[out, &path("samples")]);
    let picture = image::open(path("samples/imported-wavediff-0.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 32));
    on_model(&["golden"], &[out, &path("golden.safetensors")]);
    for backend in ["candle", "cpu", "wgpu"] {
        on_model(&["check", "--backend", backend], &[golden, &path("golden.safetensors")]);
    }
    on_model(&["export"], &[Path::new("--onnx"), &path("onnx")]);
    assert!(path("onnx/generator.onnx").is_file() && path("onnx/decoder.onnx").is_file());
    on_model(&["info"], &[]);
}

#[test]
fn a_recording_of_other_weights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (out, recorded) = (folder.path().join("model.safetensors"), folder.path().join("io.safetensors"));
    let mut tensors =
        candle_core::safetensors::load(fixture("autoencoder-kl-f2/io.safetensors"), &Device::Cpu).unwrap();
    let image = tensors["decode_of_z_in"].affine(1.01, 0.0).unwrap();
    tensors.insert("decode_of_z_in".to_string(), image);
    candle_core::safetensors::save(&tensors, &recorded).unwrap();
    let mut command = program(&["import", "--preset"]);
    command.arg(fixture("imported.toml")).arg("--generator").arg(fixture("train-step/netG_init.pth"));
    command.arg("--autoencoder").arg(fixture("autoencoder-kl-f2/16x16x4_551.ckpt")).arg("--out").arg(&out);
    let output = command.arg("--verify").arg(&recorded).output().unwrap();
    refused(&output, &out, &["io.safetensors", "decode_of_z_in", "nothing was written"]);
}

#[test]
fn broken_and_hostile_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (preset, out) = (fixture("imported.toml"), path("model.safetensors"));

    let whole = std::fs::read(fixture("train-step/netG_init.pth")).unwrap();
    std::fs::write(path("short.pth"), &whole[..whole.len() / 2]).unwrap();
    refused(&import(&preset, &path("short.pth"), &out), &out, &["short.pth", "whole"]);
    std::fs::write(path("text.pth"), "no checkpoint").unwrap();
    refused(&import(&preset, &path("text.pth"), &out), &out, &["text.pth", "not a PyTorch checkpoint"]);
    refused(&import(&preset, &path("absent.pth"), &out), &out, &["absent.pth"]);
    std::fs::write(path("lfs.pth"), "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n").unwrap();
    refused(&import(&preset, &path("lfs.pth"), &out), &out, &["lfs.pth", "Git LFS pointer"]);
    // {"optimizer": {}, "epoch": 3}
    checkpoint(&path("keys.pth"), b"\x80\x02}(X\x09\0\0\0optimizer}X\x05\0\0\0epochK\x03u.");
    refused(&import(&preset, &path("keys.pth"), &out), &out, &["keys.pth", "`netG_dict`", "optimizer, epoch"]);

    // What `os.system` would be given, were it called.
    let witness = path("executed");
    let pickle = format!("\u{80}\u{2}cos\nsystem\nX....touch {}\u{85}R.", witness.display());
    let mut pickle: Vec<u8> = pickle.chars().map(|c| c as u32 as u8).collect();
    let start = pickle.iter().position(|&byte| byte == b'X').unwrap() + 1;
    let length = (pickle.len() - start - 4 - 3) as u32;
    pickle[start..start + 4].copy_from_slice(&length.to_le_bytes());
    checkpoint(&path("hostile.pth"), &pickle);
    refused(&import(&preset, &path("hostile.pth"), &out), &out, &["hostile.pth", "os.system", "nothing ran"]);
    assert!(!witness.exists());
}

#[test]
fn a_checkpoint_of_another_preset_lists_every_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.safetensors");
    let output = import(Path::new("cifar10"), &fixture("train-step/netG_init.pth"), &out);
    let words = ["netG_init.pth", "wrong shape: all_modules.2.weight", "missing: all_modules.28.bias [4]"];
    refused(&output, &out, &words);
    // A preset that measures the scale of its latents cannot say what an imported generator expects.
    let output = import(Path::new("faces64"), &fixture("train-step/netG_init.pth"), &out);
    refused(&output, &out, &["faces64", "latent_normalization"]);
}

#[test]
fn one_network_is_imported_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut command = program(&["import", "--network", "discriminator", "--config"]);
    command.arg(fixture("discriminator-small/config.json")).arg("--weights");
    command.arg(fixture("discriminator-small/netD.pth")).arg("--out").arg(path("d.safetensors"));
    succeed(&command.output().unwrap());
    let file = ModelFile::from_bytes(&std::fs::read(path("d.safetensors")).unwrap(), "d").unwrap();
    assert!(file.config.discriminator.is_some() && file.config.generator.is_none());

    let run = |inputs: &Path| {
        let mut command = program(&["run", "--network", "discriminator", "--model"]);
        command.arg(path("d.safetensors")).arg("--inputs").arg(inputs);
        command.arg("--outputs").arg(path("out.safetensors")).output().unwrap()
    };
    let recorded = fixture("discriminator-small/io.safetensors");
    succeed(&run(&recorded));
    let load = |path: &Path| candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (found, expected) = (load(&path("out.safetensors")), load(&recorded));
    for (found, expected) in values(&found["logits"]).iter().zip(values(&expected["logits"])) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }

    // Inputs of wrong shapes are named, and no outputs are written.
    std::fs::remove_file(path("out.safetensors")).unwrap();
    let wrong = |name: &str, tensor: Option<Tensor>| {
        let mut inputs = load(&recorded);
        inputs.retain(|name, _| ["x_t", "t", "x_tp1"].contains(&name.as_str()));
        match tensor {
            Some(tensor) => inputs.insert(name.to_string(), tensor),
            None => inputs.remove(name),
        };
        candle_core::safetensors::save(&inputs, path("in.safetensors")).unwrap();
        let output = run(&path("in.safetensors"));
        refused(&output, &path("out.safetensors"), &["in.safetensors", name]);
    };
    let zeros = |shape: &[usize]| Some(Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap());
    wrong("x_t", zeros(&[8, 3, 16, 16]));
    wrong("x_t", zeros(&[8, 4, 16]));
    wrong("x_tp1", zeros(&[4, 4, 16, 16]));
    wrong("t", zeros(&[3]));
    let t = |value: f32| Some(Tensor::full(value, 8, &Device::Cpu).unwrap());
    for no_step in [2.7, -1.0, f32::NAN, f32::INFINITY, 1e4] {
        wrong("t", t(no_step));
    }
    wrong("t", None);
}

/// A checkpoint with the names of `like` changed by `rename`, and with what `more` adds to the pickle of the whole.
fn renamed(path: &Path, like: &Path, key: &str, rename: impl Fn(&str) -> Vec<String>, more: &[u8]) {
    let file = PytorchFile::open(like).unwrap();
    let state = file.state_dict(&[key]).unwrap();
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let number = |number: usize| [b"J", &(number as u32).to_le_bytes()[..]].concat();
    let mut pickle = [b"\x80\x02}(", &text(key)[..], b"}("].concat();
    for (index, (name, shape)) in state.shapes().enumerate() {
        let tensor = state.tensor(name).unwrap().to_dtype(DType::F32).unwrap();
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        archive.start_file(format!("archive/data/{index}"), stored).unwrap();
        archive.write_all(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        let sizes: Vec<u8> = shape.iter().flat_map(|&size| number(size)).collect();
        let strides = (0..shape.len()).flat_map(|i| number(shape[i + 1..].iter().product())).collect::<Vec<u8>>();
        for name in rename(name) {
            pickle.extend(text(&name));
            pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            pickle.extend([text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(&index.to_string())].concat());
            pickle.extend([text("cpu"), number(values.len()), b"tQK\0(".to_vec()].concat());
            pickle.extend([&sizes, &b"t("[..], &strides, b"ttR"].concat());
        }
    }
    pickle.extend([b"u", more, b"u."].concat());
    archive.start_file("archive/data.pkl", stored).unwrap();
    archive.write_all(&pickle).unwrap();
    archive.finish().unwrap();
}

/// Compiled and distributed models put prefixes before names, objects of the training program lie beside the weights.
#[test]
fn what_training_programs_add_to_checkpoints_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (preset, generator) = (fixture("imported.toml"), fixture("train-step/netG_init.pth"));
    let plain = import(&preset, &generator, &path("plain.safetensors"));
    succeed(&plain);
    let weights = |file: &str| std::fs::read(path(file)).unwrap();
    // The note of where it was imported from has as many bytes.
    let expected = weights("plain.safetensors").len();

    let own = |name: &str| name.trim_start_matches("module.").to_string();
    for prefix in ["", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."] {
        renamed(&path("netG_init.pth"), &generator, "netG_dict", |name| vec![format!("{prefix}{}", own(name))], b"");
        succeed(&import(&preset, &path("netG_init.pth"), &path("out.safetensors")));
        assert_eq!(weights("out.safetensors").len(), expected, "{prefix}");
        assert!(weights("out.safetensors") == weights("plain.safetensors"), "{prefix}");
    }

    let mode = b"X\x04\0\0\0modec__main__\nMode\nX\x01\0\0\0a\x85R";
    renamed(&path("netG_init.pth"), &generator, "netG_dict", |name| vec![name.to_string()], mode);
    let output = import(&preset, &path("netG_init.pth"), &path("out.safetensors"));
    succeed(&output);
    assert!(weights("out.safetensors") == weights("plain.safetensors"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("netG_init.pth: passed over objects of __main__.Mode; nothing of them was run"), "{said}");
}

#[test]
fn averages_of_weights_beside_an_autoencoder_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let autoencoder = fixture("autoencoder-kl-f2/16x16x4_551.ckpt");
    let import = |weights: &Path, out: &Path| {
        let mut command = program(&["import", "--network", "autoencoder", "--config"]);
        command.arg(fixture("autoencoder-kl-f2/config.yaml")).arg("--weights").arg(weights).arg("--out").arg(out);
        succeed(&command.output().unwrap());
        ModelFile::from_bytes(&std::fs::read(out).unwrap(), "autoencoder").unwrap()
    };
    let expected = import(&autoencoder, &path("plain.safetensors"));
    let with_averages = |name: &str| vec![name.to_string(), format!("model_ema.{}", name.replace('.', ""))];
    renamed(&path("ema.ckpt"), &autoencoder, "state_dict", with_averages, b"");
    let found = import(&path("ema.ckpt"), &path("ema.safetensors"));
    assert_eq!(found.tensors.keys().collect::<Vec<_>>(), expected.tensors.keys().collect::<Vec<_>>());
}
