//! `lddgan data`: sets of images for training.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use image::RgbImage;
use lddgan_trainer::data::{self, ChoiceOptions, DataOptions, Prepared, Selection, Source, report};
use lddgan_trainer::gan::{EncodeOptions, encode};
use lddgan_trainer::grid;
use lddgan_trainer::interrupts;
use lddgan_trainer::say;

#[derive(Subcommand)]
pub enum Data {
    /// Bring all images to one size, in one file that training loads without decoding
    Prepare(Prepare),
    /// Encode images, and write their latents as 8-bit numbers, to train on without the images
    Encode(EncodeOptions),
    /// Show what a prepared file or a source of images holds
    Inspect(Inspect),
}

#[derive(Args)]
pub struct Prepare {
    #[command(flatten)]
    data: DataOptions,
    /// Width and height that the central squares are resized to
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(1..))]
    size: u16,
    /// File to write; its name must end with .safetensors
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Take this many images at most
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Args)]
#[command(mut_arg("min_size", |size| size.help("Leave out images with a shorter side below this (default: none)")))]
pub struct Inspect {
    /// File that `lddgan data prepare` wrote, or images that it could read
    #[arg(value_name = "PATH", required = true)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    choice: ChoiceOptions,
    /// Picture (.png or .jpg) that gets images from all over the set, side by side
    #[arg(long, value_name = "FILE", value_parser = grid::path)]
    grid: Option<PathBuf>,
}

pub fn data(command: &Data) -> Result<()> {
    match command {
        Data::Prepare(options) => prepare(options),
        Data::Encode(options) => encode(options),
        Data::Inspect(options) => inspect(options),
    }
}

fn prepare(options: &Prepare) -> Result<()> {
    let out = options.out.display();
    ensure!(
        options.out.extension().is_some_and(|end| end == "safetensors"),
        "{out}: its name must end with .safetensors"
    );
    let size = options.size.into();
    let min_size = options.data.choice.min_size(size);
    let selection = Selection { size, min_size, limit: options.limit.map(|limit| limit as usize) };
    interrupts::watch()?;
    let source = options.data.open()?;
    report::taken(&source);
    let (manifest, listing) = data::prepare(&source, selection, &options.out)?;
    report::result(&manifest, &listing);
    say!("wrote {out}");
    Ok(())
}

/// Pictures of a contact sheet.
const PICTURES: usize = 64;
const COLUMNS: usize = 8;
/// Their size where the set has none of its own.
const PICTURE_SIZE: usize = 64;

fn inspect(options: &Inspect) -> Result<()> {
    let source = options.choice.open(&options.data)?;
    let pictures = match source.prepared() {
        Some(path) => inspect_prepared(path)?,
        None => inspect_source(&source, options.choice.min_size(0))?,
    };
    if let Some(path) = &options.grid {
        grid::write(path, &grid::arrange(&pictures, COLUMNS))?;
    }
    Ok(())
}

/// Prints, verifies, and gives the pictures of the contact sheet.
fn inspect_prepared(path: &Path) -> Result<Vec<RgbImage>> {
    let prepared = Prepared::open(path)?;
    let listing = prepared.listing()?;
    report::result(prepared.manifest(), &listing);
    prepared.verify(&listing)?;
    say!("every image is as it was written");
    let step = prepared.manifest().images.div_ceil(PICTURES);
    Ok(prepared.pictures().step_by(step.max(1)).collect())
}

/// Goes through all images as `prepare` would, and gives the pictures of the contact sheet.
fn inspect_source(source: &Source, min_size: usize) -> Result<Vec<RgbImage>> {
    report::taken(source);
    let step = source.count().div_ceil(PICTURES).max(1);
    let mut pictures = Vec::new();
    let selection = Selection { size: PICTURE_SIZE, min_size, limit: None };
    let (manifest, listing) = data::select(source, selection, |number, planes| {
        if number % step == 0 {
            pictures.push(data::picture(planes, PICTURE_SIZE));
        }
        Ok(())
    })?;
    report::result(&manifest, &listing);
    Ok(pictures)
}
