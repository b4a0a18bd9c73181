//! The self-attention block of generator and autoencoder.

use candle_nn::VarBuilder;

use super::SKIP_RESCALE;
use crate::backend::{Activation, Backend};
use crate::error::Result;
use crate::layers::{Conv2d, ConvGeometry, GroupNorm, NEARLY_ZERO, WeightInit};

/// In what the attention blocks of two networks differ.
#[derive(Debug, Clone, Copy)]
pub struct AttentionStyle {
    /// Initial variance scale of query, key and value.
    projection_scale: f64,
    /// Initial variance scale of the last projection.
    out_scale: f64,
    /// What the sum of input and attended values is multiplied by.
    rescale: f32,
}

impl AttentionStyle {
    /// The generator's (reference: `AttnBlockpp` with `NIN`).
    pub const NCSNPP: Self = Self { projection_scale: 0.1, out_scale: NEARLY_ZERO, rescale: SKIP_RESCALE };
    /// The autoencoder's (reference: `AttnBlock`).
    pub const VQGAN: Self = Self { projection_scale: 1.0, out_scale: 1.0, rescale: 1.0 };
}

/// Self-attention over all positions of a feature map, one head, added to its input.
pub struct AttentionBlock {
    norm: GroupNorm,
    query: Conv2d,
    key: Conv2d,
    value: Conv2d,
    out: Conv2d,
    rescale: f32,
}

impl AttentionBlock {
    /// For images of so many channels.
    pub fn new(vb: VarBuilder, channels: usize, groups: usize, style: AttentionStyle) -> Result<Self> {
        let projection = |name: &str, scale: f64| {
            Conv2d::new(vb.pp(name), channels, channels, ConvGeometry::same(1), WeightInit::average(scale))
        };
        Ok(Self {
            norm: GroupNorm::new(vb.pp("norm"), channels, groups)?,
            query: projection("query", style.projection_scale)?,
            key: projection("key", style.projection_scale)?,
            value: projection("value", style.projection_scale)?,
            out: projection("out", style.out_scale)?,
            rescale: style.rescale,
        })
    }

    /// (N, channels, H, W), the same shape comes out.
    pub fn forward<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        let normed = b.group_norm(x, &self.norm, Activation::Identity)?;
        let query = b.conv2d(&normed, &self.query)?;
        let key = b.conv2d(&normed, &self.key)?;
        let value = b.conv2d(&normed, &self.value)?;
        let attended = b.attention(&query, &key, &value)?;
        let attended = b.conv2d(&attended, &self.out)?;
        b.weighted_sum(&[(self.rescale, x), (self.rescale, &attended)])
    }
}
