//! `lddgan sample`: images from seeds.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use lddgan::{Mix, Recipe};
use lddgan_trainer::files::read_model;
use lddgan_trainer::network::{BackendName, Dtype};
use lddgan_trainer::sampling::Sampler;
use lddgan_trainer::{files, grid};

#[derive(Args)]
pub struct Sample {
    /// Model file
    #[arg(long)]
    model: PathBuf,
    /// Who computes
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Seed of the first image; the others follow it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of images
    #[arg(long, default_value_t = 16)]
    count: u64,
    /// Folder that gets one PNG per image, named by model and seed (or seeds and number)
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Picture (.png or .jpg) that gets all images side by side
    #[arg(long, value_name = "FILE", value_parser = grid::path)]
    grid: Option<PathBuf>,
    /// Images computed at a time
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Denoising steps, up to those that the model was trained for, which are the default
    #[arg(long)]
    steps: Option<usize>,
    /// Draw values of z beyond this again: less variety
    #[arg(long, value_name = "LIMIT")]
    truncation: Option<f32>,
    /// Make the images between --seed and this one, both included, instead of those that follow
    #[arg(long, value_name = "SEED")]
    interpolate: Option<u64>,
    /// Take x_T and the posterior's noise of this seed for all images, so that z alone differs
    #[arg(long, value_name = "SEED", conflicts_with = "z_of")]
    x_of: Option<u64>,
    /// Take z of this seed for all images, so that x_T and the posterior's noise alone differ
    #[arg(long, value_name = "SEED")]
    z_of: Option<u64>,
    /// With `--x-of`, let z differ at the step from x_t alone
    #[arg(long, value_name = "T", requires = "x_of")]
    z_step: Option<usize>,
    /// With `--backend wgpu`, time the kernels on this GPU first and use the fastest; the times are kept for other runs
    #[arg(long)]
    tune: bool,
    /// Numbers of the images between the kernels of `--backend wgpu`
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
}

impl Sample {
    /// The name in the file and the recipe of each image.
    fn recipes(&self) -> Result<Vec<(String, Recipe)>> {
        ensure!(self.truncation.is_none_or(|limit| limit > 0.0), "--truncation must be more than 0");
        let between = |i: u64, to: u64| {
            let share = i as f64 / self.count.saturating_sub(1).max(1) as f64;
            (format!("{}-{to}-{i}", self.seed), Mix { from: self.seed, to, share })
        };
        let end = self.seed.checked_add(self.count).context("--seed and --count together are too large")?;
        let mixes: Vec<(String, Mix)> = match self.interpolate {
            Some(to) => (0..self.count).map(|i| between(i, to)).collect(),
            None => (self.seed..end).map(|seed| (seed.to_string(), seed.into())).collect(),
        };
        let recipe = |mix: Mix| Recipe {
            x: self.x_of.map_or(mix, Mix::from),
            z: self.z_of.map_or(mix, Mix::from),
            z_step: self.z_step,
            truncation: self.truncation,
        };
        Ok(mixes.into_iter().map(|(name, mix)| (name, recipe(mix))).collect())
    }
}

pub fn sample(options: &Sample) -> Result<()> {
    ensure!(options.out.is_some() || options.grid.is_some(), "say where to: --out FOLDER or --grid FILE");
    let (file, name) = read_model(&options.model)?;
    let mut sampler = Sampler::new(&file, &name, options.backend)?;
    sampler.use_dtype(options.dtype)?;
    if let Some(steps) = options.steps {
        sampler.model.set_steps(steps)?;
    }
    if let Some(step) = options.z_step {
        let steps: Vec<usize> = sampler.model.levels().iter().copied().filter(|&t| t > 0).collect();
        ensure!(steps.contains(&step), "--z-step must be one of {steps:?}, where the steps begin");
    }
    let (names, recipes): (Vec<String>, Vec<Recipe>) = options.recipes()?.into_iter().unzip();
    if options.tune {
        sampler.tune(options.batch.clamp(1, recipes.len().max(1)))?;
    }
    let started = std::time::Instant::now();
    let mut pictures = Vec::new();
    for recipes in recipes.chunks(options.batch.max(1)) {
        pictures.extend(grid::to_images(&sampler.images(recipes)?)?);
    }
    let seconds = started.elapsed().as_secs_f64();
    if let Some(folder) = &options.out {
        for (name, picture) in names.iter().zip(&pictures) {
            let path = folder.join(format!("{}-{name}.png", file.provenance.name));
            files::write_atomic(&path, &grid::to_png(picture)?)?;
        }
    }
    if let Some(path) = &options.grid {
        let columns = (pictures.len() as f64).sqrt().ceil() as usize;
        grid::write(path, &grid::arrange(&pictures, columns))?;
    }
    println!("{} images in {seconds:.2} s ({:.3} s per image)", recipes.len(), seconds / recipes.len().max(1) as f64);
    Ok(())
}
