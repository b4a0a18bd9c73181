//! `lddgan bench`: how long sampling and training take.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use clap::{Args, Subcommand};
use lddgan::model::NamedNoise;
use lddgan::noise::Stream;
use lddgan_trainer::backend::{BackendName, Dtype, adapter, device, needs_wgpu, webgpu_compiler};
use lddgan_trainer::bench::{Protocol, Timing};
use lddgan_trainer::data::prefetch;
use lddgan_trainer::distributed::Processes;
use lddgan_trainer::gan::{Moments, Setup, Step, Trainer};
use lddgan_trainer::precision::Precision;
use lddgan_trainer::preset::Preset;
use lddgan_trainer::run::training_device;
use lddgan_trainer::say;
use lddgan_trainer::tuning::tuned;
use lddgan_trainer::{files, memory, revision};
use serde::Serialize;

use super::kernels::{Kernels, kernels};
use super::paper::{Paper, paper};
use super::source::Source;

#[derive(Subcommand)]
pub enum Bench {
    /// Sampling: all denoising steps and the decoder, from one fixed noise
    Sample(Sample),
    /// Each WebGPU kernel of sampling, beside what the adapter reaches at most
    Kernels(Kernels),
    /// The systems that the paper compares, side by side: DDGAN, WaveDiff, LDDGAN
    Paper(Paper),
    /// The training step of generator and discriminator, on random latents
    Train(Train),
}

#[derive(Args)]
pub struct Sample {
    #[command(flatten)]
    source: Source,
    /// Backend that computes
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// With `--backend wgpu`, time the kernels on this GPU first and use the fastest; the times are kept for other runs
    #[arg(long)]
    tune: bool,
    /// Numbers of the images between the kernels of `--backend wgpu`
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Type of the numbers that `--backend cuda` or `candle` computes with
    #[arg(long, default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    protocol: Protocol,
    /// File that gets the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
pub struct Train {
    /// Preset: a name, or the path of a TOML file
    #[arg(long, default_value = "faces64")]
    preset: String,
    /// Backend that computes; `wgpu` cannot train
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Type of the numbers that it computes with
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Steps of a trial, whose losses are read together; the times are those of one step. Training on a GPU reads up to
    /// 50 at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
    #[command(flatten)]
    protocol: Protocol,
    /// File that gets the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was timed, and where.
#[derive(Serialize)]
struct Report {
    what: &'static str,
    name: String,
    device: String,
    threads: usize,
    revision: String,
    seconds: Timing,
}

pub fn bench(options: &Bench) -> Result<()> {
    match options {
        Bench::Sample(options) => sample(options),
        Bench::Kernels(options) => kernels(options),
        Bench::Paper(options) => paper(options),
        Bench::Train(options) => train(options),
    }
}

fn sample(options: &Sample) -> Result<()> {
    let wgpu = options.backend == BackendName::Wgpu;
    ensure!(wgpu || !options.tune, needs_wgpu("--tune"));
    ensure!(wgpu || options.dtype == Dtype::F32, needs_wgpu("--dtype f16"));
    options.precision.set_to_sample(options.backend)?;
    let device = device(options.backend)?;
    let (name, model) = options.source.model(&device)?;
    let seeds: Vec<u64> = (0..options.protocol.batch() as u64).collect();
    if let (true, Some(available)) = (options.backend.is_cpu(), memory::available()) {
        memory::check_batch(&model, options.backend, seeds.len(), available)?;
    }
    let noise = model.draw(&seeds);
    let inputs: Vec<_> = noise.iter().map(NamedNoise::as_input).collect();
    let place = format!("{:?}", device.location());
    let (device, seconds) = match options.backend {
        BackendName::Wgpu => {
            let graph = model.record(seeds.len())?;
            let mut compiler = webgpu_compiler()?;
            compiler.use_images(options.dtype.webgpu());
            if options.tune {
                compiler.use_times(tuned(compiler.gpu(), &graph)?);
            }
            let (timing, _) = options.protocol.time_graph(&mut compiler, &graph, &inputs)?;
            (adapter(compiler.gpu()), timing)
        }
        BackendName::Cpu => {
            let graph = model.record(seeds.len())?;
            (place, options.protocol.time_graph(&mut lddgan_cpu::Compiler::default(), &graph, &inputs)?.0)
        }
        BackendName::Candle | BackendName::Cuda => {
            let inputs = model.inputs(&seeds, &device)?;
            let call = || {
                let trajectory = options.precision.sample(&model, inputs.clone())?;
                trajectory.image.device().synchronize()?;
                Ok(())
            };
            (place, options.protocol.time(call)?)
        }
    };
    report("sample", name, device, seconds, &options.json)
}

fn train(options: &Train) -> Result<()> {
    let preset = Preset::load(&options.preset)?;
    let device = training_device(options.backend, options.precision, 0)?;
    let (processes, moments) = (Processes::alone(), Moments::standard(&preset)?);
    let mut trainer = Trainer::new(&Setup {
        preset: &preset,
        seed: 0,
        precision: options.precision,
        device: &device,
        processes: &processes,
        moments: Some(&moments),
    })?;
    let config = &preset.generator;
    let shape = (options.protocol.batch(), config.latent_channels, config.latent_size, config.latent_size);
    let latents = Stream::new(0, 0, "latents").normals(shape.0 * shape.1 * shape.2 * shape.3);
    let latents = Tensor::from_vec(latents, shape, &device)?;
    let samples: Vec<u64> = (0..options.protocol.batch() as u64).collect();
    let drawing = trainer.drawing(0);
    let mut drawn = prefetch((0..).map(move |number| drawing.draw(number, &samples)));
    let mut number = 0;
    let seconds = options.protocol.time(|| {
        let mut begun = Vec::new();
        for _ in 0..options.at_once {
            let step = Step {
                penalty: number % preset.train_gan.lazy_reg == 0,
                reconstruction_weight: 0.5,
                generator_learns: true,
            };
            let draws = drawn.next().context("the thread that draws random numbers stopped")??;
            begun.push(trainer.begin(&latents, &draws, step)?);
            number += 1;
        }
        trainer.losses(&begun)?;
        Ok(())
    })?;
    let seconds = seconds.of_one(options.at_once);
    report("train", preset.name, format!("{:?}", device.location()), seconds, &options.json)
}

fn report(what: &'static str, name: String, device: String, seconds: Timing, json: &Option<PathBuf>) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let report = Report { what, name, device, threads, revision: revision(), seconds };
    let Timing { batch, trials, mean, standard_deviation, fastest, median, images_per_second } = &report.seconds;
    say!("{what} {} on {} ({threads} threads), batch {batch}, {trials} trials", report.name, report.device);
    say!(
        "mean {mean:.4} s, standard deviation {standard_deviation:.4} s, median {median:.4} s, fastest {fastest:.4} s"
    );
    say!("{images_per_second:.1} images/s");
    if let Some(path) = json {
        files::write_atomic(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}
