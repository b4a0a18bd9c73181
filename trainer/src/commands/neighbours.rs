//! `lddgan neighbours`: whether a model repeats its training images.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::Device;
use clap::Args;
use image::RgbImage;
use image::imageops::{self, FilterType};
use lddgan_trainer::backend::BackendName;
use lddgan_trainer::data::{DataOptions, ImageSet};
use lddgan_trainer::eval::features::Extractor;
use lddgan_trainer::eval::neighbours::{self, Comparison, Neighbour};
use lddgan_trainer::files::read_model;
use lddgan_trainer::loaded_model::LoadedModel;
use lddgan_trainer::say;
use lddgan_trainer::{files, grid};
use serde::Serialize;

use super::{FeatureNetwork, paths};

/// Pixels of an image in the picture, at most, and generated images in one of its rows.
const THUMBNAIL: u32 = 96;
const ROW: usize = 4;

#[derive(Args)]
#[command(mut_arg("data", |data| data.help("The images that it was trained on, as for training")))]
pub struct Neighbours {
    /// Model file
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// Other images of the same kind, which show how near unseen images are
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    validation: Vec<PathBuf>,
    /// Backend that computes the images
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Number of generated images
    #[arg(long, default_value_t = 64)]
    count: u64,
    /// Seed of the first image; the others follow it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    network: FeatureNetwork,
    /// Picture (.png or .jpg) that gets each generated image beside its neighbours, by pixels and by features
    #[arg(long, value_name = "FILE", value_parser = grid::path)]
    grid: Option<PathBuf>,
    /// File that gets the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Images computed at a time
    #[arg(long, default_value_t = 16)]
    batch: u64,
}

/// What was compared, and the distances by what they are between.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    data: String,
    first_seed: u64,
    generated_images: usize,
    unseen_images: usize,
    distances: Vec<Distances>,
}

#[derive(Serialize)]
struct Distances {
    features: String,
    #[serde(flatten)]
    comparison: Comparison,
    neighbours: Vec<Neighbour>,
}

pub fn neighbours(options: &Neighbours) -> Result<()> {
    ensure!(options.count > 0, "--count must be at least 1");
    let network = options.network.load()?;
    let (file, name) = read_model(&options.model)?;
    let mut loaded = LoadedModel::new(&file, &name, options.backend)?;
    let size = loaded.model.config.autoencoder.image_size;
    let training = options.data.load(size)?;
    let unseen = options.data.load_validation(&options.validation, size)?;
    let generated = loaded.image_set(options.seed, options.count, options.batch, None)?;
    let features = match network {
        Some(network) => network,
        None => Extractor::components(&training)?,
    };
    let measure = |extractor: &Extractor| -> Result<Distances> {
        let among = neighbours::Neighbours::among(&training, extractor)?;
        let neighbours = among.of(&generated)?;
        let comparison = Comparison::of(&neighbours, &among.of(&unseen)?);
        Ok(Distances { features: extractor.name().to_string(), comparison, neighbours })
    };
    let report = Report {
        model: &file.provenance.name,
        data: paths(&options.data.data),
        first_seed: options.seed,
        generated_images: generated.len(),
        unseen_images: unseen.len(),
        distances: vec![measure(&Extractor::Pixels)?, measure(&features)?],
    };
    print(&report);
    if let Some(path) = &options.json {
        files::write_atomic(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(path) = &options.grid {
        grid::write(path, &picture(&generated, &training, &report.distances)?)?;
    }
    Ok(())
}

/// Each generated image and, to its right, its nearest neighbours.
fn picture(generated: &ImageSet, training: &ImageSet, distances: &[Distances]) -> Result<RgbImage> {
    let mut pictures = Vec::new();
    for index in 0..generated.len() {
        pictures.push(thumbnail(generated, index as u32)?);
        for neighbour in distances.iter().filter_map(|distances| distances.neighbours.get(index)) {
            pictures.push(thumbnail(training, neighbour.index)?);
        }
    }
    Ok(grid::arrange(&pictures, ROW * (1 + distances.len())))
}

fn thumbnail(images: &ImageSet, index: u32) -> Result<RgbImage> {
    let side = THUMBNAIL.min(images.size() as u32);
    let picture = grid::to_images(&images.batch(&[index], &Device::Cpu)?)?.into_iter().next().unwrap_or_default();
    Ok(imageops::resize(&picture, side, side, FilterType::Lanczos3))
}

fn print(report: &Report) {
    let Report { generated_images, unseen_images, .. } = report;
    say!("distances of {generated_images} generated and {unseen_images} unseen images to the nearest training image");
    for Distances { features, comparison, .. } in &report.distances {
        let Comparison { generated, unseen, nearest_generated, nearest_unseen, share_nearer } = comparison;
        say!("{features}:");
        say!("  median: generated {generated:.3}, unseen {unseen:.3}");
        say!("  nearest: generated {nearest_generated:.3}, unseen {nearest_unseen:.3}");
        say!("  generated images nearer than 95 % of the unseen ones: {:.1} %", 100.0 * share_nearer);
    }
}
