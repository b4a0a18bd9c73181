//! `lddgan average`: one model of the mean weights of several.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};
use clap::Args;
use lddgan::parameters::TensorMap;
use lddgan::{FileConfig, ModelFile, Provenance};
use lddgan_trainer::files::{self, read_model};
use lddgan_trainer::revision;
use lddgan_trainer::say;

/// How far latent scales may be apart, relative to the first: scales of the same latents differ by rounding alone.
const SCALE_TOLERANCE: f32 = 1e-3;

#[derive(Args)]
pub struct Average {
    /// Model file; given twice or more
    #[arg(long, value_name = "FILE", required = true)]
    model: Vec<PathBuf>,
    /// File that gets the mean, with weights in f16
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub fn average(options: &Average) -> Result<()> {
    ensure!(options.model.len() > 1, "name two or more files, each with --model");
    let files = options.model.iter().map(|path| read_model(path)).collect::<Result<Vec<_>>>()?;
    let (first, _) = &files[0];
    for (file, name) in &files[1..] {
        check_alike(first, file).with_context(|| format!("{name} beside {}", files[0].1))?;
    }
    let files: Vec<ModelFile> = files.into_iter().map(|(file, _)| file).collect();
    let mean = ModelFile { config: files[0].config.clone(), provenance: provenance(&files), tensors: mean(&files)? };
    files::write_atomic(&options.out, &mean.to_bytes(DType::F16)?)?;
    say!("wrote {}, the mean of {} models", options.out.display(), files.len());
    Ok(())
}

/// Checks that two files hold the same networks, for the same latents.
fn check_alike(a: &ModelFile, b: &ModelFile) -> Result<()> {
    let networks = |file: &ModelFile| FileConfig { latent_scale: Vec::new(), ..file.config.clone() };
    ensure!(networks(a) == networks(b), "its networks differ in kind or size from those of the first");
    let shapes = |file: &ModelFile| -> Vec<_> {
        file.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect()
    };
    ensure!(shapes(a) == shapes(b), "its tensors differ in name or shape from those of the first");
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= SCALE_TOLERANCE * a.abs();
    let (a, b) = (&a.config.latent_scale, &b.config.latent_scale);
    ensure!(
        a.len() == b.len() && a.iter().zip(b).all(near),
        "its latents have another scale: it was trained with another autoencoder or other data"
    );
    Ok(())
}

fn mean(files: &[ModelFile]) -> Result<TensorMap> {
    let of_all = |name: &String| -> Result<(String, Tensor)> {
        let mut sum = files[0].tensors[name].to_dtype(DType::F32)?;
        for file in &files[1..] {
            sum = (sum + file.tensors[name].to_dtype(DType::F32)?)?;
        }
        Ok((name.clone(), (sum / files.len() as f64)?))
    };
    files[0].tensors.keys().map(of_all).collect()
}

/// The longest training of each stage, and the figures that are the same for all files.
fn provenance(files: &[ModelFile]) -> Provenance {
    let most = |counts: fn(&Provenance) -> &BTreeMap<String, u64>| {
        let mut most = BTreeMap::new();
        for (stage, &count) in files.iter().flat_map(|file| counts(&file.provenance)) {
            let entry = most.entry(stage.clone()).or_insert(count);
            *entry = count.max(*entry);
        }
        most
    };
    let first = &files[0].provenance;
    let common =
        |(name, value): &(&String, &f64)| files.iter().all(|file| file.provenance.metrics.get(*name) == Some(value));
    let metrics = first.metrics.iter().filter(common).map(|(name, value)| (name.clone(), *value));
    Provenance {
        steps: most(|provenance| &provenance.steps),
        images: most(|provenance| &provenance.images),
        metrics: metrics.collect(),
        revision: revision(),
        ..first.clone()
    }
}
