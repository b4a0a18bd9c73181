//! What encoder and decoder are built from.

use candle_nn::VarBuilder;

use super::super::attention::{AttentionBlock, AttentionStyle};
use crate::backend::{Activation, Backend};
use crate::config::CoderConfig;
use crate::error::Result;
use crate::layers::{Conv2d, ConvGeometry, GroupNorm, NEARLY_ZERO, WeightInit};

pub fn conv(vb: VarBuilder, inputs: usize, outputs: usize, kernel: usize) -> Result<Conv2d> {
    Conv2d::new(vb, inputs, outputs, ConvGeometry::same(kernel), WeightInit::average(1.0))
}

/// The last convolution of a coder; beside a linear path it starts close to zero, so that training starts from the
/// linear path alone.
pub fn last_conv(vb: VarBuilder, inputs: usize, outputs: usize, linear_path: bool) -> Result<Conv2d> {
    let scale = if linear_path { NEARLY_ZERO } else { 1.0 };
    Conv2d::new(vb, inputs, outputs, ConvGeometry::same(3), WeightInit::average(scale))
}

struct ResidualBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    fn new(vb: VarBuilder, inputs: usize, outputs: usize, groups: usize) -> Result<Self> {
        Ok(Self {
            norm1: GroupNorm::new(vb.pp("norm1"), inputs, groups)?,
            conv1: conv(vb.pp("conv1"), inputs, outputs, 3)?,
            norm2: GroupNorm::new(vb.pp("norm2"), outputs, groups)?,
            conv2: conv(vb.pp("conv2"), outputs, outputs, 3)?,
            shortcut: (inputs != outputs).then(|| conv(vb.pp("shortcut"), inputs, outputs, 1)).transpose()?,
        })
    }

    fn forward<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        let branch = b.group_norm(x, &self.norm1, Activation::Silu)?;
        let branch = b.conv2d(&branch, &self.conv1)?;
        let branch = b.group_norm(&branch, &self.norm2, Activation::Silu)?;
        let branch = b.conv2d(&branch, &self.conv2)?;
        let shortcut = match &self.shortcut {
            Some(conv) => b.conv2d(x, conv)?,
            None => x.clone(),
        };
        b.weighted_sum(&[(1.0, &shortcut), (1.0, &branch)])
    }
}

/// Residual block, attention, residual block at the coarsest size.
pub struct Middle {
    block1: ResidualBlock,
    attention: Option<AttentionBlock>,
    block2: ResidualBlock,
}

impl Middle {
    pub fn new(vb: VarBuilder, channels: usize, config: &CoderConfig) -> Result<Self> {
        let attention = || AttentionBlock::new(vb.pp("attention"), channels, config.groups, AttentionStyle::VQGAN);
        Ok(Self {
            block1: ResidualBlock::new(vb.pp("block1"), channels, channels, config.groups)?,
            attention: config.middle_attention.then(attention).transpose()?,
            block2: ResidualBlock::new(vb.pp("block2"), channels, channels, config.groups)?,
        })
    }

    pub fn forward<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        let mut h = self.block1.forward(b, x)?;
        if let Some(attention) = &self.attention {
            h = attention.forward(b, &h)?;
        }
        self.block2.forward(b, &h)
    }
}

/// The blocks of one size, and the convolution that leads to the next.
pub struct Level {
    blocks: Vec<ResidualBlock>,
    attention: Vec<AttentionBlock>,
    pub resample: Option<Conv2d>,
}

impl Level {
    /// `channels` come in; `size` is the width of the feature map.
    pub fn new(
        vb: &VarBuilder,
        config: &CoderConfig,
        channels: usize,
        outputs: usize,
        blocks: usize,
        size: usize,
    ) -> Result<Self> {
        let inputs = |i| if i == 0 { channels } else { outputs };
        let block = |i: usize| ResidualBlock::new(vb.pp("block").pp(i), inputs(i), outputs, config.groups);
        let attention =
            |i: usize| AttentionBlock::new(vb.pp("attention").pp(i), outputs, config.groups, AttentionStyle::VQGAN);
        let attended = if config.attention.contains(&size) { blocks } else { 0 };
        Ok(Self {
            blocks: (0..blocks).map(block).collect::<Result<_>>()?,
            attention: (0..attended).map(attention).collect::<Result<_>>()?,
            resample: None,
        })
    }

    /// All but the resampling.
    pub fn forward<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        let mut h = x.clone();
        for (i, block) in self.blocks.iter().enumerate() {
            h = block.forward(b, &h)?;
            if let Some(attention) = self.attention.get(i) {
                h = attention.forward(b, &h)?;
            }
        }
        Ok(h)
    }
}
