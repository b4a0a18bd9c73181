//! `lddgan sample`: images from seeds.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::ArgPredicate;
use lddgan::{Fork, Forks, Mix, Name, Provenance, Recipe, Shifts, Truncation};
use lddgan_trainer::backend::{BackendName, Dtype};
use lddgan_trainer::files::read_model;
use lddgan_trainer::loaded_model::LoadedModel;
use lddgan_trainer::progress::Progress;
use lddgan_trainer::{files, grid, say};

use super::name_directions::shift;

#[derive(Args)]
pub struct Sample {
    /// Model file
    #[arg(long)]
    model: PathBuf,
    /// Backend that computes
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Seed of the first image; the others follow it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A name or a date, whose face is made as in the page: takes the place of --seed
    #[arg(long, conflicts_with = "seed")]
    name: Option<Name>,
    /// Number of images (with --name: 1)
    #[arg(long, default_value_t = 16, default_value_if("name", ArgPredicate::IsPresent, "1"), value_parser = count)]
    count: u64,
    /// Folder that gets one PNG per image as soon as it is made, named by the model, the seed and the options that matter
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
    /// Redraw values of z beyond this, or `off` (default: what suits the model; `lddgan info` shows it)
    #[arg(long, value_name = "LIMIT")]
    truncation: Option<Truncation>,
    /// Make the images between --seed and this one, both included, instead of those that follow
    #[arg(long, value_name = "SEED")]
    interpolate: Option<u64>,
    /// Take x_T and the posterior's noise of this seed for all images, so that z alone differs
    #[arg(long, value_name = "SEED", conflicts_with = "z_of")]
    x_of: Option<u64>,
    /// Take z of this seed for all images, so that x_T and the posterior's noise alone differ
    #[arg(long, value_name = "SEED")]
    z_of: Option<u64>,
    /// With `--x-of`, let z differ only at the step from x_t
    #[arg(long, value_name = "T", requires = "x_of")]
    z_step: Option<usize>,
    /// Move the images along a direction, a name in the model file or its number, by so many standard deviations.
    /// Can be given for several (`lddgan info` shows the names)
    #[arg(long = "direction", value_name = "NAME=AMOUNT")]
    directions: Vec<String>,
    /// From the step from x_t on, take the noise of another seed. Can be given for several steps
    #[arg(long = "fork", value_name = "T=SEED")]
    forks: Vec<Fork>,
    /// With `--backend wgpu`, time the kernels on this GPU first and use the fastest; the times are kept for other runs
    #[arg(long)]
    tune: bool,
    /// Numbers of the images between the kernels of `--backend wgpu`
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
}

/// The longest side of a picture of many images, in pixels: what JPEG has room for.
const LONGEST_SIDE: u64 = 65_535;

fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "needs a whole number of images, 1 or more".to_string())
}

/// What an image is made from, and what its file says of it.
struct Subject {
    recipe: Recipe,
    /// For the name of the file.
    name: String,
    /// For the metadata.
    seed: String,
}

impl Sample {
    /// The seed of the first image.
    fn first(&self) -> u64 {
        self.name.as_ref().map_or(self.seed, Name::seed)
    }

    /// The images, in their order.
    fn subjects(&self, truncation: Option<f32>, shifts: Shifts, forks: Forks) -> impl Iterator<Item = Subject> {
        let first = self.first();
        (0..self.count).map(move |i| {
            let steps = self.count.saturating_sub(1).max(1);
            let (mix, name, seed) = match self.interpolate {
                Some(to) => {
                    let share = i as f64 / steps as f64;
                    let mix = Mix { from: first, to, share };
                    let name = format!("{first}-to-{to}-{i}-of-{steps}");
                    (mix, name, format!("{first} to {to}, {i} of {steps}"))
                }
                None => (Mix::from(first + i), (first + i).to_string(), (first + i).to_string()),
            };
            let recipe = Recipe {
                x: self.x_of.map_or(mix, Mix::from),
                z: self.z_of.map_or(mix, Mix::from),
                z_step: self.z_step,
                truncation,
                shifts,
                forks,
            };
            Subject { recipe, name, seed }
        })
    }

    /// The options that change an image, besides its seed: keywords of the metadata and values.
    fn settings(&self, shifts: &Shifts, forks: &Forks) -> Vec<(&'static str, String)> {
        let number = |name, value: Option<u64>| value.map(|value| (name, value.to_string()));
        let settings = [
            number("Steps", self.steps.map(|steps| steps as u64)),
            self.truncation.map(|truncation| ("Truncation", truncation.to_string())),
            number("X of", self.x_of),
            number("Z of", self.z_of),
            number("Z step", self.z_step.map(|step| step as u64)),
            (!self.directions.is_empty()).then(|| ("Directions", shifts.to_string())),
            (!self.forks.is_empty()).then(|| ("Forks", forks.to_string())),
        ];
        settings.into_iter().flatten().collect()
    }

