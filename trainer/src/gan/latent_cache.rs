//! A file that keeps encoded images, as the encoder gives them: safetensors with `means` and, of encoders of the KL kind,
//! `deviations`. Its metadata say of which encoder and which images they are.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use candle_core::safetensors::Load;
use candle_core::{Device, Tensor};
use lddgan::ModelFile;
use memmap2::Mmap;
use safetensors::SafeTensors;

use super::latents::Encoded;
use crate::data::ImageSet;
use crate::data::manifest::sha256;
use crate::files;

const MEANS: &str = "means";
const DEVIATIONS: &str = "deviations";
const AUTOENCODER: &str = "autoencoder";
const IMAGES: &str = "images";

pub struct Cache {
    path: PathBuf,
    /// SHA-256 of the encoder and of the images.
    autoencoder: String,
    images: String,
}

impl Cache {
    pub fn new(path: PathBuf, autoencoder: &ModelFile, images: &ImageSet) -> Result<Self> {
        let encoder = autoencoder.tensors.iter().filter(|(name, _)| name.starts_with("encoder."));
        let mut bytes = safetensors::serialize(encoder, None)?;
        bytes.extend(serde_json::to_vec(&autoencoder.config.autoencoder)?);
        let images = format!("{0}x{0} {1}", images.size(), sha256(images.pixels()));
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

    fn read(&self, device: &Device) -> Result<Encoded> {
        let file = File::open(&self.path)?;
        // SAFETY: nobody changes the file while it is mapped; `lddgan` itself replaces files and never writes into them.
        let map = unsafe { Mmap::map(&file) }?;
        let broken = |error| anyhow!("no whole safetensors file ({error})");
        let (_, header) = SafeTensors::read_metadata(&map).map_err(broken)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        ensure!(metadata.get(AUTOENCODER) == Some(&self.autoencoder), "holds latents of another autoencoder");
        ensure!(metadata.get(IMAGES) == Some(&self.images), "holds latents of other images");
        let tensors = SafeTensors::deserialize(&map).map_err(broken)?;
        let deviations = tensors.tensor(DEVIATIONS).ok();
        Ok(Encoded {
            means: tensors.tensor(MEANS)?.load(device)?,
            deviations: deviations.map(|deviations| deviations.load(device)).transpose()?,
        })
    }

    fn write(&self, encoded: &Encoded) -> Result<()> {
        let source = [(AUTOENCODER, &self.autoencoder), (IMAGES, &self.images)];
        let source = HashMap::from(source.map(|(key, value)| (key.to_string(), value.clone())));
        let deviations = encoded.deviations.iter().map(|deviations| (DEVIATIONS, deviations));
        let tensors: Vec<(&str, &Tensor)> = deviations.chain([(MEANS, &encoded.means)]).collect();
        Ok(files::write_atomic(&self.path, &safetensors::serialize(tensors, Some(source))?)?)
    }
}
