//! Candle operations of our own, with CPU kernels and derivatives. Other devices compute them with Candle's own.
//!
//! Bias, convolution, FIR resampling and leaky ReLU are closed under differentiation (the derivative of each is made of the
//! same family), so second-order gradients such as a gradient penalty's work. Group norm has a first derivative only:
//! it appears in generator and autoencoder, never in the penalised discriminator.

mod bias;
mod conv;
mod fir;
mod float;
#[cfg(test)]
mod gradients;
mod group_norm;
mod leaky_relu;
mod stock;

pub use bias::add_bias;
pub use conv::conv2d;
pub use fir::fir;
pub use group_norm::group_norm;
pub use leaky_relu::leaky_relu;

use candle_core::{CpuStorage, Error, Layout, Result, Tensor, WithDType};

/// Whether the kernels of this folder run where `x` is. A page has no other device, and need not be made larger by code
/// for one.
fn has_kernel(x: &Tensor) -> bool {
    cfg!(target_family = "wasm") || x.device().is_cpu()
}

/// The values of a contiguous CPU tensor.
fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op: "lddgan" })?;
    Ok(&storage.as_slice::<T>()?[start..end])
}
