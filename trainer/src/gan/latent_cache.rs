//! A file that keeps encoded images: safetensors with `means` and, of encoders of the KL kind, `deviations`, as the encoder
//! gives them; or with `means` as 8-bit levels and, for each channel, the number of level 0, `least`, and what a level
//! adds, `step`. Its metadata say of which encoder and which images they are, whether the mirror images are left out, and
//! the SHA-256 of the tensors.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use lddgan::hash::{hex, sha256};
use lddgan::{AutoencoderConfig, ModelFile};
use memmap2::Mmap;
use safetensors::{SafeTensors, View};
use sha2::{Digest, Sha256};

use super::latents::Encoded;
use super::rounded::Rounded;
use crate::{files, say, warn};

const MEANS: &str = "means";
const DEVIATIONS: &str = "deviations";
const LEAST: &str = "least";
const STEP: &str = "step";
const AUTOENCODER: &str = "autoencoder";
const IMAGES: &str = "images";
/// Absent where mirror images are in the file.
const MIRRORED: &str = "mirrored";
const WITHOUT: &str = "false";
const SUM: &str = "sha256";

/// The SHA-256 of an autoencoder's encoder, with its configuration: latents of the same one are the same.
pub fn encoder_sum(autoencoder: &ModelFile) -> Result<String> {
    let encoder = autoencoder.tensors.iter().filter(|(name, _)| name.starts_with("encoder."));
    let mut bytes = safetensors::serialize(encoder, None)?;
    bytes.extend(serde_json::to_vec(&autoencoder.config.autoencoder)?);
    Ok(sha256(&bytes))
}

pub struct Cache {
    path: PathBuf,
    config: AutoencoderConfig,
    /// See [`encoder_sum`].
    encoder: String,
    /// [`crate::data::ImageSet::sha256`] of the images; where they are not at hand, any are taken.
    images: Option<String>,
    /// Whether the mirror images are to be there; where they are not needed, they are no harm.
    mirrored: bool,
}

impl Cache {
    pub fn new(path: PathBuf, autoencoder: &ModelFile, images: Option<String>, mirrored: bool) -> Result<Self> {
        let config = autoencoder.config.autoencoder.clone().context("the file holds no autoencoder")?;
        Ok(Self { path, config, encoder: encoder_sum(autoencoder)?, images, mirrored })
    }

    /// The latents in the file, if they are whole and of this encoder and these images; else those of `encode`, which go
    /// there.
    pub fn take(&self, device: &Device, encode: impl FnOnce() -> Result<Encoded>) -> Result<Encoded> {
        let path = self.path.display();
        if self.path.exists() {
            match self.read(device) {
                Ok((encoded, _)) => {
                    say!("{path}: {} latents, encoded before", encoded.means.dim(0)?);
                    return Ok(encoded);
                }
                Err(error) => say!("{path}: {error:#}; encoding again"),
            }
        }
        let encoded = encode()?;
        if let Err(error) = self.write(&encoded) {
            warn!("warning: {error:#}; the next run will have to encode again");
        }
        Ok(encoded)
    }

    /// The latents in the file, if they are whole and of this encoder and these images, and which images they are of.
    pub fn read(&self, device: &Device) -> Result<(Encoded, Option<String>)> {
        let file = File::open(&self.path)?;
        // SAFETY: nobody changes the file while it is mapped; `lddgan` itself replaces files and never writes into them.
        let map = unsafe { Mmap::map(&file) }?;
        self.read_bytes(&map, device)
    }

    /// As [`Self::read`], of the bytes of the file.
    pub fn read_bytes(&self, bytes: &[u8], device: &Device) -> Result<(Encoded, Option<String>)> {
        let broken = |error| anyhow!("not a whole safetensors file ({error})");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        ensure!(metadata.get(AUTOENCODER) == Some(&self.encoder), "holds latents of another autoencoder");
        let same_images = self.images.is_none() || metadata.get(IMAGES) == self.images.as_ref();
        ensure!(same_images, "holds latents of other images");
        let mirrored = metadata.get(MIRRORED).is_none_or(|mirrored| mirrored != WITHOUT);
        ensure!(
            mirrored || !self.mirrored,
            "holds no latents of mirror images; set `mirrored = false` in [train_gan] of the preset to train without them"
        );
        let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
        match metadata.get(SUM) {
            Some(sum) => {
                ensure!(*sum == tensors_sum(tensors.tensors()), "altered or damaged: not the SHA-256 that was written");
            }
            // Where the images are at hand, nothing is lost by encoding them again.
            None => ensure!(self.images.is_none(), "has no SHA-256, as an earlier version wrote it"),
        }
        Ok((encoded(&tensors, &self.config, mirrored, device)?, metadata.get(IMAGES).cloned()))
    }

