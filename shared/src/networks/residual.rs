//! The residual block of the generator (reference: `ResnetBlockBigGANpp_Adagn`), and what it is made of.

use candle_nn::VarBuilder;

use super::SKIP_RESCALE;
use crate::backend::{Activation, Backend, FirMode};
use crate::config::GeneratorConfig;
use crate::error::Result;
use crate::layers::{Conv2d, ConvGeometry, Linear, NEARLY_ZERO, WeightInit, check_groups};

/// Groups of a norm over `channels` channels.
pub(super) fn groups(channels: usize) -> usize {
    (channels / 4).clamp(1, 32)
}

pub(super) fn conv3x3(vb: VarBuilder, inputs: usize, outputs: usize, scale: f64) -> Result<Conv2d> {
    Conv2d::new(vb, inputs, outputs, ConvGeometry::same(3), WeightInit::average(scale))
}

pub(super) fn conv1x1(vb: VarBuilder, inputs: usize, outputs: usize, scale: f64) -> Result<Conv2d> {
    Conv2d::new(vb, inputs, outputs, ConvGeometry::same(1), WeightInit::average(scale))
}

/// Group norm whose scale and shift are a linear function of the mapped z (AdaGN). The reference multiplies by the
/// linear's output, whose bias starts at one; here the one is added, so the bias starts at zero.
struct AdaptiveGroupNorm {
    style: Linear,
    groups: usize,
}

impl AdaptiveGroupNorm {
    fn new(vb: VarBuilder, channels: usize, z_embedding: usize) -> Result<Self> {
        check_groups(channels, groups(channels))?;
        let style = Linear::new(vb.pp("style"), z_embedding, 2 * channels, WeightInit::out(1.0))?;
        Ok(Self { style, groups: groups(channels) })
    }

    fn forward<B: Backend>(&self, backend: &mut B, x: &B::Value, z: &B::Value) -> Result<B::Value> {
        let style = backend.linear(z, &self.style, Activation::Identity)?;
        backend.adaptive_group_norm(x, &style, self.groups, Activation::Silu)
    }
}

/// What every residual block is conditioned on, each (N, width); as `Condition<usize>`, their widths.
pub struct Condition<V> {
    /// SiLU of the time embedding.
    pub time: V,
    /// The mapped z.
    pub z: V,
}

impl Condition<usize> {
    pub(super) fn widths(config: &GeneratorConfig) -> Self {
        Self { time: 4 * config.channels, z: config.z_embedding }
    }
}

/// BigGAN residual block with optional FIR resampling of branch and shortcut.
pub struct ResidualBlock {
    norm1: AdaptiveGroupNorm,
    conv1: Conv2d,
    time: Linear,
    norm2: AdaptiveGroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    resample: Option<FirMode>,
}

impl ResidualBlock {
    /// A block from `inputs` to `outputs` channels.
    pub fn new(
        vb: VarBuilder,
        widths: &Condition<usize>,
        inputs: usize,
        outputs: usize,
        resample: Option<FirMode>,
    ) -> Result<Self> {
        let project = inputs != outputs || resample.is_some();
        let block = if project { Self::with_shortcut } else { Self::without_shortcut };
        Ok(Self { resample, ..block(vb, widths, inputs, outputs)? })
    }

    /// A block that does not resample by itself, with a convolution in its shortcut.
    pub(super) fn with_shortcut(
        vb: VarBuilder,
        widths: &Condition<usize>,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self> {
        let shortcut = Some(conv1x1(vb.pp("shortcut"), inputs, outputs, 1.0)?);
        Ok(Self { shortcut, ..Self::without_shortcut(vb, widths, inputs, outputs)? })
    }

    fn without_shortcut(vb: VarBuilder, widths: &Condition<usize>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            norm1: AdaptiveGroupNorm::new(vb.pp("norm1"), inputs, widths.z)?,
            conv1: conv3x3(vb.pp("conv1"), inputs, outputs, 1.0)?,
            time: Linear::new(vb.pp("time"), widths.time, outputs, WeightInit::average(1.0))?,
            norm2: AdaptiveGroupNorm::new(vb.pp("norm2"), outputs, widths.z)?,
            conv2: conv3x3(vb.pp("conv2"), outputs, outputs, NEARLY_ZERO)?,
            shortcut: None,
            resample: None,
        })
    }

    /// (N, inputs, H, W) to (N, outputs, H', W'), of half or twice the size where the block resamples.
    pub fn forward<B: Backend>(&self, b: &mut B, x: &B::Value, condition: &Condition<B::Value>) -> Result<B::Value> {
        let (branch, shortcut) = self.begin(b, x, condition)?;
        self.end(b, &branch, &shortcut, condition)
    }

    /// Branch and shortcut up to where wavelet blocks resample both; FIR blocks have done so before.
    pub(super) fn begin<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        condition: &Condition<B::Value>,
    ) -> Result<(B::Value, B::Value)> {
        let mut branch = self.norm1.forward(b, x, &condition.z)?;
        let mut shortcut = x.clone();
        if let Some(mode) = self.resample {
            branch = b.fir(&branch, mode)?;
            shortcut = b.fir(&shortcut, mode)?;
        }
        let branch = b.conv2d(&branch, &self.conv1)?;
        if let Some(conv) = &self.shortcut {
            shortcut = b.conv2d(&shortcut, conv)?;
        }
        Ok((branch, shortcut))
    }

    /// What follows on [`Self::begin`].
    pub(super) fn end<B: Backend>(
        &self,
        b: &mut B,
        branch: &B::Value,
        shortcut: &B::Value,
        condition: &Condition<B::Value>,
    ) -> Result<B::Value> {
        let time = b.linear(&condition.time, &self.time, Activation::Identity)?;
        let branch = b.add_per_channel(branch, &time)?;
        let branch = self.norm2.forward(b, &branch, &condition.z)?;
        let branch = b.conv2d(&branch, &self.conv2)?;
        b.weighted_sum(&[(SKIP_RESCALE, shortcut), (SKIP_RESCALE, &branch)])
    }
}
