//! Settings of a network: ours (a preset, or one table of it), or the authors' (`args` of their scripts as JSON, their
//! autoencoder's YAML).

use std::path::Path;

use lddgan::config::{CoderConfig, DiscriminatorKind};
use lddgan::{AutoencoderConfig, AutoencoderKind, BandOrder, DiscriminatorConfig, GeneratorConfig};
use serde_json::Value;

use super::{ImportError, Network};
use crate::files;

type Result<T> = std::result::Result<T, String>;

/// Reads the settings of the network `network` (`generator`, `discriminator` or `autoencoder`) from a TOML, JSON or
/// YAML file.
pub fn read(path: &Path, network: &str) -> std::result::Result<Network, ImportError> {
    let invalid = |reason: String| ImportError::Settings { path: path.to_path_buf(), reason };
    let bytes = files::read(path).map_err(|error| invalid(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
    let value: Value = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| invalid(error.to_string()))?,
        Some("json") => serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?,
        Some("yaml" | "yml") => serde_saphyr::from_str(&text).map_err(|error| invalid(error.to_string()))?,
        _ => return Err(invalid("settings are read from .toml, .json, .yaml and .yml files".to_string())),
    };
    parse(&value, network).map_err(invalid)
}

fn parse(value: &Value, network: &str) -> Result<Network> {
    // Where the authors' settings have this name, it is that of a class.
    if let Some(ours) = value.get(network).filter(|ours| ours.is_object()) {
        let ours = ours.clone();
        let error = |error: serde_json::Error| format!("{network}: {error}");
        return match network {
            "generator" => serde_json::from_value(ours).map(Network::Generator).map_err(error),
            "discriminator" => serde_json::from_value(ours).map(Network::Discriminator).map_err(error),
            _ => serde_json::from_value(ours).map(Network::Autoencoder).map_err(error),
        };
    }
    let args = value.get("args").unwrap_or(value);
    match network {
        "generator" => generator(args).map(Network::Generator),
        "discriminator" => discriminator(value, args).map(Network::Discriminator),
        "autoencoder" => autoencoder(value).map(Network::Autoencoder),
        _ => Err(format!("there is no network `{network}`")),
    }
}

fn number(table: &Value, key: &str, default: Option<usize>) -> Result<usize> {
    match table.get(key) {
        None => default.ok_or_else(|| format!("`{key}` is missing")),
        Some(value) => {
            value.as_u64().map(|value| value as usize).ok_or_else(|| format!("`{key}` is not a size: {value}"))
        }
    }
}

fn numbers(table: &Value, key: &str) -> Result<Vec<usize>> {
    let value = table.get(key).ok_or_else(|| format!("`{key}` is missing"))?;
    // The scripts take one number or several.
    let items = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let item = |item: &Value| item.as_u64().map(|item| item as usize);
    items.iter().map(item).collect::<Option<_>>().ok_or_else(|| format!("`{key}` is not a list of sizes: {value}"))
}

/// Checks the options that exist here with one value alone.
fn require(table: &Value, expected: &[(&str, Value)]) -> Result<()> {
    for (key, expected) in expected {
        if let Some(found) = table.get(key).filter(|found| *found != expected) {
            return Err(format!("`{key}` is {found}; only {expected} is supported"));
        }
    }
    Ok(())
}

fn generator(args: &Value) -> Result<GeneratorConfig> {
    let expected = [
        ("centered", Value::from(true)),
        ("conditional", true.into()),
        ("fir", true.into()),
        ("fir_kernel", vec![1, 3, 3, 1].into()),
        ("skip_rescale", true.into()),
        ("resamp_with_conv", true.into()),
        ("resblock_type", "biggan".into()),
        ("progressive", "none".into()),
        ("progressive_input", "residual".into()),
        ("progressive_combine", "sum".into()),
        ("embedding_type", "positional".into()),
        ("no_use_fbn", false.into()),
        ("no_use_freq", false.into()),
        ("no_use_residual", false.into()),
    ];
    require(args, &expected)?;
    let wavelet = match args.get("net_type").map(|kind| kind.as_str().unwrap_or_default()) {
        None | Some("normal") => false,
        Some("wavelet") => true,
        Some(other) => return Err(format!("`net_type` is `{other}`; normal and wavelet are supported")),
    };
    // DDGAN knows no other resolution than the image's.
    let size = args.get("current_resolution").or(args.get("image_size")).cloned().unwrap_or_default();
    Ok(GeneratorConfig {
        latent_channels: number(args, "num_channels", None)?,
        latent_size: size.as_u64().ok_or("`current_resolution` or `image_size` is missing")? as usize,
        channels: number(args, "num_channels_dae", None)?,
        multipliers: numbers(args, "ch_mult")?,
        blocks: number(args, "num_res_blocks", None)?,
        attention: numbers(args, "attn_resolutions")?,
        patch: number(args, "patch_size", Some(1))?,
        wavelet,
        z_dim: number(args, "nz", Some(100))?,
        z_embedding: number(args, "z_emb_dim", Some(256))?,
        z_layers: number(args, "n_mlp", Some(3))?,
        tanh: !args.get("not_use_tanh").and_then(Value::as_bool).unwrap_or(false),
        gaussian_modes: 0,
    })
}

