//! `lddgan bench paper`: the systems that the paper compares, side by side on one backend.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use clap::{Args, ValueEnum};
use lddgan::backend::CandleBackend;
use lddgan::model::{LATENT, NamedNoise};
use lddgan::{Cost, Model, ModelFile, NetworkName};
use lddgan_trainer::backend::{BackendName, adapter, device};
use lddgan_trainer::bench::{Protocol, Timing};
use lddgan_trainer::files::read_model;
use lddgan_trainer::preset::Preset;
use lddgan_trainer::{files, revision, say, warn};
use lddgan_webgpu::{Compiler, Gpu};
use serde::Serialize;

use super::source::random_model;

#[derive(Args)]
pub struct Paper {
    /// Data set whose published settings are compared
    #[arg(long)]
    data: DataSet,
    /// Backend that computes
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Model file that gives the weights of the method that has its networks; others are random. Can be given several times
    #[arg(long = "model", value_name = "FILE")]
    models: Vec<PathBuf>,
    /// For each method, and its decoder alone
    #[command(flatten)]
    protocol: Protocol,
    /// File that gets the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum DataSet {
    Cifar10,
    Celebahq256,
    Church256,
}

/// What a publication says.
#[derive(Debug, Clone, Copy, Serialize)]
struct Published {
    fid: f64,
    recall: Option<f64>,
    /// Seconds for 100 images.
    seconds: f64,
    /// The card on which the seconds were taken, or the publication that says them without a card.
    timed: &'static str,
}

impl Published {
    const fn new(fid: f64, recall: Option<f64>, seconds: f64, timed: &'static str) -> Option<Self> {
        Some(Self { fid, recall, seconds, timed })
    }
}

impl DataSet {
    /// Name, preset and published figures of each method: those of DDGAN as WaveDiff's paper lists them (recall on LSUN
    /// church is in neither paper), those of WaveDiff from its repository, those of LDDGAN from its paper.
    fn methods(self) -> [(&'static str, &'static str, Option<Published>); 4] {
        let [ddgan, wavediff, lddgan, slim] = match self {
            Self::Cifar10 => ["ddgan-cifar10", "wavediff-cifar10", "cifar10", "cifar10-slim"],
            Self::Celebahq256 => ["ddgan-celebahq256", "wavediff-celebahq256", "celebahq256", "celebahq256-slim"],
            Self::Church256 => ["ddgan-church256", "wavediff-church256", "church256", "church256-slim"],
        };
        let of_ddgan = |fid, recall, seconds| Published::new(fid, recall, seconds, "WaveDiff's paper");
        let of_wavediff = |fid, recall, seconds| Published::new(fid, Some(recall), seconds, "A100");
        let of_lddgan = |fid, recall, seconds| Published::new(fid, Some(recall), seconds, "A5000");
        let published = match self {
            Self::Cifar10 => {
                [of_ddgan(3.75, Some(0.57), 0.21), of_wavediff(4.01, 0.55, 0.08), of_lddgan(2.95, 0.58, 0.08)]
            }
            Self::Celebahq256 => {
                [of_ddgan(7.64, Some(0.36), 1.73), of_wavediff(5.94, 0.37, 0.79), of_lddgan(5.21, 0.40, 0.55)]
            }
            Self::Church256 => [of_ddgan(5.25, None, 3.42), of_wavediff(5.06, 0.40, 1.54), of_lddgan(4.67, 0.42, 1.02)],
        };
        [
            ("DDGAN", ddgan, published[0]),
            ("WaveDiff", wavediff, published[1]),
            ("LDDGAN", lddgan, published[2]),
            ("LDDGAN, slim decoder", slim, None),
        ]
    }
}

