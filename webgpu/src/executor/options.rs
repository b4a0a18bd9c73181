//! How a graph is computed.

use super::conv::ConvKernel;
use super::conv_layer::ConvLayer;
use super::layout::Dtype;

/// How a graph is computed.
pub struct Options<'a> {
    /// The kernel of each convolution.
    pub convolutions: &'a dyn Fn(&ConvLayer) -> ConvKernel,
    /// The type of the images between the kernels, which compute in f32. Inputs and outputs are f32. f16 halves the
    /// memory that is moved, and needs an adapter that has it.
    pub images: Dtype,
}