    fn write(&self, encoded: &Encoded) -> Result<()> {
        let deviations = encoded.deviations.iter().map(|deviations| (DEVIATIONS, deviations));
        self.write_tensors(deviations.chain([(MEANS, &encoded.means)]).collect(), encoded.mirrored)
    }

    /// Writes means alone, as 8-bit levels; `mirrored` as [`Encoded::mirrored`].
    pub fn write_rounded(&self, rounded: &Rounded, mirrored: bool) -> Result<()> {
        let channels = [(LEAST, &rounded.least), (STEP, &rounded.step)];
        self.write_tensors(channels.into_iter().chain([(MEANS, &rounded.levels)]).collect(), mirrored)
    }

    fn write_tensors(&self, tensors: Vec<(&str, &Tensor)>, mirrored: bool) -> Result<()> {
        let sum = tensors_sum(tensors.iter().copied());
        let mirrored = (!mirrored).then(|| WITHOUT.to_string());
        let source = [
            (AUTOENCODER, Some(&self.encoder)),
            (IMAGES, self.images.as_ref()),
            (MIRRORED, mirrored.as_ref()),
            (SUM, Some(&sum)),
        ];
        let source = source.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?.clone()))).collect();
        Ok(files::write_atomic(&self.path, &safetensors::serialize(tensors, Some(source))?)?)
    }
}

/// The SHA-256 over name, type, shape and values of tensors, in the order of their names.
fn tensors_sum<N: AsRef<str>, V: View>(tensors: impl IntoIterator<Item = (N, V)>) -> String {
    let mut tensors: Vec<(N, V)> = tensors.into_iter().collect();
    tensors.sort_unstable_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
    let mut hasher = Sha256::new();
    for (name, tensor) in &tensors {
        hasher.update(format!("\n{} {:?} {:?}\n", name.as_ref(), tensor.dtype(), tensor.shape()));
        hasher.update(tensor.data());
    }
    hex(&hasher.finalize())
}

/// The latents that a file's tensors are, if they have the shape of this autoencoder's and are numbers; `mirrored` as
/// [`Encoded::mirrored`].
pub fn encoded(tensors: &SafeTensors, config: &AutoencoderConfig, mirrored: bool, device: &Device) -> Result<Encoded> {
    let [channels, size] = [config.latent_channels, config.image_size / config.factor()];
    let load = |name: &str, shape: [Option<usize>; 4], dtypes: &[DType]| -> Result<Tensor> {
        let tensor = tensors.tensor(name).map_err(|_| anyhow!("holds no tensor `{name}`"))?;
        let found = tensor.shape();
        let fits =
            found.len() == 4 && found.iter().zip(shape).all(|(&found, size)| size.is_none_or(|size| found == size));
        ensure!(fits && found[0] > 0, "`{name}` is {found:?}, needs (N, {channels}, {size}, {size})");
        let tensor = tensor.load(device)?;
        ensure!(dtypes.contains(&tensor.dtype()), "`{name}` has numbers of the type {:?}", tensor.dtype());
        Ok(tensor)
    };
    let of_latents = |count: Option<usize>| [count, Some(channels), Some(size), Some(size)];
    let of_channels = [Some(1), Some(channels), Some(1), Some(1)];
    let means = load(MEANS, of_latents(None), &[DType::F32, DType::U8])?;
    let count = means.dim(0)?;
    ensure!(
        !mirrored || count.is_multiple_of(2),
        "holds {count} latents, which cannot be those of images and their mirror images"
    );
    let encoded = match means.dtype() {
        DType::U8 => {
            let [least, step] = [LEAST, STEP].map(|name| load(name, of_channels, &[DType::F32]));
            let rounded = Rounded { levels: means, least: least?, step: step? };
            Encoded { means: rounded.values()?, deviations: None, mirrored }
        }
        _ => {
            let shape = of_latents(Some(count));
            let deviations = tensors.tensor(DEVIATIONS).is_ok().then(|| load(DEVIATIONS, shape, &[DType::F32]));
            Encoded { means, deviations: deviations.transpose()?, mirrored }
        }
    };
    for tensor in encoded.deviations.iter().chain([&encoded.means]) {
        // One that is not finite makes the sum so, and one that is far too large.
        let sum = tensor.abs()?.sum_all()?.to_scalar::<f32>()?;
        ensure!(sum.is_finite(), "holds numbers that are not finite or far too large");
    }
    Ok(encoded)
}
