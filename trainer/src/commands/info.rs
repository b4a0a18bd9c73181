//! `lddgan info`: what a file, a checkpoint or a preset holds.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use lddgan::model_file::count_not_finite;
use lddgan::{Cost, FileConfig, GeneratorConfig, ModelFile, NetworkName};
use lddgan_trainer::checkpoint::{self, Store};
use lddgan_trainer::import::pytorch::PytorchFile;
use lddgan_trainer::preset::Preset;
use lddgan_trainer::say;
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

#[derive(Args)]
#[group(required = true)]
pub struct Info {
    /// A model file; or any other file that this program writes (training state, golden tensors, latents, prepared images),
    /// the folder of a run or of a checkpoint, or a PyTorch checkpoint
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Preset: a name, or the path of a TOML file
    #[arg(long, conflicts_with = "model")]
    preset: Option<String>,
}

/// The key in the metadata of each kind of file that we write, and what the file is.
const KINDS: [(&str, &str); 4] = [
    ("lddgan-state", "training state"),
    ("lddgan-golden", "golden tensors"),
    ("manifest", "prepared images"),
    ("autoencoder", "latents"),
];

pub fn info(options: &Info) -> Result<()> {
    match (&options.model, &options.preset) {
        (Some(path), _) if path.is_dir() => folder(path),
        (Some(path), _) => file(path),
        (None, preset) => self::preset(preset.as_deref().unwrap_or_default()),
    }
}

/// A run, or one of its checkpoints.
fn folder(path: &Path) -> Result<()> {
    let (checkpoint, at) = match checkpoint::read(path) {
        Ok(checkpoint) => (checkpoint, path.to_path_buf()),
        Err(_) => {
            let newest = Store::new(path, 1, None).newest(false)?;
            newest.with_context(|| format!("{}: neither the folder of a run nor of a checkpoint", path.display()))?
        }
    };
    say!("{}: training state", at.display());
    say!("{}", serde_json::to_string_pretty(&checkpoint.position)?);
    Ok(())
}

fn file(path: &Path) -> Result<()> {
    let name = path.display();
    let fail = || format!("{name}: cannot be read");
    let opened = File::open(path).with_context(fail)?;
    // SAFETY: nobody changes the file while it is mapped; `lddgan` itself replaces files and never writes into them.
    let bytes = unsafe { Mmap::map(&opened) }.with_context(fail)?;
    let Ok((_, header)) = SafeTensors::read_metadata(&bytes) else { return pytorch(path) };
    let metadata = header.metadata().clone().unwrap_or_default();
    if metadata.contains_key("lddgan") {
        return model(&ModelFile::from_bytes_to_inspect(&bytes, &name.to_string())?);
    }
    let Some((key, kind)) = KINDS.into_iter().find(|(key, _)| metadata.contains_key(*key)) else {
        bail!("{name}: a safetensors file that this program did not write");
    };
    say!("{name}: {kind}");
    match serde_json::from_str::<serde_json::Value>(&metadata[key]) {
        Ok(value) => say!("{}", serde_json::to_string_pretty(&value)?),
        Err(_) => say!("{}", serde_json::to_string_pretty(&metadata)?),
    }
    print_tensors(&header);
    Ok(())
}

/// How many tensors there are; all of them where they are few.
fn print_tensors(header: &Metadata) {
    const FEW: usize = 32;
    let tensors = header.tensors();
    let bytes: usize = tensors.values().map(|info| info.data_offsets.1 - info.data_offsets.0).sum();
    say!("{} tensors, {bytes} bytes", tensors.len());
    if tensors.len() <= FEW {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        tensors.iter().for_each(|(name, info)| say!("{name:?}: {:?} {:?}", info.dtype, info.shape));
    }
}

fn model(file: &ModelFile) -> Result<()> {
    say!("{}", toml::to_string_pretty(&file.provenance)?);
    say!("{}", toml::to_string_pretty(&file.config)?);
    for (name, tensor) in &file.tensors {
        let count = count_not_finite(tensor)?;
        if count > 0 {
            say!("{name:?}: {count} of {} values are infinite or not a number", tensor.elem_count());
        }
    }
    print_costs(&file.config, |network| file.has(network))
}

/// The tensors of a PyTorch checkpoint, nothing of which is run.
fn pytorch(path: &Path) -> Result<()> {
    let file = PytorchFile::open(path)?;
    let state = file.state_dict(&["netG_dict", "netD_dict", "state_dict"])?;
    say!("{}: a PyTorch checkpoint", path.display());
    state.shapes().for_each(|(name, shape)| say!("{name:?}: {shape:?}"));
    file.foreign().iter().for_each(|name| say!("passed over: objects of {name:?}"));
    Ok(())
}

fn preset(name: &str) -> Result<()> {
    let preset = Preset::load(name)?;
    say!("{}", toml::to_string_pretty(&preset)?);
    print_costs(&preset.networks(), |_| true)
}

/// Parameters and operations of each network that there is.
fn print_costs(config: &FileConfig, held: impl Fn(NetworkName) -> bool) -> Result<()> {
    let print = |network: NetworkName| -> Result<Cost> {
        let cost = Cost::of(network, config)?;
        say!("{network}: {} parameters, {:.2} GFLOPs per image", cost.parameters, cost.flops as f64 / 1e9);
        Ok(cost)
    };
    let steps = config.diffusion.as_ref().map(|diffusion| diffusion.steps() as u64);
    let mut sampling = None;
    for network in config.networks().filter(|&network| held(network)) {
        match network {
            NetworkName::Generator => {
                sampling = steps.zip(Some(print(network)?.flops)).map(|(steps, flops)| steps * flops);
                if let Some(limit) = config.generator.as_ref().and_then(GeneratorConfig::truncation) {
                    say!("z: values beyond {limit} are drawn again unless --truncation says otherwise");
                }
            }
            NetworkName::Discriminator if !network.has_sizes(config)? => {
                say!("discriminator: of latents of any size");
            }
            NetworkName::Encoder | NetworkName::Discriminator => drop(print(network)?),
            NetworkName::Decoder => {
                let flops = print(network)?.flops;
                if let Some(autoencoder) = config.autoencoder.as_ref().filter(|autoencoder| autoencoder.codes > 0) {
                    say!("codebook: {} parameters", autoencoder.codes * autoencoder.latent_channels);
                }
                if let Some(generator) = sampling {
                    say!("sampling: {:.2} GFLOPs per image", (generator + flops) as f64 / 1e9);
                }
            }
        }
    }
    Ok(())
}
