//! Training in two processes over MPI, as its users run it: against one process, resumed in another number, stopped and
//! failing. Without the feature `mpi` there is nothing to run, and the tests are listed as ignored.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device};
use image::{Rgb, RgbImage};

use common::{fail, program, succeed};

const AUTOENCODER: &str = "autoencoder/autoencoder.safetensors";
const STATE: &str = "state.safetensors";
/// The largest difference between one process and two: of Euclidean norms over all values of a part.
const TOLERANCE: f64 = 1e-5;

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
        folder.preset(8);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn preset(&self, batch: i64) {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tiny.toml")).unwrap();
        let mut preset: toml::Table = text.parse().unwrap();
        for stage in ["train_autoencoder", "train_gan"] {
            preset[stage]["batch"] = batch.into();
            preset[stage]["images"] = 40.into();
        }
        // With what depends on the batch as a whole: unused codes, the spread of latents.
        let autoencoder = preset["train_autoencoder"].as_table_mut().unwrap();
        autoencoder.insert("adversarial_from".to_string(), 8.into());
        autoencoder.insert("restart_codes_after".to_string(), 2.into());
        autoencoder.insert("latent_noise".to_string(), 0.1.into());
        std::fs::write(self.path("preset.toml"), preset.to_string()).unwrap();
    }

    /// The command that trains in one process; `what` is `autoencoder` or `gan`.
    fn alone(&self, what: &str, out: &str, more: &[&str]) -> Command {
        let mut command = program(&["train", what, "--preset"]);
        command.arg(self.path("preset.toml")).arg("--data").arg(self.path("images")).arg("--out").arg(self.path(out));
        if what == "gan" {
            command.arg("--autoencoder").arg(self.path(AUTOENCODER));
        }
        command.args(more);
        command
    }

    /// Trains in so many processes.
    fn train(&self, processes: usize, what: &str, out: &str, more: &[&str]) -> Output {
        let alone = || self.alone(what, out, more);
        if processes == 1 { alone().output().unwrap() } else { together(std::iter::repeat_with(alone).take(processes)) }
    }
}

/// Runs commands as the processes of one run.
fn together(commands: impl Iterator<Item = Command>) -> Output {
    let mut together = Command::new("mpirun");
    together.args(["--allow-run-as-root", "--oversubscribe"]).env_remove("RUST_BACKTRACE");
    // Containers forbid processes to read each other's memory.
    together.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    for (rank, command) in commands.enumerate() {
        together.args((rank > 0).then_some(":")).args(["-n", "1"]).arg(command.get_program()).args(command.get_args());
    }
    together.output().unwrap()
}

/// The newest checkpoint of a run.
fn checkpoint(run: &Path) -> PathBuf {
    let checkpoints = std::fs::read_dir(run.join("checkpoints")).unwrap();
    checkpoints.map(|entry| entry.unwrap().path()).max().unwrap()
}

/// The tensors of a run's newest checkpoint, each part of it as one list of values: parameters, averages, moments.
fn parts(run: &Path) -> BTreeMap<String, Vec<f32>> {
    let tensors = candle_core::safetensors::load(checkpoint(run).join(STATE), &Device::Cpu).unwrap();
    let mut parts = BTreeMap::<String, Vec<f32>>::new();
    for (name, tensor) in tensors.into_iter().collect::<BTreeMap<_, _>>() {
        let part = name.rsplit_once('/').unwrap().0;
        let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        parts.entry(part.to_string()).or_default().extend(values);
    }
    parts
}

/// Checks that two runs ended in the same state.
fn assert_close(one: &Path, other: &Path) {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let (one, other) = (parts(one), parts(other));
    assert!(one.keys().eq(other.keys()));
    for (part, values) in &one {
        let difference = norm(&mut values.iter().zip(&other[part]).map(|(a, b)| a - b));
        let size = norm(&mut values.iter().copied());
        assert!(difference <= TOLERANCE * size, "{part}: {difference:e} of {size:e}");
    }
}

/// The first step, five steps from a state of one process, and five from there with the numbers exchanged. More steps
/// from the start would show how Adam magnifies the rounding of gradients that are still almost zero.
#[test]
#[cfg_attr(not(feature = "mpi"), ignore = "needs Open MPI: cargo test --release -p lddgan-trainer --features mpi")]
fn two_processes_train_what_one_does_with_the_double_batch() {
    let folder = Folder::new();
    for what in ["autoencoder", "gan"] {
        let (one, other) = (what.to_string(), format!("{what}-other"));
        let train = |processes: usize, out: &str, more: &[&str]| {
            let said = succeed(&folder.train(processes, what, out, more));
            assert_eq!(said.matches(" s; wrote ").count(), 1, "{said}");
        };
        train(1, &one, &["--images", "8"]);
        train(2, &other, &["--images", "8"]);
        assert_close(&folder.path(&one), &folder.path(&other));
        // The state alone, as runs of version 0.1 have it.
        std::fs::copy(checkpoint(&folder.path(&one)).join(STATE), folder.path(&other).join(STATE)).unwrap();
        std::fs::remove_dir_all(folder.path(&other).join("checkpoints")).unwrap();
        for (images, processes) in [("48", [1, 2]), ("88", [2, 1])] {
            train(processes[0], &one, &["--images", images, "--resume"]);
            train(processes[1], &other, &["--images", images, "--resume"]);
            assert_close(&folder.path(&one), &folder.path(&other));
        }
    }
}

#[test]
#[cfg_attr(not(feature = "mpi"), ignore = "needs Open MPI: cargo test --release -p lddgan-trainer --features mpi")]
fn all_processes_stop_where_one_has_to() {
    let folder = Folder::new();
    let endless = ["--images", "1000000000"];
    let limits = [endless.to_vec(), [&endless[..], &["--minutes", "0.05"]].concat()];
    let said = succeed(&together(limits.iter().map(|limit| folder.alone("autoencoder", "out", limit))));
    assert_eq!(said.lines().filter(|line| line.contains("; wrote ")).count(), 1, "{said}");
}

#[test]
#[cfg_attr(not(feature = "mpi"), ignore = "needs Open MPI: cargo test --release -p lddgan-trainer --features mpi")]
fn an_error_in_one_process_ends_all() {
    let folder = Folder::new();
    let train = |options: [&[&str]; 2]| {
        together(options.into_iter().map(|options| folder.alone("autoencoder", "out", options)))
    };
    // The other one waits for it, having read its images.
    fail(&train([&[], &["--validation", "nowhere"]]), &["error: rank 1 of 2 processes", "nowhere"]);
    fail(&train([&[], &["--images", "16"]]), &["of 2 processes", "differ in their options"]);
    folder.preset(12);
    fail(&folder.train(2, "gan", "out", &[]), &["train_gan.batch", "cannot be shared by 2 processes", "multiple of 8"]);
    let left = std::fs::read_dir(folder.path("out")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["run.lock"]);
}
