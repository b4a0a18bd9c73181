//! The numbers that stand for an image in all figures but the sliced Wasserstein distance.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use lddgan::hash::sha256;

use super::components::{Components, reduce};
use super::inception::Inception;
use super::onnx::FeatureNetwork;
use super::{EvalError, bar};
use crate::data::ImageSet;
use crate::files;

/// Images whose features are computed at a time.
const BATCH: usize = 16;
/// Side of the images whose pixels are features themselves.
const PIXELS_SIDE: usize = 32;

/// Computes features.
pub enum Extractor {
    Inception {
        network: Box<Inception>,
        sha256: String,
    },
    Onnx {
        network: Box<FeatureNetwork>,
        name: String,
        sha256: String,
    },
    Components(Components),
    /// The pixels of a reduced image themselves.
    Pixels,
}

impl Extractor {
    /// The Inception network with the weights in a file.
    pub fn inception(path: &Path) -> Result<Self, EvalError> {
        let (bytes, sha256) = read(path)?;
        let network = Box::new(Inception::from_bytes(bytes, path, &Device::Cpu)?);
        Ok(Self::Inception { network, sha256 })
    }

    /// The network in an ONNX file.
    pub fn onnx(path: &Path) -> Result<Self, EvalError> {
        let (bytes, sha256) = read(path)?;
        let network = Box::new(FeatureNetwork::from_bytes(bytes, path)?);
        Ok(Self::Onnx { network, name: files::name(path), sha256 })
    }

    /// What needs no weights: the directions in which the real images vary most.
    pub fn components(real: &ImageSet) -> Result<Self, EvalError> {
        Ok(Self::Components(Components::fit(real)?))
    }

    /// What the features are, to name beside figures.
    pub fn name(&self) -> &str {
        match self {
            Self::Inception { .. } => "Inception pool3",
            Self::Onnx { name, .. } => name,
            Self::Components(_) => Components::NAME,
            Self::Pixels => "32x32 pixels",
        }
    }

    /// Which features of which images these are, exactly.
    pub fn source(&self, images: &ImageSet) -> String {
        let weights = match self {
            Self::Inception { sha256, .. } | Self::Onnx { sha256, .. } => format!(", weights {sha256}"),
            Self::Components(_) | Self::Pixels => String::new(),
        };
        let (count, size) = (images.len(), images.size());
        format!("{}{weights}; {count} images of {size} pixels, {}", self.name(), sha256(images.pixels()))
    }

    /// The features of all images, (N, D).
    pub fn extract(&self, images: &ImageSet) -> Result<Tensor, EvalError> {
        self.extract_some(images, &(0..images.len() as u32).collect::<Vec<_>>())
    }

    /// The features of the images `indices`, as [`ImageSet::batch`] numbers them, (N, D).
    pub fn extract_some(&self, images: &ImageSet, indices: &[u32]) -> Result<Tensor, EvalError> {
        let progress = bar(indices.len() as u64, "features");
        let mut features = Vec::new();
        for indices in indices.chunks(BATCH) {
            let images = images.batch(indices, &Device::Cpu)?;
            features.push(match self {
                Self::Inception { network, .. } => network.features(&images)?.detach(),
                Self::Onnx { network, .. } => network.features(&images)?,
                Self::Components(components) => components.project(&images)?,
                Self::Pixels => reduce(&images, PIXELS_SIDE)?,
            });
            progress.inc(indices.len() as u64);
        }
        progress.finish_and_clear();
        let features = Tensor::cat(&features, 0)?;
        if !features.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?.is_finite() {
            return Err(EvalError::features(
                self.name(),
                "some features are not finite: are these the weights of this network?",
            ));
        }
        Ok(features)
    }
}

/// A file of weights and its hash.
fn read(path: &Path) -> Result<(Vec<u8>, String), EvalError> {
    let bytes = files::read(path)?;
    let sum = sha256(&bytes);
    Ok((bytes, sum))
}
