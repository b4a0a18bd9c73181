//! Training in two processes over MPI, as its users run it: against one process, resumed in another number, stopped and
//! broken. Without the feature `mpi` there is nothing to run, and the tests are listed as ignored.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage};

use common::{fail, succeed};

const AUTOENCODER: &str = "ae/autoencoder.safetensors";
/// The largest difference between one process and two, in parts of a tensor's largest value.
const TOLERANCE: f32 = 1e-5;

/// A folder for one test with twelve pictures, and the tiny preset with batches of eight: two groups of the
/// discriminator's minibatch statistic.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path("images")).unwrap();
        for i in 0..12u8 {
            let color = |x: u32, y: u32| Rgb([(x * 9) as u8 ^ i, (y * 7) as u8, (x * y) as u8 + 15 * i]);
            RgbImage::from_fn(16, 16, color).save(folder.path(&format!("images/{i}.png"))).unwrap();
        }
        folder.preset("preset.toml", 8);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn preset(&self, name: &str, batch: i64) {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tiny.toml")).unwrap();
        let mut preset: toml::Table = text.parse().unwrap();
        for stage in ["train_autoencoder", "train_gan"] {
            preset[stage]["batch"] = batch.into();
            preset[stage]["images"] = 40.into();
        }
        preset["train_autoencoder"]["adversarial_from"] = 8.into();
        std::fs::write(self.path(name), preset.to_string()).unwrap();
    }

    /// The command that trains in so many processes; `what` is `autoencoder` or `gan`.
    fn command(&self, processes: usize, what: &str, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new("mpirun");
        command.args(["--allow-run-as-root", "--oversubscribe", "-n", &processes.to_string()]);
        command.arg(env!("CARGO_BIN_EXE_lddgan")).args(["train", what, "--preset"]).arg(self.path("preset.toml"));
        command.arg("--data").arg(self.path("images")).arg("--out").arg(self.path(out));
        if what == "gan" {
            command.arg("--autoencoder").arg(self.path(AUTOENCODER));
        }
        command.args(more).env_remove("RUST_BACKTRACE");
        command
    }

    fn train(&self, processes: usize, what: &str, out: &str, more: &[&str]) -> Output {
        self.command(processes, what, out, more).output().unwrap()
    }
}

fn tensors(folder: &Path) -> Vec<(String, Tensor)> {
    let tensors = candle_core::safetensors::load(folder.join("state.safetensors"), &Device::Cpu).unwrap();
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    tensors
}

/// Checks that two runs ended in the same state: parameters, moments, averages.
fn assert_close(one: &Path, other: &Path) {
    let (one, other) = (tensors(one), tensors(other));
    assert_eq!(one.len(), other.len());
    for ((name, a), (other_name, b)) in one.iter().zip(&other) {
        assert_eq!(name, other_name);
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        let largest = |tensor: Tensor| tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let (a, b) = (values(a), values(b));
        let difference = largest((&a - &b).unwrap());
        println!("{name}: {difference:e} of {:e}", largest(a.clone()));
        assert!(difference <= TOLERANCE * largest(a), "{name}");
    }
}

#[test]
#[cfg_attr(not(feature = "mpi"), ignore = "needs Open MPI: cargo test --release -p lddgan-trainer --features mpi")]
fn two_processes_train_what_one_does_with_the_double_batch() {
    let folder = Folder::new();
    for (what, alone, together) in [("autoencoder", "ae", "ae-2"), ("gan", "gan", "gan-2")] {
        succeed(&folder.train(1, what, alone, &[]));
        let said = succeed(&folder.train(2, what, together, &[]));
        assert_eq!(said.matches("40 images in").count(), 1, "{said}");
        assert_close(&folder.path(alone), &folder.path(together));
    }
}