fn discriminator(settings: &Value, args: &Value) -> Result<DiscriminatorConfig> {
    require(args, &[("use_local_loss", false.into())])?;
    // DDGAN's have a fixed number of layers, and it has no small one for STL-10.
    let layers = args.get("num_disc_layers").map(|_| number(args, "num_disc_layers", None)).transpose()?;
    // The scripts choose by the data; a description of the network alone names it.
    let text = |table: &Value, key: &str| Some(table.get(key)?.as_str()?.to_string());
    let kind = match (text(args, "dataset").as_deref(), text(settings, "network").as_deref()) {
        (Some("cifar10" | "stackmnist"), _) | (None, Some("Discriminator_small")) => DiscriminatorKind::Small,
        (Some("stl10"), _) if layers.is_some() => DiscriminatorKind::Small,
        (Some(_), _) | (None, Some("Discriminator_large")) => DiscriminatorKind::Large,
        (None, _) => return Err("`dataset` is missing: it decides between small and large discriminator".to_string()),
    };
    Ok(DiscriminatorConfig {
        kind,
        latent_channels: number(args, "num_channels", None)?,
        channels: number(args, "ngf", Some(64))?,
        layers: layers.unwrap_or(kind.widths().len()),
        time_embedding: number(args, "t_emb_dim", Some(256))?,
        gaussian_modes: 0,
        latent_size: 0,
    })
}

fn autoencoder(settings: &Value) -> Result<AutoencoderConfig> {
    let model = settings.get("model").unwrap_or(settings);
    let first_stage = model.pointer("/params/first_stage_config").unwrap_or(model);
    let params = first_stage.get("params").ok_or("`params` of the autoencoder is missing")?;
    let dd = params.get("ddconfig").ok_or("`ddconfig` of the autoencoder is missing")?;
    let target = first_stage.get("target").and_then(Value::as_str).unwrap_or_default();
    let kind = match target.rsplit('.').next() {
        Some("AutoencoderKL") => AutoencoderKind::Kl,
        Some("VQModelInterface" | "VQModel") => AutoencoderKind::Vq,
        _ => return Err(format!("`target` is `{target}`; AutoencoderKL and VQModelInterface are supported")),
    };
    require(dd, &[("double_z", (kind == AutoencoderKind::Kl).into()), ("resamp_with_conv", true.into())])?;
    let latent_channels = number(dd, "z_channels", None)?;
    if number(params, "embed_dim", None)? != latent_channels {
        return Err(format!("`embed_dim` differs from `z_channels` {latent_channels}, which is not supported"));
    }
    let channels = number(dd, "in_channels", None)?;
    if number(dd, "out_ch", Some(channels))? != channels {
        return Err(format!("`out_ch` differs from `in_channels` {channels}, which is not supported"));
    }
    let coder = CoderConfig {
        channels: number(dd, "ch", None)?,
        multipliers: numbers(dd, "ch_mult")?,
        blocks: number(dd, "num_res_blocks", None)?,
        groups: 32,
        attention: numbers(dd, "attn_resolutions")?,
        middle_attention: true,
    };
    Ok(AutoencoderConfig {
        kind,
        image_channels: channels,
        image_size: number(dd, "resolution", None)?,
        latent_channels,
        codes: if kind == AutoencoderKind::Vq { number(params, "n_embed", None)? } else { 0 },
        encoder: Some(coder.clone()),
        decoder: Some(coder),
        band_order: BandOrder::default(),
        patch: 1,
        linear_path: false,
        tanh: dd.get("tanh_out").and_then(Value::as_bool).unwrap_or(false),
    })
}