/// What was measured of one method.
#[derive(Serialize)]
struct Row {
    method: &'static str,
    preset: &'static str,
    /// Where the weights come from: a file, or nowhere.
    weights: Option<String>,
    generator_parameters: usize,
    decoder_parameters: usize,
    steps: usize,
    /// Of one step.
    generator_gflops: f64,
    decoder_gflops: f64,
    gflops_per_image: f64,
    /// Of a batch: all steps and the decoder, and the decoder alone.
    seconds: Timing,
    decoder_seconds: Timing,
    milliseconds_per_image: f64,
    /// Of the fastest trials, which other programs disturb least.
    decoder_share: f64,
    /// Weights, and what a batch needs besides them.
    bytes: u64,
    published: Option<Published>,
}

#[derive(Serialize)]
struct Report {
    what: &'static str,
    data: DataSet,
    device: String,
    threads: usize,
    revision: String,
    methods: Vec<Row>,
}

pub fn paper(options: &Paper) -> Result<()> {
    let files = options.models.iter().map(|path| read_model(path)).collect::<Result<Vec<_>, _>>()?;
    let place = Place::new(options.backend)?;
    let presets = options.data.methods().map(|(_, preset, _)| Preset::load(preset));
    let presets = presets.into_iter().collect::<Result<Vec<_>, _>>()?;
    if let Some((_, name)) = files.iter().find(|(file, _)| !presets.iter().any(|preset| is_of(file, preset))) {
        anyhow::bail!("{name}: its networks match none of the methods that are compared on this data");
    }
    let mut methods = Vec::new();
    for ((method, name, published), preset) in options.data.methods().into_iter().zip(&presets) {
        warn!("{method}");
        let weights = files.iter().find(|(file, _)| is_of(file, preset));
        methods.push(Row { method, preset: name, published, ..row(preset, weights, &place, &options.protocol)? });
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let report =
        Report { what: "paper", data: options.data, device: place.name(), threads, revision: revision(), methods };
    print(&report);
    if let Some(path) = &options.json {
        files::write_atomic(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}

/// Whether a file holds the networks of a preset.
fn is_of(file: &ModelFile, preset: &Preset) -> bool {
    let config = &file.config;
    config.generator.as_ref() == Some(&preset.generator) && config.autoencoder.as_ref() == Some(&preset.autoencoder)
}

/// All figures of one method but its names and what was published of it.
fn row(preset: &Preset, weights: Option<&(ModelFile, String)>, place: &Place, protocol: &Protocol) -> Result<Row> {
    let model = match weights {
        Some((file, name)) => file.model(name, place.device())?,
        None => random_model(preset, place.device())?,
    };
    let config = preset.networks();
    let (generator, decoder) = (Cost::of(NetworkName::Generator, &config)?, Cost::of(NetworkName::Decoder, &config)?);
    let gflops = |cost: Cost| cost.flops as f64 / 1e9;
    let steps = preset.diffusion.steps();
    let Measured { whole, decoder: alone, bytes } = place.measure(&model, protocol)?;
    Ok(Row {
        method: "",
        preset: "",
        weights: weights.map(|(_, name)| name.clone()),
        generator_parameters: generator.parameters,
        decoder_parameters: decoder.parameters,
        steps,
        generator_gflops: gflops(generator),
        decoder_gflops: gflops(decoder),
        gflops_per_image: steps as f64 * gflops(generator) + gflops(decoder),
        milliseconds_per_image: 1e3 / whole.images_per_second,
        decoder_share: alone.fastest / whole.fastest,
        seconds: whole,
        decoder_seconds: alone,
        bytes,
        published: None,
    })
}

/// What computes.
enum Place {
    Cpu,
    Candle(Device),
    Wgpu(Box<Gpu>),
}

struct Measured {
    whole: Timing,
    decoder: Timing,
    bytes: u64,
}

impl Place {
    fn new(backend: BackendName) -> Result<Self> {
        Ok(match backend {
            BackendName::Cpu => Self::Cpu,
            BackendName::Candle | BackendName::Cuda => Self::Candle(device(backend)?),
            BackendName::Wgpu => Self::Wgpu(Box::new(pollster::block_on(Gpu::new())?)),
        })
    }

    fn device(&self) -> &Device {
        match self {
            Self::Candle(device) => device,
            Self::Cpu | Self::Wgpu(_) => &Device::Cpu,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Cpu => format!("{:?}", Device::Cpu.location()),
            Self::Candle(device) => format!("{:?}", device.location()),
            Self::Wgpu(gpu) => adapter(gpu),
        }
    }

    fn measure(&self, model: &Model, protocol: &Protocol) -> Result<Measured> {
        match self {
            Self::Candle(device) => {
                let inputs = model.inputs(&seeds(protocol), device)?;
                let finished = |image: &Tensor| Ok(image.device().synchronize()?);
                let sampling = protocol.time(|| finished(&model.sample(&mut CandleBackend, &inputs)?.image))?;
                let decoding = protocol.time(|| finished(&model.decode(&mut CandleBackend, &inputs.x)?))?;
                let bytes = model.record(protocol.batch())?.bytes() + weight_bytes(model)?;
                Ok(Measured { whole: sampling, decoder: decoding, bytes })
            }
            Self::Cpu => measure(&mut lddgan_cpu::Compiler::default(), model, protocol),
            Self::Wgpu(gpu) => measure(&mut Compiler::new(Gpu::clone(gpu)), model, protocol),
        }
    }
}

/// Times all steps and the decoder alone, compiled.
fn measure<C>(compiler: &mut C, model: &Model, protocol: &Protocol) -> Result<Measured>
where
    C: lddgan::Compiler<Error: std::error::Error + Send + Sync + 'static>,
{
    let noise = model.draw(&seeds(protocol));
    let inputs: Vec<_> = noise.iter().map(NamedNoise::as_input).collect();
    let latent = noise.first().context("the model takes no noise")?;
    let (whole, bytes) = protocol.time_graph(compiler, &model.record(protocol.batch())?, &inputs)?;
    let decoder = model.record_decode(protocol.batch())?;
    let (decoder, _) = protocol.time_graph(compiler, &decoder, &[(LATENT, &latent.values)])?;
    Ok(Measured { whole, decoder, bytes })
}

fn seeds(protocol: &Protocol) -> Vec<u64> {
    (0..protocol.batch() as u64).collect()
}

/// Bytes of the weights in f32.
fn weight_bytes(model: &Model) -> Result<u64> {
    let config = &model.config;
    let networks = config.clone().into();
    let generator = Cost::of(NetworkName::Generator, &networks)?.parameters;
    let decoder = Cost::of(NetworkName::Decoder, &networks)?.parameters;
    Ok(4 * (generator + decoder + config.autoencoder.codes * config.autoencoder.latent_channels) as u64)
}

/// A table in Markdown.
fn print(report: &Report) {
    let batch = report.methods.first().map_or(0, |row| row.seconds.batch);
    say!("{} ({} threads), batch {batch}\n", report.device, report.threads);
    say!(
        "| method | preset | parameters, millions: generator + decoder | GFLOPs an image: steps x generator + decoder | \
         ms an image: mean (fastest) | decoder's share | memory, MB | published: FID, recall, s for 100 images |"
    );
    say!("|---|---|---:|---:|---:|---:|---:|---|");
    for row in &report.methods {
        let published = row.published.map_or("none".to_string(), |Published { fid, recall, seconds, timed }| {
            let recall = recall.map_or("none".to_string(), |recall| format!("{recall:.2}"));
            format!("{fid:.2}, {recall}, {seconds:.2} ({timed})")
        });
        say!(
            "| {} | `{}` | {:.1} + {:.1} | {} x {:.2} + {:.2} = {:.1} | {:.1} ({:.1}) | {:.0} % | {:.0} | {published} |",
            row.method,
            row.preset,
            row.generator_parameters as f64 / 1e6,
            row.decoder_parameters as f64 / 1e6,
            row.steps,
            row.generator_gflops,
            row.decoder_gflops,
            row.gflops_per_image,
            row.milliseconds_per_image,
            1e3 * row.seconds.fastest / row.seconds.batch as f64,
            100.0 * row.decoder_share,
            row.bytes as f64 / 1e6,
        );
    }
}
