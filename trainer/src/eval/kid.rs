//! The kernel distance between two sets of Inception features (KID): the squared maximum mean discrepancy under the
//! kernel (x·y / D + 1)³, estimated without bias on random subsets.

use candle_core::{DType, Tensor};
use lddgan::noise::Stream;

use super::{EvalError, bar, need};

/// As in StyleGAN2-ADA.
const SUBSETS: u64 = 100;
const SUBSET: usize = 1000;

/// The mean over subsets of the features (N, D) and (M, D). The subsets depend on `seed`.
pub fn distance(real: &Tensor, generated: &Tensor, seed: u64) -> Result<f64, EvalError> {
    let (n, m) = (real.dim(0)?, generated.dim(0)?);
    let size = SUBSET.min(n).min(m);
    need("kid", 2, size)?;
    // Subsets that are all there is are all the same.
    let subsets = if size == n && size == m { 1 } else { SUBSETS };
    let progress = bar(subsets, "KID subsets");
    let mut sum = 0.0;
    for index in 0..subsets {
        let pick = |features: &Tensor, draw: &str| -> candle_core::Result<Tensor> {
            let mut order = Stream::new(seed, index, draw).permutation(features.dim(0)? as u32);
            order.truncate(size);
            let picked = Tensor::from_vec(order, size, features.device())?;
            features.index_select(&picked, 0)?.to_dtype(DType::F64)
        };
        sum += discrepancy(&pick(real, "KID real")?, &pick(generated, "KID generated")?)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(sum / subsets as f64)
}

/// Of two sets of one size.
fn discrepancy(x: &Tensor, y: &Tensor) -> candle_core::Result<f64> {
    let (count, width) = x.dims2()?;
    let sum = |kernels: Tensor| -> candle_core::Result<f64> { kernels.sum_all()?.to_scalar::<f64>() };
    let cubes = |products: Tensor| {
        let kernel = ((products / width as f64)? + 1.0)?;
        kernel.sqr()? * kernel
    };
    let between = |a: &Tensor, b: &Tensor| sum(cubes(a.matmul(&b.t()?.contiguous()?)?)?);
    // The kernel of a point with itself would bias the estimate.
    let within = |a: &Tensor| Ok::<_, candle_core::Error>(between(a, a)? - sum(cubes(a.sqr()?.sum(1)?)?)?);
    let n = count as f64;
    Ok((within(x)? + within(y)?) / (n * (n - 1.0)) - 2.0 * between(x, y)? / (n * n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// k(x, x') of x = {0, 1} is 1; of y = {1, 2} it is 27; between them 1, 1, 8 and 27. So
    /// 2 (1 + 27) / (2 * 1) - 2 * 37 / 4 = 9.5.
    #[test]
    fn two_points_each() {
        let points = |values: [f32; 2]| Tensor::new(&values, &Device::Cpu).unwrap().reshape((2, 1)).unwrap();
        let found = distance(&points([0.0, 1.0]), &points([1.0, 2.0]), 0).unwrap();
        assert!((found - 9.5).abs() < 1e-12, "{found}");
    }

    /// Of one distribution the estimate has mean zero, and it grows with the difference of two.
    #[test]
    fn equal_distributions_have_none() {
        let normals = |draw: &str, shift: f64| {
            let values = Stream::new(1, 0, draw).normals(1200 * 4);
            (Tensor::from_vec(values, (1200, 4), &Device::Cpu).unwrap() + shift).unwrap()
        };
        let (x, y) = (normals("x", 0.0), normals("y", 0.0));
        let same = distance(&x, &y, 0).unwrap();
        let shifted = distance(&x, &normals("y", 0.5), 0).unwrap();
        assert!(same.abs() < 0.02 && shifted > 0.2, "{same} {shifted}");
        assert_eq!(same, distance(&x, &y, 0).unwrap());
    }
}
