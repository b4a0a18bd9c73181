//! The operations that the networks are made of, and the trait of backends.
//!
//! A network's `forward` is generic over [`Backend`]. [`CandleBackend`] computes at once (with autograd); a
//! [`Recorder`](crate::Recorder) writes the calls down as a [`Graph`](crate::Graph) for compilers.

mod candle;

use candle_core::Tensor;

pub use candle::{CandleBackend, nearest_codes};

pub use lddgan_kernels::{Activation, LEAKY_SLOPE};

use crate::error::Result;
use crate::layers::{Conv2d, GroupNorm, Linear};

/// What is added to a mean of squares before its root is taken or divided by, in [`Backend::pixel_norm`] and
/// [`Backend::minibatch_stddev`].
pub const SQUARES_EPSILON: f64 = 1e-8;

/// Samples that [`Backend::minibatch_stddev`] compares with each other.
pub const MINIBATCH_GROUP: usize = 4;

/// Resampling with the separable FIR kernel \[1, 3, 3, 1\] / 8, zeros outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FirMode {
    /// Twice the size: y\[2i\] = (x\[i-1\] + 3 x\[i\]) / 4, y\[2i+1\] = (3 x\[i\] + x\[i+1\]) / 4 per dimension.
    Upsample,
    /// Half the size: y\[i\] = (x\[2i-1\] + 3 x\[2i\] + 3 x\[2i+1\] + x\[2i+2\]) / 8 per dimension.
    Downsample,
    /// One more than the size: y\[n\] = (x\[n-2\] + 3 x\[n-1\] + 3 x\[n\] + x\[n+1\]) / 8 per dimension; what a
    /// 3x3 convolution of stride 2 without padding then reduces to half the size.
    Smooth,
}

impl FirMode {
    /// The kernel.
    pub const TAPS: [f32; 4] = [0.125, 0.375, 0.375, 0.125];

    /// The first of the pixels that output `i` of one dimension is made of, and the weights of that and the next ones; some
    /// may lie outside the image.
    #[inline(always)]
    pub fn taps(self, i: usize) -> (isize, &'static [f32]) {
        /// Every other weight, of as many zeros between the pixels.
        const EVEN: [f32; 2] = [2.0 * FirMode::TAPS[0], 2.0 * FirMode::TAPS[2]];
        const ODD: [f32; 2] = [2.0 * FirMode::TAPS[1], 2.0 * FirMode::TAPS[3]];
        let i = i as isize;
        match self {
            Self::Upsample if i % 2 == 0 => (i / 2 - 1, &EVEN),
            Self::Upsample => (i / 2, &ODD),
            Self::Downsample => (2 * i - 1, &Self::TAPS),
            Self::Smooth => (i - 2, &Self::TAPS),
        }
    }

    /// Output size of one dimension.
    pub fn output(self, size: usize) -> usize {
        match self {
            Self::Upsample => 2 * size,
            Self::Downsample => size / 2,
            Self::Smooth => size + 1,
        }
    }
}

/// An executor of network operations. Images are (N, C, H, W), vectors (N, C).
pub trait Backend {
    /// A tensor as this backend knows it.
    type Value: Clone;

    /// The shape of a value.
    fn shape(&self, x: &Self::Value) -> Vec<usize>;

    /// A value that is the same at every run.
    fn constant(&mut self, tensor: &Tensor) -> Result<Self::Value>;

    /// 2-D convolution plus bias.
    fn conv2d(&mut self, x: &Self::Value, conv: &Conv2d) -> Result<Self::Value>;

    /// Fully connected layer on (N, in), then the activation.
    fn linear(&mut self, x: &Self::Value, linear: &Linear, activation: Activation) -> Result<Self::Value>;

    /// Group norm with learned affine parameters, then the activation.
    fn group_norm(&mut self, x: &Self::Value, norm: &GroupNorm, activation: Activation) -> Result<Self::Value>;

    /// Group norm without learned parameters, times one plus the first C of `style` (N, 2C), plus the last C, then
    /// the activation.
    fn adaptive_group_norm(
        &mut self,
        x: &Self::Value,
        style: &Self::Value,
        groups: usize,
        activation: Activation,
    ) -> Result<Self::Value>;

    /// A pointwise function.
    fn activate(&mut self, x: &Self::Value, activation: Activation) -> Result<Self::Value>;

    /// x / sqrt(mean over features of x² + 1e-8) on (N, C).
    fn pixel_norm(&mut self, x: &Self::Value) -> Result<Self::Value>;

    /// Separable FIR resampling.
    fn fir(&mut self, x: &Self::Value, mode: FirMode) -> Result<Self::Value>;

    /// Every pixel becomes `factor` x `factor` equal pixels.
    fn upsample_nearest(&mut self, x: &Self::Value, factor: usize) -> Result<Self::Value>;

    /// (N, C r², H, W) to (N, C, H r, W r); input channel c r² + i r + j goes to row i, column j of each block.
    fn depth_to_space(&mut self, x: &Self::Value, factor: usize) -> Result<Self::Value>;

    /// The weighted sum of each block of 2x2 pixels, (N, C, 2 H, 2 W) to (N, C, H, W); the weights go row by row.
    fn pool(&mut self, x: &Self::Value, weights: [f32; 4]) -> Result<Self::Value>;

    /// Blocks of 2x2 pixels from the four values that [`Self::pool`] gives with [`crate::haar::BANDS`], in their order:
    /// each (N, C, H, W) to (N, C, 2 H, 2 W).
    fn inverse_haar(&mut self, bands: [&Self::Value; 4]) -> Result<Self::Value>;

    /// Concatenation along the channels of two images.
    fn concat(&mut self, a: &Self::Value, b: &Self::Value) -> Result<Self::Value>;

    /// Adds `bias` (N, C) to every pixel of `x` (N, C, H, W).
    fn add_per_channel(&mut self, x: &Self::Value, bias: &Self::Value) -> Result<Self::Value>;

    /// The product of two values of equal shape, number by number.
    fn multiply(&mut self, a: &Self::Value, b: &Self::Value) -> Result<Self::Value>;

    /// The sum of one to three values of equal shape, each times its factor.
    fn weighted_sum(&mut self, terms: &[(f32, &Self::Value)]) -> Result<Self::Value>;

    /// Single-head attention over all positions: softmax(qᵀk / sqrt(C)) v, each (N, C, H, W).
    fn attention(&mut self, q: &Self::Value, k: &Self::Value, v: &Self::Value) -> Result<Self::Value>;

    /// Replaces every position's C channels by the nearest row (squared distance, first on ties) of `codebook`
    /// (codes, C). No gradient flows through it.
    fn quantize(&mut self, x: &Self::Value, codebook: &Tensor) -> Result<Self::Value>;

    /// Appends one constant channel: the standard deviation over groups of min(N, 4) samples, averaged over
    /// channels and pixels (StyleGAN's minibatch standard deviation).
    fn minibatch_stddev(&mut self, x: &Self::Value) -> Result<Self::Value>;

    /// Sum over pixels, (N, C, H, W) to (N, C).
    fn sum_pixels(&mut self, x: &Self::Value) -> Result<Self::Value>;
}
