//! Values cut off at two ends, as by ReLU6. Candle's own takes several passes each way.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{has_kernel, slice, stock, wider};

/// min(max(x, low), high), whose derivative is 1 between the ends and 0 elsewhere.
pub fn clamp(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    if let Some(wider) = wider(x) {
        return clamp(&x.to_dtype(wider)?, low, high)?.to_dtype(x.dtype());
    }
    if !has_kernel(x) {
        return stock::clamp(x, low, high);
    }
    x.contiguous()?.apply_op1(Clamp { low, high })
}

#[derive(Clone, Copy)]
struct Clamp {
    low: f64,
    high: f64,
}

impl CustomOp1 for Clamp {
    fn name(&self) -> &'static str {
        "clamp"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn apply<T: WithDType>(x: &[T], Clamp { low, high }: Clamp) -> CpuStorage {
            let (low, high) = (T::from_f64(low), T::from_f64(high));
            let clamp = |&x: &T| {
                if x < low {
                    low
                } else if x > high {
                    high
                } else {
                    x
                }
            };
            T::to_cpu_storage_owned(x.iter().map(clamp).collect())
        }
        let storage = match storage {
            CpuStorage::F64(_) => apply::<f64>(slice(storage, layout)?, *self),
            _ => apply::<f32>(slice(storage, layout)?, *self),
        };
        Ok((storage, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let count = layout.shape().elem_count();
        let storage = cuda::with_element!(storage, T => cuda::run::<T>(
            &storage.device,
            "clamp_values",
            cuda::per_value(count),
            count,
            &[&cuda::view(storage, layout)?],
            &[&count, &self.low, &self.high],
        )?);
        Ok((storage, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.detach().apply_op2(&grad.contiguous()?, WhereBetween(*self))?))
    }
}

/// (x, v) -> v where x lies between the ends, else 0. Linear in v; its derivative in x is zero almost everywhere.
struct WhereBetween(Clamp);

impl CustomOp2 for WhereBetween {
    fn name(&self) -> &'static str {
        "where_between"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        fn apply<T: WithDType>(x: &[T], v: &[T], Clamp { low, high }: Clamp) -> CpuStorage {
            let (low, high) = (T::from_f64(low), T::from_f64(high));
            let values = x.iter().zip(v).map(|(&x, &v)| if low < x && x < high { v } else { T::zero() });
            T::to_cpu_storage_owned(values.collect())
        }
        let storage = match s1 {
            CpuStorage::F64(_) => apply::<f64>(slice(s1, l1)?, slice(s2, l2)?, self.0),
            _ => apply::<f32>(slice(s1, l1)?, slice(s2, l2)?, self.0),
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
        let count = l1.shape().elem_count();
        let storage = cuda::with_element!(s1, T => cuda::run::<T>(
            &s1.device,
            "where_between",
            cuda::per_value(count),
            count,
            &[&cuda::view(s1, l1)?, &cuda::view(s2, l2)?],
            &[&count, &self.0.low, &self.0.high],
        )?);
        Ok((storage, l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((None, Some(x.detach().apply_op2(&grad.contiguous()?, Self(self.0))?)))
    }
}
