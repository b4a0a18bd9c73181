//! `lddgan replace-decoder`: a model whose decoder went on learning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::DType;
use clap::Args;
use lddgan::ModelFile;
use lddgan_trainer::checkpoint::Stage;
use lddgan_trainer::files::{self, read_model};
use lddgan_trainer::say;

#[derive(Args)]
pub struct ReplaceDecoder {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// File that `lddgan train autoencoder --hold-encoder` wrote, or another model with that decoder; the generator must have been trained with the same encoder
    #[arg(long, value_name = "FILE")]
    autoencoder: PathBuf,
    /// File that gets the model with the other decoder, with weights in f16
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub fn replace_decoder(options: &ReplaceDecoder) -> Result<()> {
    let (mut model, name) = read_model(&options.model)?;
    let (other, other_name) = read_model(&options.autoencoder)?;
    ensure!(model.config.generator.is_some(), "{name}: holds no generator");
    let same = model.config.autoencoder == other.config.autoencoder;
    ensure!(same, "{other_name}: its autoencoder is of another kind or size than that of {name}");
    put(&mut model, &other);
    files::write_atomic(&options.out, &model.to_bytes(DType::F16)?)?;
    say!("wrote {}, {name} with the decoder of {other_name}", options.out.display());
    Ok(())
}

/// Figures of the images that the former decoder made no longer hold.
fn put(model: &mut ModelFile, other: &ModelFile) {
    let of_decoder = |name: &str| name.starts_with("decoder.");
    model.tensors.retain(|name, _| !of_decoder(name));
    let decoder = other.tensors.iter().filter(|(name, _)| of_decoder(name));
    model.tensors.extend(decoder.map(|(name, tensor)| (name.clone(), tensor.clone())));
    let (provenance, of_other) = (&mut model.provenance, &other.provenance);
    // The other file may be a model whose generator learned something else, which has figures of its own.
    let key = Stage::Autoencoder.key().to_string();
    let counts = |counts: &BTreeMap<String, u64>| counts.get(&key).map(|&count| (key.clone(), count));
    provenance.steps.extend(counts(&of_other.steps));
    provenance.images.extend(counts(&of_other.images));
    provenance.metrics = match of_other.steps.contains_key(Stage::Gan.key()) {
        true => BTreeMap::new(),
        false => of_other.metrics.clone(),
    };
    provenance.revision = lddgan_trainer::revision();
}
