//! `lddgan eval`: how good a model's images are.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::DType;
use clap::Args;
use lddgan::ModelFile;
use lddgan_trainer::data;
use lddgan_trainer::eval::{self, Evaluation, Figures, Metric};
use lddgan_trainer::files::{self, read_model};
use lddgan_trainer::network::BackendName;
use lddgan_trainer::sampling::Sampler;
use serde::Serialize;

#[derive(Args)]
pub struct Eval {
    /// Model file
    #[arg(long)]
    model: PathBuf,
    /// Real images: a folder or a file (Parquet, tar, CIFAR-10's .bin, LMDB's data.mdb, what `data prepare` wrote)
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_value = "swd,precision,recall")]
    metrics: Vec<Metric>,
    /// Who computes the images
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Number of generated images; as many as there are real ones unless given
    #[arg(long)]
    count: Option<u64>,
    /// Seed of the first image; the others follow it. It also decides about SWD's patches and KID's subsets
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Weights of the Inception network (pytorch-fid's .pth, or .safetensors with the same names). Precision and
    /// recall are of principal components of pixels without it
    #[arg(long, value_name = "FILE")]
    inception: Option<PathBuf>,
    /// Keeps the Inception features of the real images (.safetensors or .npy): read if it is there, else written
    #[arg(long, value_name = "FILE", requires = "inception")]
    features: Option<PathBuf>,
    /// File that gets the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the figures into the model file
    #[arg(long)]
    update_model: bool,
    /// Images computed at a time
    #[arg(long, default_value_t = 16)]
    batch: u64,
}

/// What was measured on what.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    data: &'a Path,
    image_size: usize,
    first_seed: u64,
    generated_images: usize,
    real_images: usize,
    /// What FID, KID, precision and recall are of.
    features: Option<&'a str>,
    figures: Figures,
}

pub fn eval(options: &Eval) -> Result<()> {
    let (mut file, name) = read_model(&options.model)?;
    let mut sampler = Sampler::new(&file, &name, options.backend)?;
    let real = data::load(&options.data, sampler.model.config.autoencoder.image_size)?;
    let count = options.count.unwrap_or(real.len() as u64);
    let evaluation = Evaluation::prepare(
        &real,
        eval::Options {
            metrics: &options.metrics,
            generated: count,
            inception: options.inception.as_deref(),
            cache: options.features.as_deref(),
            seed: options.seed,
        },
    )?;
    let generated = sampler.image_set(options.seed, count, options.batch)?;
    let report = Report {
        model: &file.provenance.name,
        data: &options.data,
        image_size: real.size(),
        first_seed: options.seed,
        generated_images: generated.len(),
        real_images: real.len(),
        features: evaluation.feature_name(),
        figures: evaluation.measure(&generated)?,
    };
    print(&report);
    if let Some(path) = &options.json {
        files::write_atomic(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    if options.update_model {
        let metrics = named_with_counts(&report);
        file.provenance.metrics.extend(metrics);
        update(&file, &options.model)?;
    }
    Ok(())
}

fn print(report: &Report) {
    println!("{} generated images against {} real ones", report.generated_images, report.real_images);
    if let Some(features) = report.features {
        println!("features: {features}");
    }
    for (name, value) in &report.figures {
        println!("{name}: {value:.6}");
    }
}

/// The figures under names that tell what they are of.
fn named_with_counts(report: &Report) -> Figures {
    let (generated, real) = (report.generated_images, report.real_images);
    let name = |name: &str| match report.features.filter(|_| !name.starts_with("swd")) {
        Some(features) => format!("{name} ({features}, {generated} generated and {real} real images)"),
        None => format!("{name} (times 1000, {0} generated and {0} real images)", generated.min(real)),
    };
    report.figures.iter().map(|(figure, &value)| (name(figure), value)).collect()
}

/// Writes the model back with the precision that it has.
fn update(file: &ModelFile, path: &Path) -> Result<()> {
    let half = file.tensors.values().all(|tensor| tensor.dtype() == DType::F16);
    let bytes = file.to_bytes(if half { DType::F16 } else { DType::F32 })?;
    files::write_atomic(path, &bytes)?;
    println!("figures written into {}", path.display());
    Ok(())
}
