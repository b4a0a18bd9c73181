//! Candle operations of our own, with derivatives, for the CPU and (feature `cuda`) for CUDA devices. Elsewhere, and
//! for other types of numbers, Candle's own operations do the same.
//!
//! Bias, convolution, FIR resampling and leaky ReLU are closed under differentiation (the derivative of each is made of the
//! same family), so second-order gradients such as a gradient penalty's work. Group norm and softmax have a first derivative only:
//! they appear in generator and autoencoder, never in the penalised discriminator. Depthwise convolution, which only networks with
//! fixed weights have, is not differentiated in its weights.

mod bias;
mod clamp;
mod conv;
#[cfg(feature = "cuda")]
pub mod cuda;
mod depthwise;
mod fir;
mod float;
#[cfg(test)]
mod gradients;
mod group_norm;
mod leaky_relu;
mod softmax;
mod stock;

pub use bias::add_bias;
pub use clamp::clamp;
pub use conv::conv2d;
pub use depthwise::depthwise_conv2d;
pub use fir::fir;
pub use group_norm::group_norm;
pub use leaky_relu::leaky_relu;
pub use softmax::softmax;

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{CpuStorage, DType, Error, Layout, Result, Tensor, WithDType};

/// Whether the kernels of this folder run where `x` is. A page has no other device, and need not be made larger by code
/// for one.
fn has_kernel(x: &Tensor) -> bool {
    cfg!(target_family = "wasm") || x.device().is_cpu() || (cfg!(feature = "cuda") && x.device().is_cuda())
}

/// The type that the CPU computes in for another, if it has no kernel for that one.
fn wider(x: &Tensor) -> Option<DType> {
    (x.device().is_cpu() && !matches!(x.dtype(), DType::F32 | DType::F64)).then_some(DType::F32)
}

static TF32: AtomicBool = AtomicBool::new(false);

/// Whether f32 convolutions and matrix products on CUDA devices may round their factors to TF32, which has 10 bits of
/// mantissa. Holds for the whole process; off at first.
pub fn set_tf32(allowed: bool) {
    TF32.store(allowed, Ordering::Relaxed);
    candle_core::cuda::set_gemm_reduced_precision_f32(allowed);
}

#[cfg(feature = "cuda")]
fn tf32() -> bool {
    TF32.load(Ordering::Relaxed)
}

/// The values of a contiguous CPU tensor.
fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op: "lddgan" })?;
    Ok(&storage.as_slice::<T>()?[start..end])
}
