//! `lddgan info`: what a model file or a preset holds.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lddgan::cost::{self, Cost};
use lddgan::model_file::FileConfig;
use lddgan_trainer::files::read_model;
use lddgan_trainer::preset::Preset;
use lddgan_trainer::say;

#[derive(Args)]
#[group(required = true)]
pub struct Info {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Preset: a name, or the path of a TOML file
    #[arg(long, conflicts_with = "model")]
    preset: Option<String>,
}

pub fn info(options: &Info) -> Result<()> {
    if let Some(model) = &options.model {
        let (file, _) = read_model(model)?;
        say!("{}", toml::to_string_pretty(&file.provenance)?);
        say!("{}", toml::to_string_pretty(&file.config)?);
        let held = |network: &str| file.tensors.keys().any(|name| name.split('.').next() == Some(network));
        return print_costs(&file.config, held);
    }
    let preset = Preset::load(options.preset.as_deref().unwrap_or_default())?;
    say!("{}", toml::to_string_pretty(&preset)?);
    let config = FileConfig {
        autoencoder: Some(preset.autoencoder),
        generator: Some(preset.generator),
        discriminator: Some(preset.discriminator),
        diffusion: Some(preset.diffusion),
        latent_scale: Vec::new(),
    };
    print_costs(&config, |_| true)
}

/// Parameters and operations of each network that there is.
fn print_costs(config: &FileConfig, held: impl Fn(&str) -> bool) -> Result<()> {
    let print = |network: &str, cost: Cost| {
        let gflops = cost.flops as f64 / 1e9;
        say!("{network}: {} parameters, {gflops:.2} GFLOPs per image", cost.parameters);
    };
    let mut sampling = None;
    if let Some(generator) = config.generator.as_ref().filter(|_| held("generator")) {
        let cost = cost::generator(generator)?;
        print("generator", cost);
        sampling = config.diffusion.as_ref().map(|diffusion| diffusion.steps() as u64 * cost.flops);
        if let Some(discriminator) = config.discriminator.as_ref().filter(|_| held("discriminator")) {
            print("discriminator", cost::discriminator(discriminator, generator.latent_size)?);
        }
    }
    let Some(autoencoder) = &config.autoencoder else { return Ok(()) };
    if held("encoder") {
        print("encoder", cost::encoder(autoencoder)?);
    }
    if held("decoder") {
        let cost = cost::decoder(autoencoder)?;
        print("decoder", cost);
        if autoencoder.codes > 0 {
            say!("codebook: {} parameters", autoencoder.codes * autoencoder.latent_channels);
        }
        if let Some(generator) = sampling {
            say!("sampling: {:.2} GFLOPs per image", (generator + cost.flops) as f64 / 1e9);
        }
    }
    Ok(())
}
