//! Principal components of reduced images: features that need no weights, in which distances are those of the images.

use candle_core::{DType, Device, Tensor};

use super::{EvalError, need, resample};
use crate::data::ImageSet;
use crate::principal::Axes;

/// Side of the images that the components are of.
const SIDE: usize = 64;
/// Components, at most.
const COUNT: usize = 64;
/// Images that they are found with, at most; spread evenly over the set.
const MAX_IMAGES: usize = 8192;
/// Images reduced at a time.
const BATCH: usize = 64;

/// The directions in which images of 64 x 64 pixels vary most. A pixel counts from -1 to 1, as everywhere in training.
pub struct Components {
    /// (1, 12288)
    mean: Tensor,
    /// (12288, K), orthonormal, the one of largest variance first. K is at most 64, less for images that vary in fewer.
    directions: Tensor,
}

impl Components {
    /// What [`Self::project`] gives, as it is named beside figures.
    pub const NAME: &'static str = "64 principal components of 64x64 pixels";

    pub fn fit(images: &ImageSet) -> Result<Self, EvalError> {
        need("principal components", 2, images.len())?;
        let indices = images.spread(MAX_IMAGES);
        let batches = indices.chunks(BATCH).map(|indices| reduce(&images.batch(indices, &Device::Cpu)?, SIDE));
        let rows = Tensor::cat(&batches.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        let mean = rows.mean_keepdim(0)?;
        let axes = Axes::longest(&rows.broadcast_sub(&mean)?, COUNT);
        let axes = axes.map_err(|error| EvalError::features(Self::NAME, &format!("of the real images: {error}")))?;
        Ok(Self { mean, directions: axes.directions })
    }

    /// Images (N, 3, H, W) along the components, (N, K).
    pub fn project(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        reduce(images, SIDE)?.broadcast_sub(&self.mean)?.matmul(&self.directions)
    }
}

/// Images (N, 3, H, W) in `side` x `side` pixels, each the mean of the area that it covers, as rows of f32.
pub fn reduce(images: &Tensor, side: usize) -> candle_core::Result<Tensor> {
    let images = images.to_dtype(DType::F32)?;
    let (_, _, height, width) = images.dims4()?;
    let whole = height == width && height % side == 0;
    let reduced = match whole {
        // The same means, in a fraction of the time.
        true => images.avg_pool2d(height / side)?,
        false => resample::apply(&images, |from| resample::area(from, side))?,
    };
    reduced.flatten_from(1)
}

#[cfg(test)]
mod tests {
    use lddgan::noise::Stream;
    use nalgebra::DMatrix;

    use super::*;

    fn images(rows: &Tensor) -> ImageSet {
        let mut set = ImageSet::new(SIDE);
        set.append(&rows.reshape(((), 3, SIDE, SIDE)).unwrap()).unwrap();
        set
    }

    fn normals(name: &str, rows: usize, columns: usize) -> Tensor {
        Tensor::from_vec(Stream::new(0, 0, name).normals(rows * columns), (rows, columns), &Device::Cpu).unwrap()
    }

    fn norm(x: &Tensor) -> f64 {
        f64::from(x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt()
    }

    /// Images that vary along two patterns are described by two numbers, and these have the images' distances.
    #[test]
    fn distances_are_kept() {
        let rows = normals("amounts", 10, 2).matmul(&normals("patterns", 2, 3 * SIDE * SIDE)).unwrap();
        let set = images(&(rows * 0.1).unwrap());
        let batch = set.batch_all(&Device::Cpu).unwrap();
        let features = Components::fit(&set).unwrap().project(&batch).unwrap();
        let between = |x: &Tensor| norm(&(x.get(3).unwrap() - x.get(7).unwrap()).unwrap());
        assert!((between(&features) / between(&batch) - 1.0).abs() < 1e-4);
        let spread = |column: usize| norm(&features.narrow(1, column, 1).unwrap());
        // Rounding to 8 bits leaves a little beside the two.
        assert!(spread(1) > 20.0 * spread(2), "{} {}", spread(1), spread(2));
    }

    /// 200 images with the variances 1/i² along 100 directions: sums of squares along the components are those of a
    /// full decomposition of the products between images.
    #[test]
    fn they_are_those_of_a_full_decomposition() {
        let scales: Vec<f32> = (1..=100).map(|i| 1.0 / i as f32).collect();
        let amounts = normals("amounts", 200, 100).broadcast_mul(&Tensor::new(scales, &Device::Cpu).unwrap()).unwrap();
        let rows = amounts.matmul(&normals("patterns", 100, 3 * SIDE * SIDE)).unwrap();
        let set = images(&(rows * 0.1).unwrap());
        let batch = set.batch_all(&Device::Cpu).unwrap();
        let features = Components::fit(&set).unwrap().project(&batch).unwrap().to_dtype(DType::F64).unwrap();
        assert_eq!(features.dims(), [200, COUNT]);
        let found = features.sqr().unwrap().sum(0).unwrap().to_vec1::<f64>().unwrap();

        let rows = batch.flatten_from(1).unwrap().to_dtype(DType::F64).unwrap();
        let rows = rows.broadcast_sub(&rows.mean_keepdim(0).unwrap()).unwrap();
        let products = rows.matmul(&rows.t().unwrap()).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let mut expected = DMatrix::from_vec(200, 200, products).symmetric_eigenvalues().as_slice().to_vec();
        expected.sort_by(|a, b| b.total_cmp(a));
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found / expected - 1.0).abs() < 2e-3, "{index}: {found} {expected}");
        }
    }

    #[test]
    fn both_ways_of_reducing_agree() {
        let images = normals("images", 2, 3 * 12 * 12).reshape((2, 3, 12, 12)).unwrap();
        let area = resample::apply(&images, |from| resample::area(from, 4)).unwrap().flatten_from(1).unwrap();
        assert!(norm(&(reduce(&images, 4).unwrap() - area).unwrap()) < 1e-5);
    }

    #[test]
    fn equal_images_have_none() {
        let error = Components::fit(&images(&Tensor::zeros((3, 3 * SIDE * SIDE), DType::F32, &Device::Cpu).unwrap()));
        assert!(error.err().unwrap().to_string().contains("all the same"));
    }
}
