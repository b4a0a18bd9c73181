//! The authors' checkpoints and settings, read into ours.

pub mod names;
pub mod pickle;
pub mod pytorch;
pub mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lddgan::parameters::{Shapes, TensorMap};
use lddgan::{AutoencoderConfig, DiscriminatorConfig, FileConfig, GeneratorConfig, ModelFile, Provenance};

use names::{Conversion, Source};
use pytorch::{PytorchError, PytorchFile, StateDict};

use crate::files;
use crate::preset::{LatentNormalization, Preset};

/// A checkpoint that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Pytorch(#[from] PytorchError),
    #[error("{}: {reason}", .path.display())]
    Settings { path: PathBuf, reason: String },
    #[error("{}: the tensors do not fit the {network} of the settings:\n{}", .path.display(), .problems.join("\n"))]
    Mismatch { path: PathBuf, network: &'static str, problems: Vec<String> },
    #[error("preset {0} has no fixed divisor for latents: its latent_normalization is not `fixed`")]
    Scale(String),
    #[error("preset {0} has an autoencoder with weights: name its checkpoint with --autoencoder")]
    NoAutoencoder(String),
    #[error("preset {preset} has an autoencoder without weights: leave out --autoencoder {}", .path.display())]
    Autoencoder { preset: String, path: PathBuf },
    #[error(transparent)]
    Network(#[from] lddgan::Error),
}

/// A whole model from the authors' files: generator and, where the autoencoder has weights, decoder, which is what images
/// are made with.
pub fn model(
    preset: &Preset,
    generator: &PytorchFile,
    autoencoder: Option<&PytorchFile>,
) -> Result<ModelFile, ImportError> {
    let LatentNormalization::Fixed(scale) = preset.train_gan.latent_normalization else {
        return Err(ImportError::Scale(preset.name.clone()));
    };
    let mut tensors = load(&Network::Generator(preset.generator.clone()), generator)?;
    match (preset.autoencoder.kind.is_learned(), autoencoder) {
        (true, Some(file)) => {
            let coders = load(&Network::Autoencoder(preset.autoencoder.clone()), file)?;
            tensors.extend(coders.into_iter().filter(|(name, _)| name.starts_with("decoder.")));
        }
        (false, None) => {}
        (true, None) => return Err(ImportError::NoAutoencoder(preset.name.clone())),
        (false, Some(file)) => {
            return Err(ImportError::Autoencoder { preset: preset.name.clone(), path: file.path().to_path_buf() });
        }
    }
    let config = FileConfig {
        autoencoder: Some(preset.autoencoder.clone()),
        generator: Some(preset.generator.clone()),
        diffusion: Some(preset.diffusion.clone()),
        latent_scale: vec![scale; preset.generator.latent_channels],
        discriminator: None,
    };
    let files = [Some(generator), autoencoder].into_iter().flatten();
    let names: Vec<String> = files.map(|file| files::name(file.path())).collect();
    let data = format!("imported from {}", names.join(" and "));
    let provenance = Provenance { name: preset.name.clone(), data, revision: crate::revision(), ..Default::default() };
    Ok(ModelFile { config, provenance, tensors })
}

/// What to import.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    Generator(GeneratorConfig),
    Discriminator(DiscriminatorConfig),
    /// Encoder and decoder.
    Autoencoder(AutoencoderConfig),
}

