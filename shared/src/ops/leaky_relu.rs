//! Leaky ReLU with slope 0.2.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{has_kernel, slice, stock, wider};
use crate::backend::LEAKY_SLOPE;

/// max(x, 0.2 x), twice differentiable.
pub fn leaky_relu(x: &Tensor) -> Result<Tensor> {
    if let Some(wider) = wider(x) {
        return leaky_relu(&x.to_dtype(wider)?)?.to_dtype(x.dtype());
    }
    if !has_kernel(x) {
        return stock::leaky_relu(x);
    }
    let x = x.contiguous()?;
    // y = slope(x) * x; only the second argument carries the gradient.
    x.detach().apply_op2(&x, SlopeTimes)
}

/// (x, v) -> v where x >= 0, else 0.2 v. Linear in v; its derivative in x is zero almost everywhere.
struct SlopeTimes;

impl CustomOp2 for SlopeTimes {
    fn name(&self) -> &'static str {
        "leaky_relu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        fn apply<T: WithDType>(x: &[T], v: &[T]) -> CpuStorage {
            let slope = T::from_f64(LEAKY_SLOPE);
            let values = x.iter().zip(v).map(|(&x, &v)| if x >= T::zero() { v } else { slope * v });
            T::to_cpu_storage_owned(values.collect())
        }
        let storage = match s1 {
            CpuStorage::F64(_) => apply::<f64>(slice(s1, l1)?, slice(s2, l2)?),
            _ => apply::<f32>(slice(s1, l1)?, slice(s2, l2)?),
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
            "slope_times",
            cuda::per_value(count),
            count,
            &[&cuda::view(s1, l1)?, &cuda::view(s2, l2)?],
            &[&count, &LEAKY_SLOPE],
        )?);
        Ok((storage, l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((None, Some(x.detach().apply_op2(&grad.contiguous()?, SlopeTimes)?)))
    }
}
