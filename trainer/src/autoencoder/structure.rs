//! A loss that sees edges and texture and needs no trained weights: structural dissimilarity at several scales.

use candle_core::Tensor;
use lddgan::Result;
use lddgan::backend::{Backend, CandleBackend, FirMode};

/// Each scale has half the size of the one before.
const SCALES: usize = 3;
/// SSIM's constants for images in \[-1, 1\].
const C1: f64 = (0.01 * 2.0) * (0.01 * 2.0);
const C2: f64 = (0.03 * 2.0) * (0.03 * 2.0);

/// 1 - SSIM (Wang et al. 2004), averaged over pixels and [`SCALES`] scales of images (N, C, H, W) whose sides are
/// multiples of 4, at least 16. Local means are taken with the binomial 4x4 window that resamples in the networks, where SSIM has a
/// Gaussian one; the larger windows are left to the coarser scales.
pub fn dissimilarity(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let half = |x: &Tensor| CandleBackend.fir(x, FirMode::Downsample);
    // From [-1, 1] to [0, 2]: intensities are to be positive.
    let (mut a, mut b) = ((a + 1.0)?, (b + 1.0)?);
    let mut sum = (similarity(&a, &b)? * -1.0)?;
    for _ in 1..SCALES {
        (a, b) = (half(&a)?, half(&b)?);
        sum = (sum - similarity(&a, &b)?)?;
    }
    Ok(sum.affine(1.0 / SCALES as f64, 1.0)?)
}

fn similarity(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = a.dims4()?;
    // Only the windows that lie inside the image.
    let mean = |x: &Tensor| -> Result<Tensor> {
        let means = CandleBackend.fir(x, FirMode::Smooth)?;
        Ok(means.narrow(2, 2, h - 3)?.narrow(3, 2, w - 3)?)
    };
    let (mean_a, mean_b) = (mean(a)?, mean(b)?);
    let (squares, product) = ((mean_a.sqr()? + mean_b.sqr()?)?, (&mean_a * &mean_b)?);
    let variances = (mean(&(a.sqr()? + b.sqr()?)?)? - &squares)?;
    let covariance = (mean(&(a * b)?)? - &product)?;
    let luminance = product.affine(2.0, C1)?.div(&(squares + C1)?)?;
    let structure = covariance.affine(2.0, C2)?.div(&(variances + C2)?)?;
    Ok((luminance * structure)?.mean_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use lddgan::noise::Stream;

    fn random(name: &str) -> Tensor {
        let values = Stream::new(0, 0, name).normals(2 * 3 * 256).into_iter().map(|value| 0.3 * value).collect();
        Tensor::from_vec(values, (2, 3, 16, 16), &Device::Cpu).unwrap()
    }

    fn value(a: &Tensor, b: &Tensor) -> f32 {
        dissimilarity(a, b).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn equal_images_have_none_and_negatives_most() {
        let a = random("a");
        let b = random("b");
        let (negative, noisy) = (a.neg().unwrap(), (&a + (&b * 0.1).unwrap()).unwrap());
        assert!(value(&a, &a).abs() < 1e-5);
        assert!(value(&a, &noisy) < 0.3 * value(&a, &b));
        assert!(value(&a, &negative) > 1.0, "{}", value(&a, &negative));
    }

    /// Central differences in double precision at a few pixels.
    #[test]
    fn gradient() {
        let double = |x: Tensor| x.to_dtype(candle_core::DType::F64).unwrap();
        let (a, b) = (double(random("a")), double(random("b")));
        let var = Var::from_tensor(&a).unwrap();
        let gradients = dissimilarity(&var, &b).unwrap().backward().unwrap();
        let gradient = gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for pixel in [0, 17, 130, 255, 700, 1535] {
            let moved = |by: f64| {
                let mut values = a.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                values[pixel] += by;
                let moved = Tensor::from_vec(values, a.shape(), &Device::Cpu).unwrap();
                dissimilarity(&moved, &b).unwrap().to_scalar::<f64>().unwrap()
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient[pixel] - expected).abs() < 1e-8, "{pixel}: {} not {expected}", gradient[pixel]);
        }
    }
}