impl Network {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Generator(_) => "generator",
            Self::Discriminator(_) => "discriminator",
            Self::Autoencoder(_) => "autoencoder",
        }
    }

    /// The configuration of a file that holds this network alone.
    pub fn file_config(&self) -> FileConfig {
        match self.clone() {
            Self::Generator(config) => FileConfig { generator: Some(config), ..Default::default() },
            Self::Discriminator(config) => FileConfig { discriminator: Some(config), ..Default::default() },
            Self::Autoencoder(config) => FileConfig { autoencoder: Some(config), ..Default::default() },
        }
    }

    /// Where a checkpoint may keep the state of this network; otherwise the whole file is its state.
    fn keys(&self) -> &'static [&'static str] {
        match self {
            Self::Generator(_) => &["netG_dict"],
            Self::Discriminator(_) => &["netD_dict"],
            Self::Autoencoder(_) => &["state_dict"],
        }
    }

    /// The name and shape of every tensor of ours.
    fn shapes(&self) -> lddgan::Result<BTreeMap<String, Vec<usize>>> {
        let (shapes, config) = (Shapes::new(), self.file_config());
        for name in config.networks() {
            lddgan::Network::new(name, &config, shapes.var_builder().pp(name))?;
        }
        Ok(shapes.shapes().into_iter().map(|(name, shape)| (name, shape.into_dims())).collect())
    }

    fn source(&self, ours: &str) -> Option<Source> {
        match self {
            Self::Generator(config) => names::generator(config, ours.strip_prefix("generator.")?),
            Self::Discriminator(_) => names::discriminator(ours.strip_prefix("discriminator.")?),
            Self::Autoencoder(_) => Some(names::autoencoder(ours)),
        }
    }
}

/// What training code puts in front of every name: distributed training, compilation, and the model around the
/// autoencoder; any number of them, in any order.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "first_stage_model."];

/// The tensors of a checkpoint by their names without prefixes. Where some names have one, the others belong to
/// networks around it; an autoencoder's `loss.…` are those that it was trained with, its `model_ema.…` averages of its
/// weights.
fn own_tensors<'a>(state: &'a StateDict<'_>) -> BTreeMap<&'a str, (&'a str, &'a [usize])> {
    let mut own: BTreeMap<_, _> = state.shapes().map(|(name, shape)| (name, (name, shape))).collect();
    while let Some(prefix) = PREFIXES.into_iter().find(|prefix| own.keys().any(|name| name.starts_with(prefix))) {
        own = own.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor))).collect();
    }
    own.retain(|name, _| !["loss.", "model_ema."].iter().any(|around| name.starts_with(around)));
    own
}

/// Reads one network from a checkpoint, tensors named as in a model file. All tensors that are missing, unknown or of
/// the wrong shape are listed together, before anything is loaded.
pub fn load(network: &Network, file: &PytorchFile) -> Result<TensorMap, ImportError> {
    let state = file.state_dict(network.keys())?;
    let mut theirs = own_tensors(&state);
    let mut problems = Vec::new();
    let mut found: Vec<(String, &str, Conversion)> = Vec::new();
    for (ours, shape) in network.shapes()? {
        let Some(Source { name, conversion }) = network.source(&ours) else {
            problems.push(format!("missing: {ours} (the authors have no such tensor)"));
            continue;
        };
        let needed = conversion.source_shape(&shape);
        match theirs.remove(name.as_str()) {
            Some((full, shape)) if shape == needed => found.push((ours, full, conversion)),
            Some((_, shape)) => problems.push(format!("wrong shape: {name} is {shape:?}, needs {needed:?}")),
            None => problems.push(format!("missing: {name} {needed:?}")),
        }
    }
    problems.extend(theirs.keys().map(|name| format!("unknown: {name}")));
    if !problems.is_empty() {
        let path = file.path().to_path_buf();
        return Err(ImportError::Mismatch { path, network: network.name(), problems });
    }
    let convert = |(ours, name, conversion): (String, &str, Conversion)| {
        let tensor = state.tensor(name)?.to_dtype(candle_core::DType::F32).map_err(lddgan::Error::from)?;
        Ok((ours, conversion.apply(&tensor).map_err(lddgan::Error::from)?))
    };
    found.into_iter().map(convert).collect()
}

/// Reads one network from the checkpoint at `path`.
pub fn load_from(network: &Network, path: &Path) -> Result<TensorMap, ImportError> {
    load(network, &PytorchFile::open(path)?)
}
