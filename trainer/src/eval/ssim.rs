//! Structural similarity (SSIM, Wang et al. 2004) of images and their reconstructions.

use candle_core::{DType, Result, Tensor};

use super::resample;

/// Side and standard deviation of the Gaussian window, in pixels.
const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
/// Of images in \[-1, 1\].
const DATA_RANGE: f64 = 2.0;

/// The mean SSIM over channels and windows of each pair of images (N, C, H, W) in \[-1, 1\], which are at least as
/// large as the window.
pub fn ssim(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let (c1, c2) = ((0.01 * DATA_RANGE).powi(2), (0.03 * DATA_RANGE).powi(2));
    // Intensities are to be positive, and variances are differences of nearly equal numbers.
    let (a, b) = ((a.to_dtype(DType::F64)? + 1.0)?, (b.to_dtype(DType::F64)? + 1.0)?);
    let window = window();
    let mean = |x: &Tensor| resample::apply(x, |size| resample::windows(size, &window));
    let (mean_a, mean_b) = (mean(&a)?, mean(&b)?);
    let variance = |x: &Tensor, mean_x: &Tensor| mean(&x.sqr()?)? - mean_x.sqr()?;
    let covariance = (mean(&(&a * &b)?)? - (&mean_a * &mean_b)?)?;
    let variances = (variance(&a, &mean_a)? + variance(&b, &mean_b)?)?;
    let luminance = (((&mean_a * &mean_b)? * 2.0)? + c1)?;
    let structure = ((covariance * 2.0)? + c2)?;
    let scale = (((mean_a.sqr()? + mean_b.sqr()?)? + c1)? * (variances + c2)?)?;
    ((luminance * structure)? / scale)?.flatten_from(1)?.mean(1)?.to_vec1()
}

/// The Gaussian weights along one side; they add up to one.
fn window() -> Vec<f64> {
    let weight = |i: usize| (-0.5 * ((i as f64 - (WINDOW / 2) as f64) / SIGMA).powi(2)).exp();
    let sum: f64 = (0..WINDOW).map(weight).sum();
    (0..WINDOW).map(|i| weight(i) / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Two channels of 13 x 12 pixels, `a(c, y, x)` and `b(c, y, x)`.
    fn images() -> (Tensor, Tensor) {
        let a = |c: usize, y: usize, x: usize| ((7 * x + 3 * y + 5 * c) % 11) as f64 / 5.0 - 1.0;
        let b = |c, y, x| (0.7 * a(c, y, x) + ((x * y + c) % 5) as f64 / 10.0 - 0.1).clamp(-1.0, 1.0);
        let image = |value: &dyn Fn(usize, usize, usize) -> f64| {
            let pixels = (0..2 * 13 * 12).map(|i| value(i / (13 * 12), i / 12 % 13, i % 12)).collect::<Vec<_>>();
            Tensor::from_vec(pixels, (1, 2, 13, 12), &Device::Cpu).unwrap()
        };
        (image(&a), image(&b))
    }

    /// Computed in Python with the definition written out window by window, weights in two dimensions:
    ///
    /// ```python
    /// g = [[math.exp(-((i-5)**2 + (j-5)**2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]  # / its sum
    /// P = [(g[i][j], a(c, y+i, x+j) + 1, b(c, y+i, x+j) + 1) for i in range(11) for j in range(11)]
    /// ma = sum(w*p for w, p, q in P); mb = sum(w*q for w, p, q in P)
    /// va = sum(w*(p-ma)**2 for w, p, q in P); vb = sum(w*(q-mb)**2 for w, p, q in P)
    /// cov = sum(w*(p-ma)*(q-mb) for w, p, q in P)
    /// (2*ma*mb + 0.0004) * (2*cov + 0.0036) / ((ma*ma + mb*mb + 0.0004) * (va + vb + 0.0036))
    /// ```
    ///
    /// Its mean over c < 2, y < 3, x < 2 is 0.8954410913720942.
    #[test]
    fn agrees_with_the_definition() {
        let (a, b) = images();
        let found = ssim(&a, &b).unwrap();
        assert!((found[0] - 0.8954410913720942).abs() < 1e-12, "{found:?}");
        assert!((ssim(&a, &a).unwrap()[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn images_smaller_than_the_window_are_an_error() {
        let small = Tensor::zeros((1, 3, 10, 12), DType::F32, &Device::Cpu).unwrap();
        assert!(ssim(&small, &small).unwrap_err().to_string().contains("does not fit into 10"));
    }
}
