//! `lddgan directions`: what a model's images can be moved along.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use clap::Args;
use lddgan::directions::PREFIX;
use lddgan_trainer::backend::BackendName;
use lddgan_trainer::directions::{Found, Strength, find};
use lddgan_trainer::files::{self, read_model};
use lddgan_trainer::loaded_model::LoadedModel;
use lddgan_trainer::progress::Progress;
use lddgan_trainer::say;

#[derive(Args)]
#[command(
    after_help = "A model whose generator starts from the normal distribution of the data has directions already: the principal \
    modes of the data. `lddgan name-directions` gives directions names, `lddgan sample --direction` moves images along them."
)]
pub struct Directions {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// File that gets the model with the directions, in place of those that it had, with weights in f16
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Number of directions, the strongest first
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    count: u64,
    /// Images that are made to find them; more make them more exact
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u64).range(2..=1 << 20))]
    images: u64,
    /// Backend that computes the images
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Images computed at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
}

impl Directions {
    /// The seeds of the images, batch by batch.
    fn seeds(&self) -> impl Iterator<Item = Vec<u64>> {
        let batch = self.batch;
        (0..self.images)
            .step_by(batch as usize)
            .map(move |first| (first..first.saturating_add(batch).min(self.images)).collect())
    }
}

pub fn directions(options: &Directions) -> Result<()> {
    let (mut file, name) = read_model(&options.model)?;
    file.tensors.retain(|name, _| !name.starts_with(PREFIX));
    let mut loaded = LoadedModel::new(&file, &name, options.backend)?;
    ensure!(
        loaded.model.directions().count() == 0,
        "{name}: its generator starts from the normal distribution of the data, whose principal modes are its directions"
    );
    let (mut progress, mut latents) = (Progress::new(0, options.images), Vec::new());
    for seeds in options.seeds() {
        latents.extend(loaded.trajectory(&seeds)?.latents.pop());
        progress.update(seeds.last().map_or(0, |last| last + 1), &[]);
    }
    progress.finish();
    let latents = Tensor::cat(&latents, 0)?.to_device(&Device::Cpu)?;
    let noise = options.seeds().map(|seeds| loaded.model.draw(&seeds));
    let Found { tensors, strengths } = find(&latents, noise, options.count as usize)?;

    say!("they move {}", tensors.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
    for (number, Strength { mode, direction }) in strengths.iter().enumerate() {
        say!("{number}: {:.0} % of a mode with {:.1} % of the variance", 100.0 * direction, 100.0 * mode);
    }
    file.tensors.extend(tensors);
    file.provenance.directions.clear();
    files::write_atomic(&options.out, &file.to_bytes(DType::F16)?)?;
    say!("wrote {}, {name} with {} directions", options.out.display(), strengths.len());
    Ok(())
}
