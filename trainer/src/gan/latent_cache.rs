//! A file that keeps encoded images: safetensors with `means` and, of encoders of the KL kind, `deviations`, as the encoder
//! gives them; or with `means` as 8-bit levels and, for each channel, the number of level 0, `least`, and what a level
//! adds, `step`. Its metadata say of which encoder and which images they are.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use lddgan::ModelFile;
use memmap2::Mmap;
use safetensors::SafeTensors;

use super::encode::Rounded;
use super::latents::Encoded;
use crate::data::ImageSet;
use crate::data::manifest::sha256;
use crate::files;

const MEANS: &str = "means";
const DEVIATIONS: &str = "deviations";
const LEAST: &str = "least";
const STEP: &str = "step";
const AUTOENCODER: &str = "autoencoder";
const IMAGES: &str = "images";

pub struct Cache {
    path: PathBuf,
    /// SHA-256 of the encoder and of the images; where the images are not at hand, the file's are taken.
    autoencoder: String,
    images: Option<String>,
}

impl Cache {
    pub fn new(path: PathBuf, autoencoder: &ModelFile, images: Option<&ImageSet>) -> Result<Self> {
        let encoder = autoencoder.tensors.iter().filter(|(name, _)| name.starts_with("encoder."));
        let mut bytes = safetensors::serialize(encoder, None)?;
        bytes.extend(serde_json::to_vec(&autoencoder.config.autoencoder)?);
        let images = images.map(|images| format!("{0}x{0} {1}", images.size(), sha256(images.pixels())));
        Ok(Self { path, autoencoder: sha256(&bytes), images })
    }

    /// The latents in the file, if they are of this encoder and these images; else those of `encode`, which go there.
    pub fn take(&self, device: &Device, encode: impl FnOnce() -> Result<Encoded>) -> Result<Encoded> {
        let path = self.path.display();
        if self.path.exists() {
            match self.read(device) {
                Ok(encoded) => {
                    println!("{path}: {} latents, encoded before", encoded.means.dim(0)?);
                    return Ok(encoded);
                }
                Err(error) => println!("{path}: {error:#}; encoding again"),
            }
        }
        let encoded = encode()?;
        if let Err(error) = self.write(&encoded) {
            eprintln!("warning: {error:#}; the next run will have to encode again");
        }
        Ok(encoded)
    }

    /// The latents in the file, if they are of this encoder and these images.
    pub fn read(&self, device: &Device) -> Result<Encoded> {
        let file = File::open(&self.path)?;
        // SAFETY: nobody changes the file while it is mapped; `lddgan` itself replaces files and never writes into them.
        let map = unsafe { Mmap::map(&file) }?;
        let broken = |error| anyhow!("no whole safetensors file ({error})");
        let (_, header) = SafeTensors::read_metadata(&map).map_err(broken)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        ensure!(metadata.get(AUTOENCODER) == Some(&self.autoencoder), "holds latents of another autoencoder");
        let same_images = self.images.is_none() || metadata.get(IMAGES) == self.images.as_ref();
        ensure!(same_images, "holds latents of other images");
        let tensors = SafeTensors::deserialize(&map).map_err(broken)?;
        let load = |name: &str| -> Result<Tensor> { Ok(tensors.tensor(name)?.load(device)?) };
        let means = load(MEANS)?;
        if means.dtype() == DType::U8 {
            let rounded = Rounded { levels: means, least: load(LEAST)?, step: load(STEP)? };
            return Ok(Encoded { means: rounded.values()?, deviations: None });
        }
        let deviations = tensors.tensor(DEVIATIONS).is_ok().then(|| load(DEVIATIONS)).transpose()?;
        Ok(Encoded { means, deviations })
    }

    fn write(&self, encoded: &Encoded) -> Result<()> {
        let deviations = encoded.deviations.iter().map(|deviations| (DEVIATIONS, deviations));
        self.write_tensors(deviations.chain([(MEANS, &encoded.means)]).collect())
    }

    /// Writes means alone, as 8-bit levels.
    pub fn write_rounded(&self, rounded: &Rounded) -> Result<()> {
        self.write_tensors(vec![(MEANS, &rounded.levels), (LEAST, &rounded.least), (STEP, &rounded.step)])
    }

    fn write_tensors(&self, tensors: Vec<(&str, &Tensor)>) -> Result<()> {
        let source = [(AUTOENCODER, Some(&self.autoencoder)), (IMAGES, self.images.as_ref())];
        let source = source.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?.clone()))).collect();
        Ok(files::write_atomic(&self.path, &safetensors::serialize(tensors, Some(source))?)?)
    }
}
