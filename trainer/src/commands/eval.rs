//! `lddgan eval`: how good a model's images are.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::DType;
use clap::Args;
use lddgan::{ModelFile, Truncation};
use lddgan_trainer::backend::BackendName;
use lddgan_trainer::data::DataOptions;
use lddgan_trainer::eval::{self, Evaluation, Figures, Measured, Metric};
use lddgan_trainer::files::{self, read_model};
use lddgan_trainer::loaded_model::LoadedModel;
use lddgan_trainer::{say, warn};
use serde::Serialize;

use super::{FeatureNetwork, paths};

#[derive(Args)]
#[command(mut_arg("data", |data| data.help("Real images: folders, image files or files of images, as for training")))]
pub struct Eval {
    /// Model file
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// What to measure (default: all, FID and KID where a network is named)
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<Metric>,
    /// Other real images, measured in the same way: the best that a model can reach
    #[arg(long, value_name = "PATH", num_args = 1..)]
    validation: Vec<PathBuf>,
    /// Backend that computes the images
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Number of generated images; as many as there are real ones unless given
    #[arg(long)]
    count: Option<u64>,
    /// Number of real images, spread evenly, for figures of features (default: all). Principal components are always
    /// those of all
    #[arg(long)]
    real_count: Option<usize>,
    /// Seed of the first image; the others follow it. It also decides about SWD's patches and KID's subsets
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Redraw values of z beyond this; `off` measures all that the model makes
    #[arg(long, value_name = "LIMIT", default_value = "off")]
    truncation: Truncation,
    #[command(flatten)]
    network: FeatureNetwork,
    /// Keeps the network's features of the real images (.safetensors or .npy): read if it is there, else written
    #[arg(long, value_name = "FILE")]
    feature_cache: Option<PathBuf>,
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
    data: String,
    image_size: usize,
    first_seed: u64,
    generated_images: usize,
    /// Those that figures of features are against.
    real_images: usize,
    measured: Vec<Measured>,
    validation: Option<Validation>,
}

/// Other real images, in place of the generated ones.
#[derive(Serialize)]
struct Validation {
    data: String,
    images: usize,
    measured: Vec<Measured>,
}

pub fn eval(options: &Eval) -> Result<()> {
    let network = options.network.load()?;
    let (mut file, name) = read_model(&options.model)?;
    let mut loaded = LoadedModel::new(&file, &name, options.backend)?;
    let size = loaded.model.config.autoencoder.image_size;
    let real = options.data.load(size)?;
    let others = match &options.validation[..] {
        [] => None,
        paths => Some(options.data.load_validation(paths, size)?),
    };
    let count = options.count.unwrap_or(real.len() as u64);
    let least = others.as_ref().map_or(count, |images| count.min(images.len() as u64));
    let evaluation = Evaluation::prepare(
        &real,
        network,
        eval::Options {
            metrics: &options.metrics,
            // What was asked for by name is an error.
            leave_out: options.metrics.is_empty(),
            generated: least,
            real: options.real_count,
            cache: options.feature_cache.as_deref(),
            seed: options.seed,
        },
    )?;
    for warning in evaluation.warnings() {
        warn!("warning: {warning}");
    }
    let truncation = options.truncation.limit(&loaded.model.config.generator);
    let generated = loaded.image_set(options.seed, count, options.batch, truncation)?;
    let report = Report {
        model: &file.provenance.name,
        data: paths(&options.data.data),
        image_size: real.size(),
        first_seed: options.seed,
        generated_images: generated.len(),
        real_images: options.real_count.unwrap_or(real.len()).min(real.len()),
        measured: evaluation.measure(&generated)?,
        validation: match &others {
            Some(images) => Some(Validation {
                data: paths(&options.validation),
                images: images.len(),
                measured: evaluation.measure(images)?,
            }),
            None => None,
        },
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
    say!("{} generated images against {} real ones", report.generated_images, report.real_images);
    print_measured(&report.measured);
    if let Some(Validation { images, measured, .. }) = &report.validation {
        say!("{images} other real images against them");
        print_measured(measured);
    }
}

pub(super) fn print_measured(measured: &[Measured]) {
    for Measured { features, figures } in measured {
        if let Some(features) = features {
            say!("features: {features}");
        }
        for (name, value) in figures {
            say!("{name}: {value:.6}");
        }
    }
}

/// The figures under names that tell what they are of.
fn named_with_counts(report: &Report) -> Figures {
    let (generated, real) = (report.generated_images, report.real_images);
    let of = |features: &Option<String>| match features {
        Some(features) => format!("{features}, {generated} generated and {real} real images"),
        None => format!("times 1000, {0} generated and {0} real images", generated.min(real)),
    };
    let named = |measured: &Measured| {
        let of = of(&measured.features);
        measured.figures.iter().map(|(name, &value)| (format!("{name} ({of})"), value)).collect::<Vec<_>>()
    };
    report.measured.iter().flat_map(named).collect()
}

/// Writes the model back with the precision that it has.
fn update(file: &ModelFile, path: &Path) -> Result<()> {
    let half = file.tensors.values().all(|tensor| tensor.dtype() == DType::F16);
    let bytes = file.to_bytes(if half { DType::F16 } else { DType::F32 })?;
    files::write_atomic(path, &bytes)?;
    say!("figures written into {}", path.display());
    Ok(())
}
