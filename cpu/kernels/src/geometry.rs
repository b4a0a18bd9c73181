//! How a convolution's kernel lies on an image.

/// The geometry of a square convolution; zeros outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Side of the kernel, in pixels.
    pub kernel: usize,
    /// Pixels from one result to the next.
    pub stride: usize,
    /// Zeros above and left of the image.
    pub pad_before: usize,
    /// Zeros below and right of the image.
    pub pad_after: usize,
}

impl ConvGeometry {
    /// Stride 1, output as large as the input; odd kernels.
    pub const fn same(kernel: usize) -> Self {
        Self { kernel, stride: 1, pad_before: kernel / 2, pad_after: kernel / 2 }
    }

    /// One output for each `size` x `size` patch.
    pub const fn patch(size: usize) -> Self {
        Self { kernel: size, stride: size, pad_before: 0, pad_after: 0 }
    }

    /// Output size for an input of `size` pixels; `None` if the kernel does not fit, or has no stride.
    pub fn output(&self, size: usize) -> Option<usize> {
        let padded = size.checked_add(self.pad_before)?.checked_add(self.pad_after)?;
        Some(padded.checked_sub(self.kernel)?.checked_div(self.stride)? + 1)
    }
}
