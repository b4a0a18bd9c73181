//! Convolution by im2col and matrix multiplication, as three operations that are each other's derivatives. In training, 3x3
//! convolutions on the CPU are those of [`lddgan_kernels`]; without gradients they are not, so that networks computed by
//! Candle can be the reference of executors with the same kernels.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType};
use gemm::Parallelism;
#[cfg(not(target_family = "wasm"))]
use lddgan_kernels::conv::training::Convolution;
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda;
use super::{has_kernel, slice, stock, wider};
use crate::layers::ConvGeometry;

/// Convolves `x` (N, C, H, W) with `weight` (O, C, k, k).
pub fn conv2d(x: &Tensor, weight: &Tensor, geometry: ConvGeometry) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let (Some(_), Some(_)) = (geometry.output(h), geometry.output(w)) else {
        candle_core::bail!("conv2d: {geometry:?} does not fit into {h}x{w}");
    };
    if x.dim(1)? != weight.dim(1)? {
        candle_core::bail!("conv2d: weight {:?} on image {:?}", weight.shape(), x.shape());
    }
    if geometry == ConvGeometry::patch(h) && h == w {
        return over_whole_image(x, weight);
    }
    if let Some(wider) = wider(x) {
        return conv2d(&x.to_dtype(wider)?, &weight.to_dtype(wider)?, geometry)?.to_dtype(x.dtype());
    }
    if !has_kernel(x) {
        return stock::conv2d(x, weight, geometry);
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() && geometry.pad_before != geometry.pad_after {
        // cuDNN pads alike on all sides.
        let padded = stock::pad(x, geometry.pad_before, geometry.pad_after)?;
        return conv2d(&padded, weight, ConvGeometry { pad_before: 0, pad_after: 0, ..geometry });
    }
    let training = x.track_op() || weight.track_op();
    apply(Conv { pass: Pass::Forward, geometry, image: (h, w), training }, x, weight)
}

/// A convolution whose kernel covers the image is one matrix product for all samples.
fn over_whole_image(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let outputs = weight.dim(0)?;
    let y = x.flatten_from(1)?.matmul(&weight.flatten_from(1)?.t()?)?;
    y.reshape((x.dim(0)?, outputs, 1, 1))
}

fn apply(conv: Conv, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.contiguous()?.apply_op2(&b.contiguous()?, conv)
}

/// What is computed from which two arguments.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// (x, weight) to y
    Forward,
    /// (y's gradient, weight) to x's gradient
    InputGrad,
    /// (x, y's gradient) to weight's gradient
    WeightGrad,
}

