//! `lddgan bench kernels`: where the time of sampling with WebGPU goes.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::Device;
use clap::Args;
use lddgan::Executor as _;
use lddgan::model::NamedNoise;
use lddgan_trainer::backend::{Dtype, adapter};
use lddgan_trainer::say;
use lddgan_trainer::{files, revision};
use lddgan_webgpu::ceilings::{self, Ceilings};
use lddgan_webgpu::executor::{ConvKernel, ConvLayer, ConvTimes, KernelTime, Options, summarise};
use lddgan_webgpu::{Executor, Gpu};
use serde::Serialize;

use super::source::Source;

#[derive(Args)]
pub struct Kernels {
    #[command(flatten)]
    source: Source,
    /// Images computed at a time
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Runs before the first that counts
    #[arg(long, default_value_t = 1)]
    warm_up: usize,
    /// Runs that are timed; each dispatch's median counts
    #[arg(long, default_value_t = 10)]
    trials: usize,
    /// Numbers of the images between the kernels
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Time every kernel for every convolution first, and use the fastest
    #[arg(long)]
    tune: bool,
    /// File that gets the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The times of all kernels, and where they were measured.
#[derive(Serialize)]
struct Report {
    what: &'static str,
    name: String,
    device: String,
    revision: String,
    batch: usize,
    trials: usize,
    ceilings: Ceilings,
    /// Of all dispatches, without what lies between them.
    seconds: f64,
    /// Of all buffers between the kernels.
    activation_bytes: u64,
    weight_bytes: u64,
    kernels: Vec<Row>,
    /// The convolutions under every kernel, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    convolutions: Option<ConvTimes>,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    time: KernelTime,
    flops_per_second: f64,
    bytes_per_second: f64,
    share_of_ceiling: f64,
}

impl Row {
    fn new(time: KernelTime, ceilings: &Ceilings) -> Self {
        Self {
            flops_per_second: time.flops_per_second(),
            bytes_per_second: time.bytes_per_second(),
            share_of_ceiling: time.share_of_ceiling(ceilings),
            time,
        }
    }
}

pub fn kernels(options: &Kernels) -> Result<()> {
    ensure!(options.batch > 0 && options.trials > 0, "--batch and --trials must not be 0");
    let report = pollster::block_on(measure(options))?;
    if let Some(path) = &options.json {
        files::write_atomic(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    print(&report);
    Ok(())
}

async fn measure(options: &Kernels) -> Result<Report> {
    let (name, model) = options.source.model(&Device::Cpu)?;
    let gpu = Gpu::new().await?;
    let ceilings = ceilings::measure(&gpu).await?;
    let graph = model.record(options.batch)?;
    let noise = model.draw(&(0..options.batch as u64).collect::<Vec<_>>());
    let inputs: Vec<_> = noise.iter().map(NamedNoise::as_input).collect();
    let images = options.dtype.webgpu();
    let mut times = ConvTimes::default();
    if options.tune {
        times.measure(&gpu, &graph, f64::INFINITY).await?;
    }
    let convolutions = |layer: &ConvLayer| times.kernel(layer, &gpu);
    let executor = Executor::with_options(&gpu, &graph, &Options { convolutions: &convolutions, images }).await?;
    let mut runs = Vec::new();
    for trial in 0..options.warm_up + options.trials {
        let run = executor.profile(inputs.iter().copied()).await?;
        if trial >= options.warm_up {
            runs.push(run);
        }
    }
    let kernels: Vec<Row> = summarise(&runs).into_iter().map(|time| Row::new(time, &ceilings)).collect();
    Ok(Report {
        what: "kernels",
        name,
        device: adapter(&gpu),
        revision: revision(),
        batch: options.batch,
        trials: options.trials,
        ceilings,
        seconds: kernels.iter().map(|row| row.time.seconds).sum(),
        kernels,
        convolutions: options.tune.then_some(times),
        activation_bytes: executor.activation_bytes(),
        weight_bytes: executor.weight_bytes(),
    })
}

fn print_convolutions(times: &ConvTimes) {
    let kernels: String = ConvKernel::all().map(|kernel| format!("{kernel:>9}")).collect();
    say!("milliseconds of each convolution under every kernel (pixels x channels of a tile), the fastest marked:");
    say!("{kernels}");
    for (layer, times) in &times.layers {
        let fastest = times.iter().map(|(_, seconds)| *seconds).fold(f64::INFINITY, f64::min);
        let time = |kernel: ConvKernel| match times.iter().find(|(timed, _)| *timed == kernel) {
            Some((_, seconds)) => format!("{:8.3}{}", seconds * 1e3, if *seconds == fastest { '*' } else { ' ' }),
            None => " ".repeat(9),
        };
        let ConvLayer { x, y, kernel, stride, upsample } = layer;
        let times: String = ConvKernel::all().map(time).collect();
        say!("{times}  {kernel}x{kernel}, stride {stride}, upsample {upsample}, {x:?} -> {y:?}");
    }
}

fn print(report: &Report) {
    if let Some(times) = &report.convolutions {
        print_convolutions(times);
    }
    let Report { name, device, batch, trials, ceilings, seconds, kernels, .. } = report;
    say!("kernels of {name} on {device}, batch {batch}, {trials} trials: {:.2} ms", seconds * 1e3);
    let (gflops, gbytes) = (ceilings.flops_per_second / 1e9, ceilings.bytes_per_second / 1e9);
    say!("ceilings: {gflops:.1} GFLOP/s (f32 multiply-adds), {gbytes:.1} GB/s (copy)");
    let dispatches: usize = kernels.iter().map(|row| row.time.dispatches).sum();
    let moved: u64 = kernels.iter().map(|row| row.time.work.bytes * row.time.dispatches as u64).sum();
    say!(
        "{dispatches} dispatches that read and write {:.1} MB; buffers of {:.1} MB, weights of {:.1} MB",
        moved as f64 / 1e6,
        report.activation_bytes as f64 / 1e6,
        report.weight_bytes as f64 / 1e6
    );
    say!("      ms  share  count  GFLOP/s    GB/s  of ceiling  kernel");
    for row in kernels {
        let KernelTime { work, dispatches, seconds: own } = &row.time;
        say!(
            "{:8.3} {:5.1}% {dispatches:6} {:8.1} {:7.1} {:10.1}%  {} {:?} -> {:?}",
            own * 1e3,
            100.0 * own / seconds,
            row.flops_per_second / 1e9,
            row.bytes_per_second / 1e9,
            100.0 * row.share_of_ceiling,
            work.kernel,
            work.x,
            work.y
        );
    }
}
