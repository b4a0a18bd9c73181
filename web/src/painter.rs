//! Draws images from the GPU's memory onto a canvas, without a way through the CPU.

use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::gpu::Gpu;

/// Draws grids of images onto textures of one format.
pub struct Painter {}

impl Painter {
    /// `format` is the surface's: an 8-bit unorm format without sRGB (`Rgba8Unorm`, `Bgra8Unorm`).
    pub async fn new(gpu: &Gpu, format: wgpu::TextureFormat) -> Result<Self> {
        Err(Error::Graph("not compiled yet".into()))
    }

    /// Draws all images of an output (N, 1 or 3, H, W), nominally in \[-1, 1\], row by row, `columns` in a row, one
    /// texel for each pixel, from the top left corner of `view`; does not wait. What the grid does not cover becomes
    /// transparent. Bytes are (clamp(x, -1, 1) + 1) / 2 * 255, rounded to the nearest.
    pub fn draw(&self, executor: &Executor, output: &str, view: &wgpu::TextureView, columns: u32) -> Result<()> {
        Err(Error::Graph("not compiled yet".into()))
    }
}
