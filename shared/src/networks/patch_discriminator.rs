//! The discriminator that the autoencoder trains against: it judges overlapping patches (PatchGAN, as in VQGAN, but
//! with group norm instead of batch norm, so that a sample's verdict does not depend on its batch).

use candle_nn::VarBuilder;

use crate::backend::{Activation, Backend};
use crate::error::Result;
use crate::layers::{Conv2d, ConvGeometry, GroupNorm, WeightInit};

const GROUPS: usize = 8;

/// A stack of 4x4 convolutions that ends in one logit per patch.
pub struct PatchDiscriminator {
    conv_in: Conv2d,
    layers: Vec<(Conv2d, GroupNorm)>,
    conv_out: Conv2d,
}

impl PatchDiscriminator {
    /// `channels` (a multiple of 8) double at each of the `layers` after the first convolution.
    pub fn new(vb: VarBuilder, image_channels: usize, channels: usize, layers: usize) -> Result<Self> {
        let init = WeightInit::average(1.0);
        let halve = ConvGeometry { kernel: 4, stride: 2, pad_before: 1, pad_after: 1 };
        let layer = |i: usize| -> Result<_> {
            let (inputs, outputs) = (channels << i, channels << (i + 1));
            let vb = vb.pp("layer").pp(i);
            let conv = Conv2d::without_bias(vb.pp("conv"), inputs, outputs, halve, init)?;
            Ok((conv, GroupNorm::new(vb.pp("norm"), outputs, GROUPS)?))
        };
        Ok(Self {
            conv_in: Conv2d::new(vb.pp("conv_in"), image_channels, channels, halve, init)?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            conv_out: Conv2d::new(vb.pp("conv_out"), channels << layers, 1, ConvGeometry::same(3), init)?,
        })
    }

    /// Logits (N, 1, h, w) of an image (N, C, H, W).
    pub fn forward<B: Backend>(&self, b: &mut B, image: &B::Value) -> Result<B::Value> {
        let h = b.conv2d(image, &self.conv_in)?;
        let mut h = b.activate(&h, Activation::LeakyRelu)?;
        for (conv, norm) in &self.layers {
            h = b.conv2d(&h, conv)?;
            h = b.group_norm(&h, norm, Activation::LeakyRelu)?;
        }
        b.conv2d(&h, &self.conv_out)
    }
}
