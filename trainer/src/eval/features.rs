//! The numbers that stand for an image in FID, KID, precision and recall.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use nalgebra::{DMatrix, SymmetricEigen};
use sha2::{Digest, Sha256};

use super::frechet::Moments;
use super::inception::Inception;
use super::{EvalError, Metric, bar, need, resample};
use crate::data::ImageSet;
use crate::files;

/// Images whose features are computed at a time.
const BATCH: usize = 16;
/// Side of the images that principal components are taken of.
const SIDE: usize = 16;
/// Side of the images whose pixels are features themselves.
const PIXELS_SIDE: usize = 32;
/// Principal components.
const COMPONENTS: usize = 64;

/// Computes features.
pub enum Extractor {
    Inception {
        network: Box<Inception>,
        sha256: String,
    },
    Components(PixelComponents),
    /// The pixels of a reduced image themselves.
    Pixels,
}

impl Extractor {
    /// The Inception network with the weights in a file.
    pub fn inception(path: &Path) -> Result<Self, EvalError> {
        let bytes = files::read(path)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let network = Box::new(Inception::from_bytes(bytes, path, &Device::Cpu)?);
        Ok(Self::Inception { network, sha256 })
    }

    /// What needs no weights: the pixels of a reduced image, along the directions in which the real images vary most.
    pub fn components(real: &ImageSet) -> Result<Self, EvalError> {
        Ok(Self::Components(PixelComponents::fit(real)?))
    }

    /// What the features are, to name beside figures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Inception { .. } => "Inception pool3",
            Self::Components(_) => "64 principal components of 16x16 pixels",
            Self::Pixels => "32x32 pixels",
        }
    }

    /// Which features of which images these are, exactly.
    pub fn source(&self, images: &ImageSet) -> String {
        let weights = match self {
            Self::Inception { sha256, .. } => format!(", weights {sha256}"),
            Self::Components(_) | Self::Pixels => String::new(),
        };
        let (count, size) = (images.len(), images.size());
        format!("{}{weights}; {count} images of {size} pixels, {}", self.name(), hex(&Sha256::digest(images.pixels())))
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
                Self::Components(components) => components.project(&images)?,
                Self::Pixels => reduce(&images, PIXELS_SIDE)?,
            });
            progress.inc(indices.len() as u64);
        }
        progress.finish_and_clear();
        let features = Tensor::cat(&features, 0)?;
        if !features.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?.is_finite() {
            let reason = "they are no finite numbers: are these the weights of the Inception network?".to_string();
            return Err(EvalError::Features { metric: Metric::Fid, reason });
        }
        Ok(features)
    }
}

/// Leading principal components of images reduced to 16 x 16 pixels.
pub struct PixelComponents {
    /// (1, 768)
    mean: Tensor,
    /// (768, components), the one of largest variance first.
    components: Tensor,
}

impl PixelComponents {
    fn fit(images: &ImageSet) -> Result<Self, EvalError> {
        need(Metric::Precision, 2, images.len())?;
        let indices: Vec<u32> = (0..images.len() as u32).collect();
        let reduced = indices.chunks(BATCH).map(|indices| reduce(&images.batch(indices, &Device::Cpu)?, SIDE));
        let moments = Moments::of(&Tensor::cat(&reduced.collect::<candle_core::Result<Vec<_>>>()?, 0)?)?;
        let size = moments.mean().len();
        let covariance = DMatrix::from_row_slice(size, size, moments.covariance());
        let eigen = SymmetricEigen::try_new(covariance, f64::EPSILON, 1000 * size).ok_or_else(|| {
            let reason = "the principal components of the real images cannot be found".to_string();
            EvalError::Features { metric: Metric::Precision, reason }
        })?;
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        order.truncate(COMPONENTS);
        let rows: Vec<f64> =
            order.iter().flat_map(|&i| eigen.eigenvectors.column(i).iter().copied().collect::<Vec<_>>()).collect();
        Ok(Self {
            mean: Tensor::from_slice(moments.mean(), (1, size), &Device::Cpu)?,
            components: Tensor::from_vec(rows, (order.len(), size), &Device::Cpu)?.t()?.contiguous()?,
        })
    }

    fn project(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        reduce(images, SIDE)?.broadcast_sub(&self.mean)?.matmul(&self.components)
    }
}

/// Images (N, 3, H, W) in `side` x `side` pixels, as rows of f64.
fn reduce(images: &Tensor, side: usize) -> candle_core::Result<Tensor> {
    resample::apply(&images.to_dtype(DType::F64)?, |from| resample::area(from, side))?.flatten_from(1)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lddgan::noise::Stream;

    /// Images that vary along two patterns are described by two numbers, and these have the images' distances.
    #[test]
    fn principal_components_keep_distances() {
        let patterns =
            Tensor::from_vec(Stream::new(0, 0, "patterns").normals(2 * 768), (2, 768), &Device::Cpu).unwrap();
        let amounts = Tensor::from_vec(Stream::new(0, 0, "amounts").normals(10 * 2), (10, 2), &Device::Cpu).unwrap();
        let images = (amounts.matmul(&patterns).unwrap() * 0.1).unwrap().reshape((10, 3, 16, 16)).unwrap();
        let mut set = ImageSet::new(16);
        set.append(&images).unwrap();
        let features = Extractor::components(&set).unwrap().extract(&set).unwrap();
        assert_eq!(features.dims(), [10, 64]);
        let norm = |x: Tensor| {
            x.sqr().unwrap().sum_all().unwrap().to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap().sqrt()
        };
        let row = |x: &Tensor, i: usize| x.get(i).unwrap().flatten_all().unwrap();
        let between = |x: &Tensor| norm((row(x, 3) - row(x, 7)).unwrap());
        let batch = set.batch_all(&Device::Cpu).unwrap();
        assert!((between(&features) / between(&batch) - 1.0).abs() < 1e-5);
        let spread = |column: usize| norm(features.narrow(1, column, 1).unwrap());
        // Rounding to 8 bits leaves a little beside the two.
        assert!(spread(1) > 20.0 * spread(2), "{} {}", spread(1), spread(2));
    }
}