    /// How far the images are moved.
    fn shifts(&self, model: &Provenance, directions: usize) -> Result<Shifts> {
        let mut shifts = Shifts::default();
        for text in &self.directions {
            let (mode, amount) = shift(text, model, directions)?;
            shifts.set(mode, amount).map_err(|reason| anyhow::anyhow!("--direction {text}: {reason}"))?;
        }
        Ok(shifts)
    }

    /// Where the noise becomes that of other seeds, at `steps` alone.
    fn forks(&self, steps: &[usize]) -> Result<Forks> {
        let mut forks = Forks::default();
        for fork in &self.forks {
            ensure!(
                steps.contains(&fork.step),
                "--fork {fork}: the step must be one of {steps:?}, where the steps begin"
            );
            forks.add(*fork).map_err(|reason| anyhow::anyhow!("--fork {fork}: {reason}"))?;
        }
        Ok(forks)
    }

    fn check(&self, size: usize) -> Result<()> {
        ensure!(self.out.is_some() || self.grid.is_some(), "say where to: --out FOLDER or --grid FILE");
        let last =
            if self.interpolate.is_some() { Some(self.first()) } else { self.first().checked_add(self.count - 1) };
        last.with_context(|| {
            format!("{} images from seed {} on: the last seed is {}", self.count, self.first(), u64::MAX)
        })?;
        let side = columns(self.count).saturating_mul(size as u64 + 2);
        let fits = self.grid.is_none() || side <= LONGEST_SIDE;
        ensure!(fits, "--grid: {} images of {size} pixels are too many for one picture", self.count);
        Ok(())
    }
}

/// How many of so many images stand side by side.
fn columns(count: u64) -> u64 {
    (count as f64).sqrt().ceil() as u64
}

pub fn sample(options: &Sample) -> Result<()> {
    let (file, name) = read_model(&options.model)?;
    options.check(file.config.autoencoder.as_ref().map_or(0, |config| config.image_size))?;
    let mut loaded = LoadedModel::new(&file, &name, options.backend)?;
    loaded.use_dtype(options.dtype)?;
    if let Some(steps) = options.steps {
        loaded.model.set_steps(steps)?;
    }
    let steps: Vec<usize> = loaded.model.levels().iter().copied().filter(|&t| t > 0).collect();
    if let Some(step) = options.z_step {
        ensure!(steps.contains(&step), "--z-step must be one of {steps:?}, where the steps begin");
    }
    let batch = options.batch.clamp(1, options.count.try_into().unwrap_or(usize::MAX));
    if options.tune {
        loaded.tune(batch)?;
    }
    let truncation = options.truncation.unwrap_or_default().limit(&loaded.model.config.generator);
    let shifts = options.shifts(&file.provenance, loaded.model.directions().count())?;
    let forks = options.forks(&steps)?;
    let settings = options.settings(&shifts, &forks);
    let suffix = |(keyword, value): &(&str, String)| format!("-{}-{value}", keyword.to_lowercase().replace(' ', "-"));
    let suffix: String = settings.iter().map(suffix).collect();
    let model = &file.provenance.name;
    let mut texts = vec![("Model", model.clone()), ("Steps", steps.len().to_string())];
    texts.extend(settings.into_iter().filter(|(keyword, _)| !["Steps", "Truncation"].contains(keyword)));
    texts.extend(truncation.map(|limit| ("Truncation", limit.to_string())));
    texts.push(("Software", concat!("lddgan ", env!("CARGO_PKG_VERSION")).to_string()));
    texts.push(("Disclaimer", "Made by a neural network.".to_string()));

    let mut progress = Progress::new(0, options.count);
    let (mut pictures, mut done, mut seconds) = (Vec::new(), 0, 0.0);
    let mut subjects = options.subjects(truncation, shifts, forks);
    loop {
        let subjects: Vec<Subject> = subjects.by_ref().take(batch).collect();
        if subjects.is_empty() {
            break;
        }
        let started = Instant::now();
        let recipes: Vec<Recipe> = subjects.iter().map(|subject| subject.recipe).collect();
        let made = grid::to_images(&loaded.images(&recipes)?)?;
        seconds += started.elapsed().as_secs_f64();
        if let Some(folder) = &options.out {
            for (Subject { name, seed, .. }, picture) in subjects.iter().zip(&made) {
                let path = folder.join(format!("{model}-{name}{suffix}.png"));
                let texts = [&[("Seed", seed.clone())], texts.as_slice()].concat();
                files::write_atomic(&path, &grid::to_png(picture, &texts)?)?;
            }
        }
        done += subjects.len() as u64;
        progress.update(done, &[]);
        if options.grid.is_some() {
            pictures.extend(made);
        }
    }
    progress.finish();
    if let Some(path) = &options.grid {
        grid::write(path, &grid::arrange(&pictures, columns(options.count) as usize))?;
    }
    say!("{done} images in {seconds:.2} s ({:.3} s per image)", seconds / done as f64);
    Ok(())
}
