//! What a graph is compiled to: operations on blocks.

mod attention;
mod channels;
mod norm;
mod pointwise;
mod quantize;
mod resample;

pub use attention::Attention;
pub use channels::{Concat, MinibatchStddev, PixelNorm, SumPixels};
pub use norm::{Affine, Norm};
pub use pointwise::{AddPerChannel, Multiply, WeightedSum};
pub use quantize::{Quantize, codebook_blocks, pack_codebook};
pub use resample::{DepthToSpace, Fir, InverseHaar, Pool, UpsampleNearest};

use lddgan_kernels::conv::{Algorithm, ConvLayer, Epilogue, Task};
use lddgan_kernels::layout::Block;
use lddgan_kernels::workers::{Parts, Workers};

/// An operation of known sizes.
pub trait Kernel: std::fmt::Debug + Send + Sync {
    /// Computes `y` from what the operation reads.
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]);

    /// Blocks of memory that a thread needs meanwhile.
    fn memory(&self) -> usize {
        0
    }
}

/// A convolution, or linear layer. Reads the images, packed weights, biases and, if there is a factor for it, a residual.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    pub layer: ConvLayer,
    pub algorithm: Algorithm,
    pub scale: f32,
    pub residual: Option<f32>,
    pub activation: lddgan::Activation,
}

impl Kernel for Conv {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let residual = self.residual.map(|factor| (factor, reads[3]));
        let epilogue = Epilogue { bias: reads[2], scale: self.scale, residual, activation: self.activation };
        let task = Task { layer: &self.layer, x: reads[0], weights: reads[1], epilogue: &epilogue, y: Parts::new(y) };
        self.algorithm.compute(task, workers);
    }

    fn memory(&self) -> usize {
        self.algorithm.memory(&self.layer)
    }
}