struct Conv {
    pass: Pass,
    geometry: ConvGeometry,
    /// Height and width of x, which y's size does not determine.
    image: (usize, usize),
    /// Whether a gradient is wanted, or this is one.
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "what runs in browsers does not train"))]
    training: bool,
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        match s1 {
            CpuStorage::F64(_) => self.compute::<f64>(slice(s1, l1)?, l1, slice(s2, l2)?, l2),
            #[cfg(not(target_family = "wasm"))]
            _ if self.has_training_kernel(l1, l2) => self.compute_training(slice(s1, l1)?, l1, slice(s2, l2)?, l2),
            _ => self.compute::<f32>(slice(s1, l1)?, l1, slice(s2, l2)?, l2),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let sizes = self.problem(l1, l2)?;
        let problem = cuda::Problem {
            pass: self.pass,
            x: [sizes.batch, sizes.channels, sizes.h, sizes.w],
            y: [sizes.batch, sizes.outputs, sizes.out_h, sizes.out_w],
            kernel: self.geometry.kernel,
            stride: self.geometry.stride,
            padding: self.geometry.pad_before,
            tf32: super::tf32(),
        };
        let storage = cuda::with_element!(s1, T => {
            let values = cuda::convolve::<T>(&s1.device, &problem, &cuda::view(s1, l1)?, &cuda::view(s2, l2)?)?;
            candle_core::CudaStorage::wrap_cuda_slice(values, s1.device.clone())
        });
        Ok((storage, problem.output().to_vec().into()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        use Pass::*;
        let pass = |tracked: &Tensor, pass, x: &Tensor, y: &Tensor| {
            let (geometry, image) = (self.geometry, self.image);
            let compute = || apply(Conv { pass, geometry, image, training: true }, x, y);
            tracked.track_op().then(compute).transpose()
        };
        match self.pass {
            Forward => Ok((pass(a, InputGrad, grad, b)?, pass(b, WeightGrad, a, grad)?)),
            InputGrad => Ok((pass(a, Forward, grad, b)?, pass(b, WeightGrad, grad, a)?)),
            WeightGrad => Ok((pass(a, InputGrad, b, grad)?, pass(b, Forward, a, grad)?)),
        }
    }
}

/// Samples are summed in this many fixed portions, so that a gradient does not depend on the number of threads.
const PORTIONS: usize = 4;

/// Channels below which the kernels of training, which compute sixteen at a time, waste too much.
#[cfg(not(target_family = "wasm"))]
const MIN_CHANNELS: usize = 16;

#[cfg(not(target_family = "wasm"))]
impl Conv {
    fn has_training_kernel(&self, a: &Layout, b: &Layout) -> bool {
        let channels = self.problem(a, b).map(|sizes| sizes.channels.min(sizes.outputs));
        self.training && self.geometry == ConvGeometry::same(3) && channels.is_ok_and(|least| least >= MIN_CHANNELS)
    }

    fn compute_training(&self, a: &[f32], la: &Layout, b: &[f32], lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let Sizes { batch, channels: inputs, outputs, h: height, w: width, .. } = self.problem(la, lb)?;
        let convolution = Convolution { batch, inputs, outputs, height, width };
        let (values, shape) = match self.pass {
            Pass::Forward => (convolution.forward(a, b), (batch, outputs, height, width)),
            Pass::InputGrad => (convolution.input_gradient(a, b), (batch, inputs, height, width)),
            Pass::WeightGrad => (convolution.weight_gradient(a, b), (outputs, inputs, 3, 3)),
        };
        Ok((CpuStorage::F32(values), shape.into()))
    }
}

impl Conv {
    fn compute<T: WithDType>(&self, a: &[T], la: &Layout, b: &[T], lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let sizes = self.problem(la, lb)?;
        let kernel = self.geometry.kernel;
        let (values, shape) = match self.pass {
            Pass::Forward => (sizes.forward(a, b), (sizes.batch, sizes.outputs, sizes.out_h, sizes.out_w)),
            Pass::InputGrad => (sizes.input_grad(a, b), (sizes.batch, sizes.channels, sizes.h, sizes.w)),
            Pass::WeightGrad => (sizes.weight_grad(a, b), (sizes.outputs, sizes.channels, kernel, kernel)),
        };
        Ok((T::to_cpu_storage_owned(values), shape.into()))
    }

    /// The sizes of the whole convolution from those of the two arguments.
    fn problem(&self, a: &Layout, b: &Layout) -> Result<Sizes> {
        let (n, c, h, w) = a.shape().dims4()?;
        let (o, weight_channels, ..) = b.shape().dims4()?;
        Ok(match self.pass {
            Pass::Forward => self.sizes(n, c, o, h, w),
            Pass::InputGrad => self.sizes(n, weight_channels, o, self.image.0, self.image.1),
            Pass::WeightGrad => self.sizes(n, c, weight_channels, h, w),
        })
    }

    fn sizes(&self, batch: usize, channels: usize, outputs: usize, h: usize, w: usize) -> Sizes {
        let output = |size| self.geometry.output(size).unwrap_or(0);
        Sizes { geometry: self.geometry, batch, channels, outputs, h, w, out_h: output(h), out_w: output(w) }
    }
}

struct Sizes {
    geometry: ConvGeometry,
    batch: usize,
    channels: usize,
    outputs: usize,
    h: usize,
    w: usize,
    out_h: usize,
    out_w: usize,
}

impl Sizes {
    /// Rows of the im2col matrix: one per channel and kernel position.
    fn rows(&self) -> usize {
        self.channels * self.geometry.kernel * self.geometry.kernel
    }

    /// Columns of the im2col matrix: one per output pixel.
    fn pixels(&self) -> usize {
        self.out_h * self.out_w
    }

    fn input_len(&self) -> usize {
        self.channels * self.h * self.w
    }

    /// A 1x1 convolution's im2col matrix is the image itself.
    fn pointwise(&self) -> bool {
        self.geometry == ConvGeometry::same(1)
    }

    /// Samples side by side if there are enough of them, else each sample on all threads.
    fn parallelism(&self) -> Parallelism {
        if self.batch > 1 || cfg!(target_family = "wasm") { Parallelism::None } else { Parallelism::Rayon(0) }
    }

    fn columns_len(&self) -> usize {
        if self.pointwise() { 0 } else { self.rows() * self.pixels() }
    }

    /// y = W cols(x)
    fn forward<T: WithDType>(&self, x: &[T], weight: &[T]) -> Vec<T> {
        let mut y = vec![T::zero(); self.batch * self.outputs * self.pixels()];
        let samples =
            y.par_chunks_mut((self.outputs * self.pixels()).max(1)).zip(x.par_chunks(self.input_len().max(1)));
        samples.for_each_init(
            || vec![T::zero(); self.columns_len()],
            |columns, (y, x)| {
                let columns = self.columns(x, columns);
                let (m, n, k) = (self.outputs, self.pixels(), self.rows());
                multiply([m, n, k], y, Matrix::rows(weight, k), Matrix::rows(columns, n), false, self.parallelism());
            },
        );
        y
    }

    /// x' = fold(Wᵀ y')
    fn input_grad<T: WithDType>(&self, y: &[T], weight: &[T]) -> Vec<T> {
        let mut x = vec![T::zero(); self.batch * self.input_len()];
        let samples =
            x.par_chunks_mut(self.input_len().max(1)).zip(y.par_chunks((self.outputs * self.pixels()).max(1)));
        samples.for_each_init(
            || vec![T::zero(); self.columns_len()],
            |columns, (x, y)| {
                let (m, n, k) = (self.rows(), self.pixels(), self.outputs);
                let (weight, y) = (Matrix::columns(weight, m), Matrix::rows(y, n));
                if self.pointwise() {
                    multiply([m, n, k], x, weight, y, false, self.parallelism());
                } else {
                    multiply([m, n, k], columns, weight, y, false, self.parallelism());
                    self.fold(columns, x);
                }
            },
        );
        x
    }

    /// W' = sum over samples of y' cols(x)ᵀ
    fn weight_grad<T: WithDType>(&self, x: &[T], y: &[T]) -> Vec<T> {
        let (m, n, k) = (self.outputs, self.rows(), self.pixels());
        let samples_each = self.batch.div_ceil(PORTIONS).max(1);
        let xs = x.par_chunks((samples_each * self.input_len()).max(1));
        let ys = y.par_chunks((samples_each * m * k).max(1));
        let partial = |(x, y): (&[T], &[T])| {
            let mut sum = vec![T::zero(); m * n];
            let mut columns = vec![T::zero(); self.columns_len()];
            for (x, y) in x.chunks(self.input_len().max(1)).zip(y.chunks((m * k).max(1))) {
                let columns = self.columns(x, &mut columns);
                multiply(
                    [m, n, k],
                    &mut sum,
                    Matrix::rows(y, k),
                    Matrix::columns(columns, k),
                    true,
                    self.parallelism(),
                );
            }
            sum
        };
        let partials: Vec<Vec<T>> = xs.zip(ys).map(partial).collect();
        let mut total = vec![T::zero(); m * n];
        for partial in partials {
            total.iter_mut().zip(partial).for_each(|(sum, value)| *sum += value);
        }
        total
    }

    /// The im2col matrix (rows, pixels) of one sample, in `buffer` where it is not the sample itself.
    fn columns<'a, T: WithDType>(&self, x: &'a [T], buffer: &'a mut [T]) -> &'a [T] {
        if self.pointwise() {
            return x;
        }
        if self.geometry.stride == 1 && self.out_w == self.w {
            self.shifted_planes(x, buffer);
            return buffer;
        }
        self.for_each_line(|line, source, from, to| {
            let out = &mut buffer[line * self.out_w..(line + 1) * self.out_w];
            let Some(source) = source else {
                return out.fill(T::zero());
            };
            out[..from].fill(T::zero());
            out[to..].fill(T::zero());
            let stride = self.geometry.stride;
            (out[from..to].iter_mut().enumerate()).for_each(|(i, out)| *out = x[source + i * stride]);
        });
        buffer
    }

    /// The im2col matrix where lines keep their width: each of its rows is a channel moved as a whole, with zeros where
    /// values came over the edge from the line before or after.
    fn shifted_planes<T: WithDType>(&self, x: &[T], buffer: &mut [T]) {
        let ConvGeometry { kernel, pad_before, .. } = self.geometry;
        let w = self.w;
        for (row, out) in buffer.chunks_exact_mut(self.pixels()).enumerate() {
            let (c, ky, kx) = (row / (kernel * kernel), row / kernel % kernel, row % kernel);
            // The output lines whose input lines lie inside.
            let first = pad_before.saturating_sub(ky).min(self.out_h);
            let end = (self.h + pad_before).saturating_sub(ky).clamp(first, self.out_h);
            out[..first * w].fill(T::zero());
            out[end * w..].fill(T::zero());
            let inside = &mut out[first * w..end * w];
            // Copied from where their input lines begin, moved sideways; what lies before or after all of x is set to zero below.
            let begin = (c * self.h + (first + ky).saturating_sub(pad_before)) * w + kx;
            let skipped = pad_before.saturating_sub(begin).min(inside.len());
            let source = &x[(begin + skipped).saturating_sub(pad_before).min(x.len())..];
            let count = source.len().min(inside.len() - skipped);
            inside[skipped..skipped + count].copy_from_slice(&source[..count]);
            let left = pad_before.saturating_sub(kx).min(w);
            let right = kx.saturating_sub(pad_before).min(w);
            for line in inside.chunks_exact_mut(w) {
                line[..left].iter_mut().for_each(|value| *value = T::zero());
                line[w - right..].iter_mut().for_each(|value| *value = T::zero());
            }
        }
    }

    /// The adjoint of [`Self::columns`]: adds every entry to the pixel that it was taken from.
    fn fold<T: WithDType>(&self, columns: &[T], x: &mut [T]) {
        let stride = self.geometry.stride;
        self.for_each_line(|line, source, from, to| {
            let Some(source) = source else { return };
            let values = &columns[line * self.out_w + from..line * self.out_w + to];
            match stride {
                1 => (x[source..].iter_mut().zip(values)).for_each(|(sum, &value)| *sum += value),
                _ => values.iter().enumerate().for_each(|(i, &value)| x[source + i * stride] += value),
            }
        });
    }

    /// Walks over the lines (row of the im2col matrix, output row): calls back with the line's number, the index in
    /// the sample that output `from` takes its value from (`None` if the line lies outside the image), and the
    /// outputs from..to that lie inside.
    fn for_each_line(&self, mut visit: impl FnMut(usize, Option<usize>, usize, usize)) {
        let ConvGeometry { kernel, stride, pad_before, .. } = self.geometry;
        let mut line = 0;
        for c in 0..self.channels {
            for ky in 0..kernel {
                for kx in 0..kernel {
                    // The first and one past the last output whose column ox * stride + kx - pad_before is inside.
                    let from = pad_before.saturating_sub(kx).div_ceil(stride).min(self.out_w);
                    let to = (self.w + pad_before).saturating_sub(kx).div_ceil(stride).clamp(from, self.out_w);
                    for oy in 0..self.out_h {
                        let y = (oy * stride + ky).checked_sub(pad_before).filter(|&y| y < self.h && from < to);
                        let source = y.map(|y| (c * self.h + y) * self.w + from * stride + kx - pad_before);
                        visit(line, source, from, to);
                        line += 1;
                    }
                }
            }
        }
    }
}

/// A matrix in a slice.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    values: &'a [T],
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Row after row, `width` values each.
    fn rows(values: &'a [T], width: usize) -> Self {
        Self { values, row_stride: width, column_stride: 1 }
    }

    /// Column after column, `height` values each.
    fn columns(values: &'a [T], height: usize) -> Self {
        Self { values, row_stride: 1, column_stride: height }
    }
}

/// out (m, n) = a (m, k) b (k, n), added to what is there if `accumulate`.
fn multiply<T: WithDType>(
    [m, n, k]: [usize; 3],
    out: &mut [T],
    a: Matrix<T>,
    b: Matrix<T>,
    accumulate: bool,
    parallelism: Parallelism,
) {
    assert!(out.len() >= m * n && a.values.len() >= m * k && b.values.len() >= k * n, "matrices {m}x{n}x{k}");
    // SAFETY: the strides are those of dense matrices, whose sizes were checked; `out` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            parallelism,
        );
    }
}
