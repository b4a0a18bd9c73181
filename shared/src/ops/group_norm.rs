//! Group norm with scale, shift and an optional SiLU in one pass over memory.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use lddgan_kernels::simd::{NullaryFnOnce, vectorized};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda;
use super::float::{Float, sigmoid, sum, sum_of_pairs};
use super::{has_kernel, slice, stock, wider};
use crate::layers::GROUP_NORM_EPS;

/// Normalises `x` (N, C, H, W) in `groups` groups, times `scale`, plus `shift` (each (1, C) or (N, C)), then SiLU if
/// asked. Differentiable once.
pub fn group_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, groups: usize, silu: bool) -> Result<Tensor> {
    let (n, c, ..) = x.dims4()?;
    let fits = |affine: &Tensor| affine.dims() == [1, c] || affine.dims() == [n, c];
    if groups == 0 || c % groups != 0 || !fits(scale) || scale.shape() != shift.shape() {
        candle_core::bail!("group_norm: {groups} groups, scale {:?} on {:?}", scale.shape(), x.shape());
    }
    if let Some(wider) = wider(x) {
        let (x, dtype) = (x.to_dtype(wider)?, x.dtype());
        return group_norm(&x, &scale.to_dtype(wider)?, &shift.to_dtype(wider)?, groups, silu)?.to_dtype(dtype);
    }
    if !has_kernel(x) {
        return stock::group_norm(x, scale, shift, groups, silu);
    }
    x.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, Norm { groups, silu })
}

struct Norm {
    groups: usize,
    silu: bool,
}

/// The sizes of one call.
struct Sizes {
    channels: usize,
    pixels: usize,
    /// Rows of scale and shift: 1 or N.
    affine_rows: usize,
}

impl Sizes {
    fn new(image: &Layout, affine_rows: usize) -> Result<Self> {
        let (_, channels, h, w) = image.shape().dims4()?;
        Ok(Self { channels, pixels: h * w, affine_rows })
    }

    /// Scale or shift of sample `n`.
    fn row<'a, T>(&self, values: &'a [T], n: usize) -> &'a [T] {
        let row = if self.affine_rows == 1 { 0 } else { n };
        &values[row * self.channels..(row + 1) * self.channels]
    }
}

/// Mean, and one over the standard deviation, in the two passes of the textbook.
#[inline(always)]
fn moments<T: Float>(x: &[T]) -> (T, T) {
    let count = T::from_f64(x.len() as f64);
    let mean = sum(x, |x| x) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, T::from_f64(1.0 / (variance.to_f64() + GROUP_NORM_EPS).sqrt()))
}

impl Norm {
    fn forward<T: Float>(&self, sizes: &Sizes, x: &[T], scale: &[T], shift: &[T]) -> Vec<T> {
        let mut y = vec![T::zero(); x.len()];
        let sample = (sizes.channels * sizes.pixels).max(1);
        y.par_chunks_mut(sample).zip(x.par_chunks(sample)).enumerate().for_each(|(n, (y, x))| {
            let (scale, shift) = (sizes.row(scale, n), sizes.row(shift, n));
            vectorized(Sample { norm: self, sizes, x, scale, shift, y });
        });
        y
    }
}

/// One sample, to be normalised.
struct Sample<'a, T> {
    norm: &'a Norm,
    sizes: &'a Sizes,
    x: &'a [T],
    scale: &'a [T],
    shift: &'a [T],
    y: &'a mut [T],
}

impl<T: Float> NullaryFnOnce for Sample<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { norm, sizes, x, scale, shift, y } = self;
        let group_channels = sizes.channels / norm.groups;
        let group = (group_channels * sizes.pixels).max(1);
        for (g, (y, x)) in y.chunks_mut(group).zip(x.chunks(group)).enumerate() {
            let (mean, rstd) = moments(x);
            for (i, (y, x)) in y.chunks_mut(sizes.pixels).zip(x.chunks(sizes.pixels)).enumerate() {
                let c = g * group_channels + i;
                let factor = rstd * scale[c];
                let offset = shift[c] - mean * factor;
                for (y, &x) in y.iter_mut().zip(x) {
                    let normalised = x * factor + offset;
                    *y = if norm.silu { normalised * sigmoid(normalised) } else { normalised };
                }
            }
        }
    }
}

