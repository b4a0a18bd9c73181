//! The sizes of a convolution.

use serde::{Deserialize, Serialize};

/// What the speed of a convolution depends on: the key of a table of measured kernels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConvLayer {
    /// Shape of the input: batch, channels, height, width.
    pub x: [usize; 4],
    /// Shape of the result.
    pub y: [usize; 4],
    /// Side of the kernel, in pixels.
    pub kernel: usize,
    /// Pixels from one result to the next.
    pub stride: usize,
    /// The factor of the nearest-neighbour upsampling before it: 1, or 2 before a 3x3 kernel of stride 1.
    pub upsample: usize,
}

impl ConvLayer {
    pub(super) fn out_blocks(&self) -> usize {
        self.y[1].div_ceil(4)
    }

    /// The images that the result is interlaced of, see conv_common.wgsl.
    pub(super) fn phases(&self) -> usize {
        self.upsample * self.upsample
    }

    /// Whether the result is a single pixel of each sample, and the convolution a product of matrix and vector.
    pub(super) fn is_to_one_pixel(&self) -> bool {
        self.y[2..] == [1, 1]
    }

    /// Batch, height and width of a phase.
    pub(super) fn phase(&self) -> [usize; 3] {
        [self.y[0], self.y[2] / self.upsample, self.y[3] / self.upsample]
    }
}
