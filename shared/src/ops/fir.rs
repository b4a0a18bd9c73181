//! FIR resampling with the kernel [1, 3, 3, 1] / 8 in each dimension.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda;
use super::{has_kernel, slice, stock, wider};
use crate::backend::FirMode;

/// Resamples an image (N, C, H, W).
pub fn fir(x: &Tensor, mode: FirMode) -> Result<Tensor> {
    if let Some(wider) = wider(x) {
        return fir(&x.to_dtype(wider)?, mode)?.to_dtype(x.dtype());
    }
    if !has_kernel(x) {
        return stock::fir(x, mode);
    }
    apply(x, Resample::Mode(mode))
}

fn apply(x: &Tensor, resample: Resample) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Fir(resample))
}

/// A mode, or the adjoint of [`FirMode::Smooth`]. Up- and downsampling are each other's adjoint up to a factor.
#[derive(Clone, Copy)]
enum Resample {
    Mode(FirMode),
    SmoothAdjoint,
}

impl Resample {
    fn output(self, size: usize) -> usize {
        match self {
            Self::Mode(mode) => mode.output(size),
            Self::SmoothAdjoint => size.saturating_sub(1),
        }
    }

    /// The adjoint, and the factor that it is to be multiplied with (both dimensions together).
    fn adjoint(self) -> (Self, f64) {
        match self {
            Self::Mode(FirMode::Upsample) => (Self::Mode(FirMode::Downsample), 4.0),
            Self::Mode(FirMode::Downsample) => (Self::Mode(FirMode::Upsample), 0.25),
            Self::Mode(FirMode::Smooth) => (Self::SmoothAdjoint, 1.0),
            Self::SmoothAdjoint => (Self::Mode(FirMode::Smooth), 1.0),
        }
    }

    /// Its number in the CUDA kernel.
    #[cfg(feature = "cuda")]
    fn number(self) -> i32 {
        match self {
            Self::Mode(FirMode::Upsample) => 0,
            Self::Mode(FirMode::Downsample) => 1,
            Self::Mode(FirMode::Smooth) => 2,
            Self::SmoothAdjoint => 3,
        }
    }

    /// See [`FirMode::taps`].
    fn taps(self, i: usize) -> (isize, &'static [f32]) {
        match self {
            Self::Mode(mode) => mode.taps(i),
            Self::SmoothAdjoint => (i as isize - 1, &FirMode::TAPS),
        }
    }

    /// Taps of every output of a dimension, those outside of it left out.
    fn table<T: WithDType>(self, size: usize) -> Vec<Vec<(usize, T)>> {
        let inside = |&(at, _): &(isize, _)| (0..size as isize).contains(&at);
        let taps = |i| {
            let (first, weights) = self.taps(i);
            let placed = (first..).zip(weights).filter(inside);
            placed.map(|(at, &weight)| (at as usize, T::from_f64(weight.into()))).collect()
        };
        (0..self.output(size)).map(taps).collect()
    }
}

struct Fir(Resample);

impl Fir {
    fn forward<T: WithDType>(&self, x: &[T], [n, c, h, w]: [usize; 4]) -> Vec<T> {
        let rows = self.0.table::<T>(h);
        let columns = self.0.table::<T>(w);
        let mut y = vec![T::zero(); n * c * rows.len() * columns.len()];
        let planes = y.par_chunks_mut((rows.len() * columns.len()).max(1)).zip(x.par_chunks((h * w).max(1)));
        planes.for_each_init(
            || vec![T::zero(); w],
            |line, (y, x)| {
                for (y, taps) in y.chunks_mut(columns.len().max(1)).zip(&rows) {
                    line.fill(T::zero());
                    for &(at, weight) in taps {
                        line.iter_mut().zip(&x[at * w..]).for_each(|(sum, &x)| *sum += weight * x);
                    }
                    for (y, taps) in y.iter_mut().zip(&columns) {
                        *y = taps.iter().fold(T::zero(), |sum, &(at, weight)| sum + weight * line[at]);
                    }
                }
            },
        );
        y
    }
}

impl CustomOp1 for Fir {
    fn name(&self) -> &'static str {
        "fir"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = layout.shape().dims4()?;
        let shape = (n, c, self.0.output(h), self.0.output(w));
        let storage = match storage {
            CpuStorage::F64(_) => CpuStorage::F64(self.forward(slice(storage, layout)?, [n, c, h, w])),
            _ => CpuStorage::F32(self.forward(slice(storage, layout)?, [n, c, h, w])),
        };
        Ok((storage, shape.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (n, c, h, w) = layout.shape().dims4()?;
        let (out_h, out_w) = (self.0.output(h), self.0.output(w));
        let count = n * c * out_h * out_w;
        let [h, w, rows, columns] = [h, w, out_h, out_w].map(|size| size as i32);
        let storage = cuda::with_element!(storage, T => cuda::run::<T>(
            &storage.device,
            "fir",
            cuda::per_value(count),
            count,
            &[&cuda::view(storage, layout)?],
            &[&count, &self.0.number(), &h, &w, &rows, &columns],
        )?);
        Ok((storage, (n, c, out_h, out_w).into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (adjoint, factor) = self.0.adjoint();
        let grad = apply(grad, adjoint)?;
        Ok(Some(if factor == 1.0 { grad } else { (grad * factor)? }))
    }
}