/// One sample's share of one group, whose gradients are wanted.
struct Group<'a, T> {
    pixels: usize,
    silu: bool,
    x: &'a [T],
    grad: &'a [T],
    scale: &'a [T],
    shift: &'a [T],
    /// Used for the gradient of the normalised value on the way.
    dx: &'a mut [T],
    dscale: &'a mut [T],
    dshift: &'a mut [T],
}

impl<T: Float> NullaryFnOnce for Group<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { dx, dscale, dshift, .. } = self;
        let (mean, rstd) = moments(self.x);
        let count = T::from_f64(self.x.len() as f64);
        let (mut sum_d, mut sum_dn) = (T::zero(), T::zero());
        for (c, (&scale, &shift)) in self.scale.iter().zip(self.shift).enumerate() {
            let range = c * self.pixels..(c + 1) * self.pixels;
            let (x, grad, dx) = (&self.x[range.clone()], &self.grad[range.clone()], &mut dx[range]);
            if self.silu {
                let (factor, offset) = (rstd * scale, shift - mean * rstd * scale);
                for ((d, &x), &grad) in dx.iter_mut().zip(x).zip(grad) {
                    let u = x * factor + offset;
                    let s = sigmoid(u);
                    *d = grad * s * (T::one() + u * (T::one() - s));
                }
            } else {
                dx.copy_from_slice(grad);
            }
            let sum_grad = sum(dx, |d| d);
            let sum_grad_x = sum_of_pairs(dx, x, |d, x| d * (x - mean)) * rstd;
            dshift[c] = sum_grad;
            dscale[c] = sum_grad_x;
            sum_d += sum_grad * scale;
            sum_dn += sum_grad_x * scale;
        }
        let (mean_d, mean_dn) = (sum_d / count, sum_dn / count);
        for (c, &scale) in self.scale.iter().enumerate() {
            let range = c * self.pixels..(c + 1) * self.pixels;
            for (d, &x) in dx[range.clone()].iter_mut().zip(&self.x[range]) {
                *d = rstd * (*d * scale - mean_d - (x - mean) * rstd * mean_dn);
            }
        }
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = Sizes::new(l1, l2.dims()[0])?;
        let storage = match s1 {
            CpuStorage::F64(_) => CpuStorage::F64(self.forward(&sizes, slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?)),
            _ => CpuStorage::F32(self.forward(&sizes, slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?)),
        };
        Ok((storage, l1.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
        s3: &candle_core::CudaStorage,
        l3: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (n, c, h, w) = l1.shape().dims4()?;
        let [channels, pixels, groups, rows] = [c, h * w, self.groups, l2.dims()[0]].map(|size| size as i32);
        let storage = cuda::with_element!(s1, T => cuda::run::<T>(
            &s1.device,
            "group_norm",
            cuda::per_block(n * self.groups, c / self.groups * h * w),
            n * c * h * w,
            &[&cuda::view(s1, l1)?, &cuda::view(s2, l2)?, &cuda::view(s3, l3)?],
            &[&channels, &pixels, &groups, &rows, &i32::from(self.silu), &GROUP_NORM_EPS],
        )?);
        Ok((storage, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (n, c) = (x.dim(0)?, x.dim(1)?);
        let affine = Tensor::stack(&[&scale.detach(), &shift.detach()], 0)?;
        let op = NormGrad { groups: self.groups, silu: self.silu };
        let packed = x.detach().apply_op3_no_bwd(&affine, &grad.detach().contiguous()?, &op)?;
        let dx = packed.narrow(0, 0, x.elem_count())?.reshape(x.shape())?;
        let affine = packed.narrow(0, x.elem_count(), 2 * n * c)?.reshape((2, n, c))?;
        let rows = |i: usize| {
            let per_sample = affine.get(i)?;
            if scale.dim(0)? == 1 { per_sample.sum_keepdim(0) } else { Ok(per_sample) }
        };
        Ok((Some(dx), Some(rows(0)?), Some(rows(1)?)))
    }
}

/// (x, scale and shift stacked, y's gradient) to the gradients of x (N, C, H, W), scale and shift (N, C each), one after
/// the other.
struct NormGrad {
    groups: usize,
    silu: bool,
}

impl CustomOp3 for NormGrad {
    fn name(&self) -> &'static str {
        "group_norm_grad"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, rows, _) = l2.shape().dims3()?;
        let sizes = Sizes::new(l1, rows)?;
        let storage = match s1 {
            CpuStorage::F64(_) => CpuStorage::F64(self.compute(&sizes, slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?)),
            _ => CpuStorage::F32(self.compute(&sizes, slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?)),
        };
        Ok((storage, self.packed(l1)?.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
        s3: &candle_core::CudaStorage,
        l3: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (n, c, h, w) = l1.shape().dims4()?;
        let (_, rows, _) = l2.shape().dims3()?;
        let [samples, channels, pixels, groups, rows] = [n, c, h * w, self.groups, rows].map(|size| size as i32);
        let count = self.packed(l1)?;
        let storage = cuda::with_element!(s1, T => cuda::run::<T>(
            &s1.device,
            "group_norm_grad",
            cuda::per_block(n * self.groups, c / self.groups * h * w),
            count,
            &[&cuda::view(s1, l1)?, &cuda::view(s2, l2)?, &cuda::view(s3, l3)?],
            &[&samples, &channels, &pixels, &groups, &rows, &i32::from(self.silu), &GROUP_NORM_EPS],
        )?);
        Ok((storage, count.into()))
    }
}

impl NormGrad {
    /// How many numbers there are for an image of this layout.
    fn packed(&self, image: &Layout) -> Result<usize> {
        let (n, c, ..) = image.shape().dims4()?;
        Ok(image.shape().elem_count() + 2 * n * c)
    }

    fn compute<T: Float>(&self, sizes: &Sizes, x: &[T], affine: &[T], grad: &[T]) -> Vec<T> {
        let (scale, shift) = affine.split_at(affine.len() / 2);
        let sample = (sizes.channels * sizes.pixels).max(1);
        let mut packed = vec![T::zero(); x.len() + 2 * (x.len() / sample) * sizes.channels];
        let (dx, rest) = packed.split_at_mut(x.len());
        let (dscale, dshift) = rest.split_at_mut(rest.len() / 2);
        let affine = dscale.par_chunks_mut(sizes.channels).zip(dshift.par_chunks_mut(sizes.channels));
        let images = dx.par_chunks_mut(sample).zip(x.par_chunks(sample)).zip(grad.par_chunks(sample));
        images.zip(affine).enumerate().for_each(|(n, (((dx, x), grad), (dscale, dshift)))| {
            let (scale, shift) = (sizes.row(scale, n), sizes.row(shift, n));
            let group_channels = sizes.channels / self.groups;
            let group = group_channels * sizes.pixels;
            for g in 0..self.groups {
                let (image, channels) = (g * group..(g + 1) * group, g * group_channels..(g + 1) * group_channels);
                vectorized(Group {
                    pixels: sizes.pixels,
                    silu: self.silu,
                    x: &x[image.clone()],
                    grad: &grad[image.clone()],
                    scale: &scale[channels.clone()],
                    shift: &shift[channels.clone()],
                    dx: &mut dx[image],
                    dscale: &mut dscale[channels.clone()],
                    dshift: &mut dshift[channels],
                });
            }
        });
        packed
    }
}
