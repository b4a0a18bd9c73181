//! The Fréchet distance between two sets of features; with those of the Inception network it is called FID.

use candle_core::{DType, Tensor};
use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::{EvalError, need};

/// Mean and covariance of a set of features.
#[derive(Debug, Clone)]
pub struct Moments {
    mean: DVector<f64>,
    covariance: DMatrix<f64>,
}

impl Moments {
    /// Those given: `covariance` has the values of a symmetric matrix.
    pub fn new(mean: Vec<f64>, covariance: Vec<f64>) -> Result<Self, EvalError> {
        let size = mean.len();
        let finite = mean.iter().chain(&covariance).all(|value| value.is_finite());
        if !finite || covariance.len() != size * size {
            return Err(EvalError::features(
                "mean and covariance",
                "need finite numbers, and as many rows and columns as the mean has values",
            ));
        }
        Ok(Self { mean: mean.into(), covariance: DMatrix::from_vec(size, size, covariance) })
    }

    /// Of features (N, D); the covariance has the divisor N - 1.
    pub fn of(features: &Tensor) -> Result<Self, EvalError> {
        let features = features.to_dtype(DType::F64)?;
        let count = features.dim(0)?;
        need("a covariance", 2, count)?;
        let mean = features.mean_keepdim(0)?;
        let centred = features.broadcast_sub(&mean)?;
        let covariance = (centred.t()?.contiguous()?.matmul(&centred)? / (count - 1) as f64)?;
        Self::new(mean.flatten_all()?.to_vec1()?, covariance.flatten_all()?.to_vec1()?)
    }

    pub fn mean(&self) -> &[f64] {
        self.mean.as_slice()
    }

    /// D x D values.
    pub fn covariance(&self) -> &[f64] {
        self.covariance.as_slice()
    }
}

/// |mean difference|² + trace(A + B - 2 (A B)^(1/2)).
///
/// The trace of the root is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric; so
/// covariances without full rank (fewer images than features) need no special care.
pub fn distance(a: &Moments, b: &Moments) -> Result<f64, EvalError> {
    let fail = |reason: &str| EvalError::features("Fréchet distance", reason);
    if a.mean.len() != b.mean.len() {
        return Err(fail("the two sets have features of different sizes"));
    }
    let size = a.mean.len();
    let eigen = SymmetricEigen::try_new(a.covariance.clone(), f64::EPSILON, 1000 * size.max(1))
        .ok_or_else(|| fail("the eigenvalues of their covariance cannot be found"))?;
    // With A = V L V^T, the product has the eigenvalues of L^(1/2) V^T B V L^(1/2).
    let roots = eigen.eigenvalues.map(|value| value.max(0.0).sqrt());
    let mut product = eigen.eigenvectors.tr_mul(&(&b.covariance * &eigen.eigenvectors));
    for (mut column, root) in product.column_iter_mut().zip(&roots) {
        column.component_mul_assign(&roots);
        column *= *root;
    }
    let root_trace: f64 = product.symmetric_eigenvalues().iter().map(|value| value.max(0.0).sqrt()).sum();
    Ok((&a.mean - &b.mean).norm_squared() + a.covariance.trace() + b.covariance.trace() - 2.0 * root_trace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// In one dimension it is (difference of the means)² + (difference of the standard deviations)²; independent
    /// dimensions add up.
    #[test]
    fn independent_dimensions_add_up() {
        let a = Moments::new(vec![1.0, 0.0], vec![4.0, 0.0, 0.0, 9.0]).unwrap();
        let b = Moments::new(vec![3.0, 0.0], vec![1.0, 0.0, 0.0, 0.25]).unwrap();
        let found = distance(&a, &b).unwrap();
        assert!((found - (4.0 + 1.0 + 6.25)).abs() < 1e-12, "{found}");
    }

    #[test]
    fn moments_of_three_points() {
        let points = Tensor::new(&[[0f32, 0.0], [2.0, 1.0], [4.0, 5.0]], &Device::Cpu).unwrap();
        let moments = Moments::of(&points).unwrap();
        assert_eq!((moments.mean(), moments.covariance()), (&[2.0, 2.0][..], &[4.0, 5.0, 5.0, 7.0][..]));
        let one = points.narrow(0, 0, 1).unwrap();
        assert!(matches!(Moments::of(&one), Err(EvalError::TooFew { needed: 2, given: 1, .. })));
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        let points = Tensor::new(&[[0f32], [f32::NAN]], &Device::Cpu).unwrap();
        assert!(matches!(Moments::of(&points), Err(EvalError::Features { .. })));
    }
}
