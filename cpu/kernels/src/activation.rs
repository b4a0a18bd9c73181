//! Functions that follow other operations.

/// A pointwise function applied to the result of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x itself.
    Identity,
    /// x * sigmoid(x)
    Silu,
    /// tanh(x)
    Tanh,
    /// max(x, 0.2 x)
    LeakyRelu,
}

/// The factor of negative numbers in [`Activation::LeakyRelu`].
pub const LEAKY_SLOPE: f64 = 0.2;
