//! `lddgan run`: one network on given tensors.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use lddgan::NetworkName;
use lddgan_trainer::backend::BackendName;
use lddgan_trainer::files::{self, read_model};
use lddgan_trainer::network;
use lddgan_trainer::say;

use super::read_tensors;

#[derive(Args)]
pub struct Run {
    /// Network to run
    #[arg(long, value_parser = network_names())]
    network: NetworkName,
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// safetensors file with the network's inputs by name; others in it are ignored
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// safetensors file that gets the outputs
    #[arg(long, value_name = "FILE")]
    outputs: PathBuf,
    /// Backend that computes
    #[arg(long, default_value = "cpu")]
    backend: BackendName,
    /// Give the decoder latents as they are, without looking them up in the codebook
    #[arg(long)]
    no_quantize: bool,
}

/// The names of networks, with what each takes and gives.
fn network_names() -> impl TypedValueParser<Value = NetworkName> {
    let help = |name| match name {
        NetworkName::Generator => "x, t, z to x0",
        NetworkName::Encoder => "x to latent (KL: also mean and logvar)",
        NetworkName::Decoder => "latent to image (VQ: also indices)",
        NetworkName::Discriminator => "x_t, t, x_tp1 to logits",
    };
    let values = NetworkName::ALL.map(|name| PossibleValue::new(name.as_str()).help(help(name)));
    PossibleValuesParser::new(values).try_map(|name| name.parse())
}

pub fn run(options: &Run) -> Result<()> {
    let (file, name) = read_model(&options.model)?;
    let inputs = read_tensors(&options.inputs)?;
    let outputs = network::run(&file, &name, options.network, &inputs, options.backend, !options.no_quantize)
        .with_context(|| format!("{} cannot be run through {name}", options.inputs.display()))?;
    for (name, tensor) in &outputs {
        say!("{name}: {:?}", tensor.dims());
    }
    let bytes = safetensors::serialize(&outputs, None).context("the outputs cannot be written")?;
    Ok(files::write_atomic(&options.outputs, &bytes)?)
}
