//! What is timed: the model of a file, or the networks of a preset with random weights.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::Args;
use lddgan::networks::{Decoder, Generator};
use lddgan::parameters::Parameters;
use lddgan::{Model, ModelConfig};
use lddgan_trainer::files::read_model;
use lddgan_trainer::gan::Moments;
use lddgan_trainer::preset::Preset;

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Preset, whose networks get random weights: a name, or the path of a TOML file
    #[arg(long)]
    preset: Option<String>,
}

impl Source {
    /// Its name and the model.
    pub fn model(&self, device: &Device) -> Result<(String, Model)> {
        if let Some(path) = &self.model {
            let (file, name) = read_model(path)?;
            return Ok((file.provenance.name.clone(), file.model(&name, device)?));
        }
        let preset = Preset::load(self.preset.as_deref().context("say what to time: --model or --preset")?)?;
        let model = random_model(&preset, device)?;
        Ok((preset.name, model))
    }
}

/// The networks of a preset with random weights.
pub fn random_model(preset: &Preset, device: &Device) -> Result<Model> {
    let config: ModelConfig = preset.model_config();
    let moments = Moments::standard(preset)?.constants("generator");
    let parameters = Parameters::new(0, device).with_constants(&moments)?;
    let vb = parameters.var_builder();
    let generator = Generator::new(vb.pp("generator"), &config.generator)?;
    let decoder = Decoder::new(vb.pp("decoder"), &config.autoencoder)?;
    Ok(Model::new(config, generator, decoder, device)?)
}
