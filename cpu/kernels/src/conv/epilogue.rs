//! What follows a convolution: y = activation(scale * (sum + bias) + residual factor * residual).

use crate::Activation;
use pulp::Simd;

use crate::layout::{Block, Shape};
use crate::simd::{activate, of, of_mut};

/// See the head of this file.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a> {
    /// A block for each block of channels, or for each of them and each sample.
    pub bias: &'a [Block],
    /// What the sum is multiplied by, after the bias was added.
    pub scale: f32,
    /// Shaped as y.
    pub residual: Option<(f32, &'a [Block])>,
    /// Comes last.
    pub activation: Activation,
}

impl Epilogue<'_> {
    /// The bias of a block of channels of a sample.
    #[inline(always)]
    pub fn bias(&self, y: &Shape, block: usize, sample: usize) -> &Block {
        let per_sample = self.bias.len() > y.blocks();
        &self.bias[if per_sample { block * y.batch + sample } else { block }]
    }

    /// Finishes vector `i` of the block at `place` in y.
    #[inline(always)]
    pub fn finish<S: Simd>(&self, simd: S, sum: S::f32s, bias: &Block, place: usize, i: usize) -> S::f32s {
        let mut y = simd.add_f32s(sum, of::<S>(bias)[i]);
        if self.scale != 1.0 {
            y = simd.mul_f32s(y, simd.splat_f32s(self.scale));
        }
        if let Some((factor, residual)) = self.residual {
            y = simd.mul_add_e_f32s(of::<S>(&residual[place])[i], simd.splat_f32s(factor), y);
        }
        activate(simd, self.activation, y)
    }

    /// Finishes the sums of pixels in a row, which are those from `first` on in the plane of a block of channels.
    #[inline(always)]
    pub fn finish_all<S: Simd>(
        &self,
        simd: S,
        shape: &Shape,
        block: usize,
        first: usize,
        sums: &[Block],
        y: &mut [Block],
    ) {
        for (i, (sum, y)) in sums.iter().zip(y).enumerate() {
            let bias = self.bias(shape, block, (first + i) / shape.pixels());
            for (v, y) in of_mut::<S>(y).iter_mut().enumerate() {
                *y = self.finish(simd, of::<S>(sum)[v], bias, block * shape.plane() + first + i, v);
            }
        }
    }
}
