//! Adding a value per channel. Candle's broadcasting does the same, but its sums over leading dimensions are slow.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda;
use super::{has_kernel, slice, stock, wider};

/// Adds `bias` (1 or N, C) to every pixel of `x` (N, C, H, W).
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (n, c, ..) = x.dims4()?;
    if bias.dims() != [1, c] && bias.dims() != [n, c] {
        candle_core::bail!("add_bias: {:?} to {:?}", bias.shape(), x.shape());
    }
    if let Some(wider) = wider(x) {
        return add_bias(&x.to_dtype(wider)?, &bias.to_dtype(wider)?)?.to_dtype(x.dtype());
    }
    if !has_kernel(x) {
        return stock::add_bias(x, bias);
    }
    x.contiguous()?.apply_op2(&bias.contiguous()?, AddBias)
}

/// Sums `x` (N, C, H, W) over pixels, and over samples if `rows` is 1: (rows, C).
fn channel_sums(x: &Tensor, rows: usize) -> Result<Tensor> {
    x.contiguous()?.apply_op1(ChannelSums { rows })
}

struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, _, h, w) = l1.shape().dims4()?;
        fn add<T: WithDType>(x: &[T], bias: &[T], pixels: usize) -> CpuStorage {
            let mut y = x.to_vec();
            let planes = y.par_chunks_mut(pixels.max(1)).enumerate();
            planes.for_each(|(i, plane)| plane.iter_mut().for_each(|value| *value += bias[i % bias.len()]));
            T::to_cpu_storage_owned(y)
        }
        let storage = match s1 {
            CpuStorage::F64(_) => add::<f64>(slice(s1, l1)?, slice(s2, l2)?, h * w),
            _ => add::<f32>(slice(s1, l1)?, slice(s2, l2)?, h * w),
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
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (_, _, h, w) = l1.shape().dims4()?;
        let (count, pixels, biases) = (l1.shape().elem_count(), (h * w) as i32, l2.shape().elem_count() as i32);
        let storage = cuda::with_element!(s1, T => cuda::run::<T>(
            &s1.device,
            "add_bias",
            cuda::per_value(count),
            count,
            &[&cuda::view(s1, l1)?, &cuda::view(s2, l2)?],
            &[&count, &pixels, &biases],
        )?);
        Ok((storage, l1.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, bias: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let sums = || channel_sums(grad, bias.dim(0)?);
        Ok((Some(grad.clone()), bias.track_op().then(sums).transpose()?))
    }
}

struct ChannelSums {
    rows: usize,
}

impl CustomOp1 for ChannelSums {
    fn name(&self) -> &'static str {
        "channel_sums"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, c, h, w) = layout.shape().dims4()?;
        fn sums<T: WithDType>(x: &[T], pixels: usize, count: usize) -> CpuStorage {
            let planes = x.par_chunks(pixels.max(1)).map(|plane| plane.iter().fold(T::zero(), |sum, &x| sum + x));
            let planes: Vec<T> = planes.collect();
            let mut sums = vec![T::zero(); count];
            for samples in planes.chunks(count.max(1)) {
                sums.iter_mut().zip(samples).for_each(|(sum, &value)| *sum += value);
            }
            T::to_cpu_storage_owned(sums)
        }
        let count = self.rows * c;
        let storage = match storage {
            CpuStorage::F64(_) => sums::<f64>(slice(storage, layout)?, h * w, count),
            _ => sums::<f32>(slice(storage, layout)?, h * w, count),
        };
        Ok((storage, (self.rows, c).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (n, c, h, w) = layout.shape().dims4()?;
        let (sums, samples) = (self.rows * c, n / self.rows.max(1));
        let storage = cuda::with_element!(storage, T => cuda::run::<T>(
            &storage.device,
            "channel_sums",
            cuda::per_block(sums, samples * h * w),
            sums,
            &[&cuda::view(storage, layout)?],
            &[&((n * c) as i32), &((h * w) as i32), &(sums as i32)],
        )?);
        Ok((storage, (self.rows, c).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(add_bias(&x.zeros_like()?, grad)?))
    }
}
