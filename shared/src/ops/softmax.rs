//! Softmax in one pass over each row, for the CPU.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor};
use lddgan_kernels::simd::{NullaryFnOnce, vectorized};
use rayon::prelude::*;

use super::float::{Float, largest, sum, sum_of_pairs};
use super::{slice, wider};

/// The softmax of `factor` x over the last dimension. Differentiable once.
pub fn softmax(x: &Tensor, factor: f64) -> Result<Tensor> {
    if let Some(wider) = wider(x) {
        return softmax(&x.to_dtype(wider)?, factor)?.to_dtype(x.dtype());
    }
    if !x.device().is_cpu() {
        return candle_nn::ops::softmax(&(x * factor)?, D::Minus1);
    }
    x.contiguous()?.apply_op1(Softmax { factor })
}

struct Softmax {
    factor: f64,
}

/// Calls `row` with each row of the result and its number.
fn rows<T: Float>(layout: &Layout, row: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    let mut y = vec![T::zero(); layout.shape().elem_count()];
    let width = layout.dims().last().copied().unwrap_or(1).max(1);
    y.par_chunks_mut(width).enumerate().for_each(|(number, y)| row(number, y));
    y
}

impl Softmax {
    fn forward<T: Float>(&self, layout: &Layout, x: &[T]) -> Vec<T> {
        let factor = T::from_f64(self.factor);
        rows(layout, |number, y: &mut [T]| {
            vectorized(Row { factor, x: &x[number * y.len()..][..y.len()], y });
        })
    }
}

/// A row, whose softmax is wanted.
struct Row<'a, T> {
    factor: T,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Float> NullaryFnOnce for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { factor, x, y } = self;
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * factor);
        let largest = largest(y);
        y.iter_mut().for_each(|y| *y = (*y - largest).exp());
        let whole = T::one() / sum(y, |y| y);
        y.iter_mut().for_each(|y| *y *= whole);
    }
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let result = match storage {
            CpuStorage::F64(_) => CpuStorage::F64(self.forward(layout, slice(storage, layout)?)),
            _ => CpuStorage::F32(self.forward(layout, slice(storage, layout)?)),
        };
        Ok((result, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = SoftmaxGrad { factor: self.factor };
        Ok(Some(y.detach().apply_op2_no_bwd(&grad.detach().contiguous()?, &op)?))
    }
}

/// (y, y's gradient g) to the gradient of x: factor y (g - sum of g y).
struct SoftmaxGrad {
    factor: f64,
}

impl SoftmaxGrad {
    fn compute<T: Float>(&self, layout: &Layout, y: &[T], grad: &[T]) -> Vec<T> {
        let factor = T::from_f64(self.factor);
        rows(layout, |number, dx: &mut [T]| {
            let range = number * dx.len()..(number + 1) * dx.len();
            vectorized(RowGrad { factor, y: &y[range.clone()], grad: &grad[range], dx });
        })
    }
}

/// A row, whose gradient is wanted.
struct RowGrad<'a, T> {
    factor: T,
    y: &'a [T],
    grad: &'a [T],
    dx: &'a mut [T],
}

impl<T: Float> NullaryFnOnce for RowGrad<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { factor, y, grad, dx } = self;
        let mean = sum_of_pairs(y, grad, |y, grad| y * grad);
        dx.iter_mut().zip(y).zip(grad).for_each(|((dx, &y), &grad)| *dx = factor * y * (grad - mean));
    }
}

impl CustomOp2 for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax_grad"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let result = match s1 {
            CpuStorage::F64(_) => CpuStorage::F64(self.compute(l1, slice(s1, l1)?, slice(s2, l2)?)),
            _ => CpuStorage::F32(self.compute(l1, slice(s1, l1)?, slice(s2, l2)?)),
        };
        Ok((result, l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// Beside Candle's own, also where numbers are large, and of rows of any length.
    #[test]
    fn agrees_with_candle() {
        for shape in [(3, 5), (2, 64), (1, 1)] {
            for (scale, factor) in [(1.0, 0.5), (300.0, 1.0), (2.0, -1.5)] {
                let x = (Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap() * scale).unwrap();
                let expected = candle_nn::ops::softmax(&(&x * factor).unwrap(), D::Minus1).unwrap();
                let error = (softmax(&x, factor).unwrap() - expected).unwrap().abs().unwrap().max_all().unwrap();
                assert!(error.to_scalar::<f32>().unwrap() < 1e-6, "{shape:?} {scale} {factor}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let x = Tensor::new(&[[1f32, f32::NAN], [f32::INFINITY, 0.0], [2.0, 2.0]], &Device::Cpu).unwrap();
        let y = softmax(&x, 1.0).unwrap().to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
        assert!(y[0].iter().any(|y| y.is_nan()) && y[1].iter().any(|y| y.is_nan()), "{y:?}");
        assert_eq!(y[2], [0.5, 0.5]);
    }
}
