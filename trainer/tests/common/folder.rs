//! Training in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device};
use image::{Rgb, RgbImage};

use crate::common::program;

pub const PRESET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tiny.toml");
pub const AUTOENCODER: &str = "autoencoder.safetensors";

/// A folder for one test, with ten pictures and one broken one under `images`.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path("images")).unwrap();
        for i in 0..10u8 {
            let color = |x: u32, y: u32| Rgb([(x * 9) as u8 ^ i, (y * 7) as u8, (x * y) as u8 + 20 * i]);
            RgbImage::from_fn(24, 20, color).save(folder.path(&format!("images/{i}.png"))).unwrap();
        }
        std::fs::write(folder.path("images/broken.jpg"), b"no picture").unwrap();
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Trains the tiny preset; `what` is `autoencoder` or `gan`.
    pub fn train(&self, what: &str, out: &str, more: &[&str]) -> Output {
        self.train_command(what, out, more).output().unwrap()
    }

    /// What [`Self::train`] runs.
    pub fn train_command(&self, what: &str, out: &str, more: &[&str]) -> Command {
        let mut command = program(&["train", what, "--preset", PRESET]);
        command.arg("--data").arg(self.path("images")).arg("--out").arg(self.path(out));
        if what == "gan" {
            command.arg("--autoencoder").arg(self.path("ae").join(AUTOENCODER));
        }
        command.args(more);
        command
    }
}

/// All tensors of a safetensors file, as bits.
pub fn bits(path: &Path) -> Vec<(String, Vec<u32>)> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let values = |(name, tensor): (String, candle_core::Tensor)| {
        let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (name, values.into_iter().map(f32::to_bits).collect())
    };
    let mut tensors: Vec<_> = tensors.into_iter().map(values).collect();
    tensors.sort();
    tensors
}
