//! What WaveDiff's generator has in place of FIR filters (reference: `WaveletNCSNpp` of WaveDiff): blocks that resample by
//! Haar transforms, the coarse band going on and the fine ones around.
//!
//! The reference divides orthonormal bands by two before a layer and multiplies by two after it. [`BANDS`] are those
//! halves, so there is no factor here.

use candle_nn::VarBuilder;

use super::residual::{Condition, ResidualBlock, conv3x3};
use crate::backend::Backend;
use crate::error::Result;
use crate::haar::BANDS;
use crate::layers::{Conv2d, ConvGeometry, WeightInit};

/// The bands LH, HL, HH, each (N, C, H, W).
pub type FineBands<V> = [V; 3];

fn coarse<B: Backend>(b: &mut B, x: &B::Value) -> Result<B::Value> {
    b.pool(x, BANDS[0])
}

fn fine<B: Backend>(b: &mut B, x: &B::Value) -> Result<FineBands<B::Value>> {
    Ok([b.pool(x, BANDS[1])?, b.pool(x, BANDS[2])?, b.pool(x, BANDS[3])?])
}

fn restore<B: Backend>(b: &mut B, coarse: &B::Value, [lh, hl, hh]: &FineBands<B::Value>) -> Result<B::Value> {
    b.inverse_haar([coarse, lh, hl, hh])
}

/// A residual block that halves the size.
pub struct WaveletDown(ResidualBlock);

impl WaveletDown {
    /// For images of so many channels, conditioned on vectors of these widths.
    pub fn new(vb: VarBuilder, widths: &Condition<usize>, channels: usize) -> Result<Self> {
        Ok(Self(ResidualBlock::with_shortcut(vb, widths, channels, channels)?))
    }

    /// (N, channels, H, W) to (N, channels, H / 2, W / 2), and the fine bands of the branch for [`WaveletUp`].
    pub fn forward<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        condition: &Condition<B::Value>,
    ) -> Result<(B::Value, FineBands<B::Value>)> {
        let (branch, shortcut) = self.0.begin(b, x, condition)?;
        let bands = fine(b, &branch)?;
        let (branch, shortcut) = (coarse(b, &branch)?, coarse(b, &shortcut)?);
        Ok((self.0.end(b, &branch, &shortcut, condition)?, bands))
    }
}

/// A residual block that doubles the size with the fine bands of a [`WaveletDown`].
pub struct WaveletUp {
    block: ResidualBlock,
    /// For each fine band, from its channels to those of the block (reference: `convH_0`, of three groups).
    bands: [Conv2d; 3],
}

impl WaveletUp {
    /// A block of so many channels, for bands of `fine` channels.
    pub fn new(vb: VarBuilder, widths: &Condition<usize>, channels: usize, fine: usize) -> Result<Self> {
        let all = conv3x3(vb.pp("fine"), fine, 3 * channels, 1.0)?;
        let band = |i: usize| all.outputs(i * channels, channels);
        Ok(Self {
            block: ResidualBlock::with_shortcut(vb, widths, channels, channels)?,
            bands: [band(0)?, band(1)?, band(2)?],
        })
    }

    /// (N, channels, H, W) to (N, channels, 2 H, 2 W); `bands` are as large as `x`.
    pub fn forward<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        bands: &FineBands<B::Value>,
        condition: &Condition<B::Value>,
    ) -> Result<B::Value> {
        let (branch, shortcut) = self.block.begin(b, x, condition)?;
        let mut band = |i: usize| b.conv2d(&bands[i], &self.bands[i]);
        let bands = [band(0)?, band(1)?, band(2)?];
        let (branch, shortcut) = (restore(b, &branch, &bands)?, restore(b, &shortcut, &bands)?);
        self.block.end(b, &branch, &shortcut, condition)
    }
}

/// The stream of the network's input beside the blocks, halved: a convolution of all its bands.
pub struct WaveletPyramid(Conv2d);

impl WaveletPyramid {
    /// From images of `inputs` channels to those of `outputs`.
    pub fn new(vb: VarBuilder, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self(Conv2d::new(vb, 4 * inputs, outputs, ConvGeometry::same(3), WeightInit::average(1.0))?))
    }

    /// (N, inputs, H, W) to (N, outputs, H / 2, W / 2).
    pub fn forward<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        let bands = blocks_to_channels(b, x, &BANDS)?;
        b.conv2d(&bands, &self.0)
    }
}

/// What [`Backend::pool`] makes of an image with each of these weights, side by side: (N, 4 C, H / 2, W / 2).
pub fn blocks_to_channels<B: Backend>(b: &mut B, x: &B::Value, weights: &[[f32; 4]; 4]) -> Result<B::Value> {
    let [first, rest @ ..] = weights;
    let first = b.pool(x, *first)?;
    rest.iter().try_fold(first, |channels, &weights| {
        let next = b.pool(x, weights)?;
        b.concat(&channels, &next)
    })
}

/// A block that sees the coarse band alone; the fine ones go around it.
pub fn on_coarse_band<B: Backend>(
    b: &mut B,
    block: &ResidualBlock,
    x: &B::Value,
    condition: &Condition<B::Value>,
) -> Result<B::Value> {
    let bands = fine(b, x)?;
    let low = coarse(b, x)?;
    let low = block.forward(b, &low, condition)?;
    restore(b, &low, &bands)
}
