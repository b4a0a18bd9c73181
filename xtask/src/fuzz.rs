//! `cargo xtask fuzz`: hostile files against the readers, by libFuzzer.

use crate::command::{self, command, output};
use crate::workspace;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::fs;

#[derive(Args)]
#[command(
    after_help = "Needs a C++ compiler, on Linux or macOS; stable Rust is enough. A finding ends the run and is \
    left in target/fuzz/TARGET/artifacts: the printed program repeats it when that file is its only argument. The \
    inputs that reached new code are kept in target/fuzz/TARGET/corpus, where the next run starts."
)]
pub struct Options {
    /// What to fuzz
    target: Target,

    /// How long to run, after the build
    #[arg(long, default_value_t = 20)]
    minutes: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// The reader of PyTorch checkpoints
    Importer,
    /// The decoders of images
    Images,
    /// The reader of files of latents, and what is done with them
    Latents,
    /// The reader of model files, and the networks that are built from them
    ModelFile,
    /// The reader of images in Parquet files
    Parquet,
    /// The reader of presets, and a training step of what they describe
    Preset,
}

impl Target {
    /// The binary of the crate `fuzz`.
    fn name(self) -> &'static str {
        match self {
            Self::Importer => "importer",
            Self::Images => "images",
            Self::Latents => "latents",
            Self::ModelFile => "model-file",
            Self::Parquet => "parquet",
            Self::Preset => "preset",
        }
    }

    /// The inputs that a first run starts from.
    fn seeds(self) -> &'static str {
        match self {
            Self::Importer => "tests/fixtures/checkpoint-reader",
            Self::Images => "trainer/tests/data/images",
            Self::Latents => "fuzz/seeds/latents",
            Self::ModelFile => "fuzz/seeds/model-file",
            Self::Parquet => "trainer/tests/data/parquet",
            Self::Preset => "fuzz/seeds/preset",
        }
    }

    /// libFuzzer's option for words that inputs consist of.
    fn dictionary(self) -> Option<&'static str> {
        match self {
            Self::Importer | Self::Images | Self::Latents | Self::Parquet => None,
            Self::ModelFile => Some("-dict=fuzz/model-file.dict"),
            Self::Preset => Some("-dict=fuzz/preset.dict"),
        }
    }
}

/// The coverage that libFuzzer is guided by.
const RUSTFLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing";

pub fn run(options: &Options) -> Result<()> {
    let name = options.target.name();
    // With `--target`, build scripts and procedural macros are not instrumented.
    let host = output(&mut command("rustc", ["--print=host-tuple"])).context("rustc does not name its host")?;
    let mut build = command("cargo", ["build", "--release", "--manifest-path=fuzz/Cargo.toml"]);
    command::run(build.args(["--bin", name, "--target", &host]).env("RUSTFLAGS", RUSTFLAGS))?;

    let kept = workspace::root().join("target/fuzz").join(name);
    let (corpus, artifacts) = (kept.join("corpus"), kept.join("artifacts"));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut fuzz = command(workspace::root().join(format!("fuzz/target/{host}/release/{name}")), []);
    fuzz.arg(corpus).arg(options.target.seeds());
    fuzz.arg(format!("-artifact_prefix={}/", artifacts.display()));
    fuzz.arg(format!("-max_total_time={}", options.minutes * 60));
    fuzz.args(["-max_len=8192", "-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"]);
    // Threads would take turns on inputs that are too small for them.
    command::run(fuzz.args(options.target.dictionary()).env("RAYON_NUM_THREADS", "1"))
}
