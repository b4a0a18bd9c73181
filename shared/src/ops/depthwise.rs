//! Depthwise convolution: each channel has a kernel of its own. For networks whose weights are fixed: it has derivatives
//! in the image alone.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda;
use super::{has_kernel, slice, stock, wider};
use crate::layers::ConvGeometry;

/// Convolves each channel of `x` (N, C, H, W) with its kernel in `weight` (C, 1, k, k), which gets no gradient.
pub fn depthwise_conv2d(x: &Tensor, weight: &Tensor, geometry: ConvGeometry) -> Result<Tensor> {
    let (_, c, h, w) = x.dims4()?;
    let (Some(_), Some(_)) = (geometry.output(h), geometry.output(w)) else {
        candle_core::bail!("depthwise_conv2d: {geometry:?} does not fit into {h}x{w}");
    };
    if weight.dims() != [c, 1, geometry.kernel, geometry.kernel] {
        candle_core::bail!("depthwise_conv2d: weight {:?} on image {:?}", weight.shape(), x.shape());
    }
    let weight = weight.detach();
    if let Some(wider) = wider(x) {
        return depthwise_conv2d(&x.to_dtype(wider)?, &weight.to_dtype(wider)?, geometry)?.to_dtype(x.dtype());
    }
    if !has_kernel(x) {
        return stock::depthwise_conv2d(x, &weight, geometry);
    }
    apply(x, &weight, Depthwise { adjoint: false, geometry, image: (h, w) })
}

fn apply(x: &Tensor, weight: &Tensor, op: Depthwise) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&weight.contiguous()?, op)
}

/// (x, weight) to y, or its adjoint: (y's gradient, weight) to x's gradient.
#[derive(Clone, Copy)]
struct Depthwise {
    adjoint: bool,
    geometry: ConvGeometry,
    /// Height and width of x, which y's size does not determine.
    image: (usize, usize),
}

impl Depthwise {
    /// Height and width of y.
    fn output(&self) -> (usize, usize) {
        let output = |size| self.geometry.output(size).unwrap_or(0);
        (output(self.image.0), output(self.image.1))
    }

    /// The shape of what it computes from such a tensor.
    fn shape(&self, from: &Layout) -> Result<(usize, usize, usize, usize)> {
        let (n, c, ..) = from.shape().dims4()?;
        let (h, w) = if self.adjoint { self.image } else { self.output() };
        Ok((n, c, h, w))
    }

    fn compute<T: WithDType>(&self, from: &[T], weight: &[T], (n, c, h, w): (usize, usize, usize, usize)) -> Vec<T> {
        let mut to = vec![T::zero(); n * c * h * w];
        let taps = self.geometry.kernel * self.geometry.kernel;
        let planes = to.par_chunks_mut((h * w).max(1)).zip(from.par_chunks((from.len() / (n * c).max(1)).max(1)));
        planes.enumerate().for_each_init(
            || Frame::new(self),
            |frame, (plane, (to, from))| {
                let weight = &weight[plane % c * taps..][..taps];
                if self.adjoint { frame.spread(from, weight, to) } else { frame.gather(from, weight, to) }
            },
        );
        to
    }
}

/// One plane with its padding. In rows of one width, moving a plane by a tap of the kernel is moving a slice, so that all pixels are
/// added at once; sums that belong to no output (at the ends of rows, between strides) are left unused.
struct Frame<T> {
    op: Depthwise,
    /// Of a padded row.
    width: usize,
    /// The padded image.
    image: Vec<T>,
    /// For each place of the kernel's first tap in the image, what the kernel gives there.
    sums: Vec<T>,
}

impl<T: WithDType> Frame<T> {
    fn new(op: &Depthwise) -> Self {
        let ConvGeometry { kernel, pad_before, pad_after, .. } = op.geometry;
        let (height, width) = (op.image.0 + pad_before + pad_after, op.image.1 + pad_before + pad_after);
        let places = (height - kernel) * width + width - kernel + 1;
        Self { op: *op, width, image: vec![T::zero(); height * width], sums: vec![T::zero(); places] }
    }

    /// y from x.
    fn gather(&mut self, x: &[T], weight: &[T], y: &mut [T]) {
        for (row, values) in x.chunks_exact(self.op.image.1).enumerate() {
            let first = self.pixel(row);
            self.image[first..first + values.len()].copy_from_slice(values);
        }
        self.sums.fill(T::zero());
        for (tap, &weight) in weight.iter().enumerate() {
            let moved = &self.image[self.offset(tap)..];
            self.sums.iter_mut().zip(moved).for_each(|(sum, &value)| *sum += weight * value);
        }
        self.for_each_output(|place, output| y[output] = self.sums[place]);
    }

    /// x's gradient from y's.
    fn spread(&mut self, y: &[T], weight: &[T], x: &mut [T]) {
        let mut sums = std::mem::take(&mut self.sums);
        sums.fill(T::zero());
        self.for_each_output(|place, output| sums[place] = y[output]);
        self.image.fill(T::zero());
        for (tap, &weight) in weight.iter().enumerate() {
            let first = self.offset(tap);
            let moved = &mut self.image[first..];
            moved.iter_mut().zip(&sums).for_each(|(pixel, &value)| *pixel += weight * value);
        }
        self.sums = sums;
        for (row, values) in x.chunks_exact_mut(self.op.image.1).enumerate() {
            values.copy_from_slice(&self.image[self.pixel(row)..][..values.len()]);
        }
    }

    /// Where the first pixel of a row of x lies.
    fn pixel(&self, row: usize) -> usize {
        (row + self.op.geometry.pad_before) * self.width + self.op.geometry.pad_before
    }

    /// How far a tap lies behind the first one.
    fn offset(&self, tap: usize) -> usize {
        tap / self.op.geometry.kernel * self.width + tap % self.op.geometry.kernel
    }

    /// Calls back with the place in `sums` and the index in y of each output.
    fn for_each_output(&self, mut visit: impl FnMut(usize, usize)) {
        let (stride, (h, w)) = (self.op.geometry.stride, self.op.output());
        for row in 0..h {
            (0..w).for_each(|column| visit((row * self.width + column) * stride, row * w + column));
        }
    }
}

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = self.shape(l1)?;
        let storage = match s1 {
            CpuStorage::F64(_) => CpuStorage::F64(self.compute(slice(s1, l1)?, slice(s2, l2)?, shape)),
            _ => CpuStorage::F32(self.compute(slice(s1, l1)?, slice(s2, l2)?, shape)),
        };
        Ok((storage, shape.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let shape = Shape::from(self.shape(l1)?);
        let (_, c, _, _) = shape.dims4()?;
        let ((x_h, x_w), (y_h, y_w), count) = (self.image, self.output(), shape.elem_count());
        let ConvGeometry { kernel, stride, pad_before, .. } = self.geometry;
        let sizes = [c, x_h, x_w, y_h, y_w, kernel, stride, pad_before].map(|size| size as i32);
        let [c, x_h, x_w, y_h, y_w, kernel, stride, pad] = &sizes;
        let storage = cuda::with_element!(s1, T => cuda::run::<T>(
            &s1.device,
            if self.adjoint { "depthwise_spread" } else { "depthwise_gather" },
            cuda::per_value(count),
            count,
            &[&cuda::view(s1, l1)?, &cuda::view(s2, l2)?],
            &[&count, c, x_h, x_w, y_h, y_w, kernel, stride, pad],
        )?);
        Ok((storage, shape))
    }

    fn bwd(&self, _: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(apply(grad, weight, Self { adjoint: !self.adjoint, ..*self })?), None))
    }
}
