//! Latents to images.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};

use super::blocks::{Level, Middle, conv, last_conv};
use super::map::Map;
use crate::backend::{Activation, Backend};
use crate::config::{AutoencoderConfig, AutoencoderKind};
use crate::error::Result;
use crate::layers::{Conv2d, GroupNorm};

/// Latents to images; the VQ kind quantises first.
pub struct Decoder(Map<Network>);

/// The decoder of the kinds with weights.
struct Network {
    codebook: Option<Tensor>,
    post_quant_conv: Conv2d,
    conv_in: Conv2d,
    middle: Middle,
    /// Coarsest first.
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    linear: Option<Conv2d>,
    patch: usize,
    factor: usize,
    tanh: bool,
}

impl Decoder {
    /// Takes its parameters from `vb`; an error if the configuration describes no decoder.
    pub fn new(vb: VarBuilder, config: &AutoencoderConfig) -> Result<Self> {
        Ok(Self(Map::new(vb, config, Network::new)?))
    }

    /// The codebook of the VQ kind, (codes, latent_channels).
    pub fn codebook(&self) -> Option<&Tensor> {
        match &self.0 {
            Map::Learned(network) => network.codebook.as_ref(),
            Map::Identity | Map::Haar(_) => None,
        }
    }

    /// Replaces each position of an unscaled latent (N, latent_channels, h, w) by its nearest code; the other kinds leave
    /// it as it is.
    pub fn quantize<B: Backend>(&self, b: &mut B, latent: &B::Value) -> Result<B::Value> {
        match self.codebook() {
            Some(codebook) => b.quantize(latent, codebook),
            None => Ok(latent.clone()),
        }
    }

    /// Images (N, image_channels, f h, f w), nominally in \[-1, 1\], from latents that [`Self::quantize`] gave.
    pub fn forward<B: Backend>(&self, b: &mut B, quantized: &B::Value) -> Result<B::Value> {
        match &self.0 {
            Map::Identity => Ok(quantized.clone()),
            Map::Haar(transform) => transform.synthesise(b, quantized),
            Map::Learned(network) => network.forward(b, quantized),
        }
    }
}

impl Network {
    fn new(vb: VarBuilder, autoencoder: &AutoencoderConfig) -> Result<Self> {
        let (_, config) = autoencoder.coders()?;
        let latent_channels = autoencoder.latent_channels;
        let width = |multiplier: &usize| config.channels * multiplier;
        let coarsest = config.multipliers.last().map_or(config.channels, width);
        let size = autoencoder.image_size / autoencoder.patch;
        let mut channels = coarsest;
        let mut levels = Vec::new();
        for (i, multiplier) in config.multipliers.iter().enumerate().rev() {
            let vb = vb.pp("up").pp(i);
            let outputs = width(multiplier);
            let mut level = Level::new(&vb, config, channels, outputs, config.blocks + 1, size >> i)?;
            channels = outputs;
            if i > 0 {
                level.resample = Some(conv(vb.pp("upsample"), channels, channels, 3)?);
            }
            levels.push(level);
        }
        let factor = autoencoder.factor();
        let values = |side: usize| autoencoder.image_channels * side * side;
        let codebook = || {
            let bound = 1.0 / autoencoder.codes as f64;
            let init = Init::Uniform { lo: -bound, up: bound };
            vb.get_with_hints((autoencoder.codes, latent_channels), "codebook", init)
        };
        Ok(Self {
            codebook: (autoencoder.kind == AutoencoderKind::Vq).then(codebook).transpose()?,
            post_quant_conv: conv(vb.pp("post_quant_conv"), latent_channels, latent_channels, 1)?,
            conv_in: conv(vb.pp("conv_in"), latent_channels, coarsest, 3)?,
            middle: Middle::new(vb.pp("middle"), coarsest, config)?,
            levels,
            norm_out: GroupNorm::new(vb.pp("norm_out"), channels, config.groups)?,
            conv_out: last_conv(vb.pp("conv_out"), channels, values(autoencoder.patch), autoencoder.linear_path)?,
            linear: autoencoder
                .linear_path
                .then(|| conv(vb.pp("linear"), latent_channels, values(factor), 1))
                .transpose()?,
            patch: autoencoder.patch,
            factor,
            tanh: autoencoder.tanh,
        })
    }

    fn forward<B: Backend>(&self, b: &mut B, quantized: &B::Value) -> Result<B::Value> {
        let h = b.conv2d(quantized, &self.post_quant_conv)?;
        let h = b.conv2d(&h, &self.conv_in)?;
        let mut h = self.middle.forward(b, &h)?;
        for level in &self.levels {
            h = level.forward(b, &h)?;
            if let Some(conv) = &level.resample {
                h = b.upsample_nearest(&h, 2)?;
                h = b.conv2d(&h, conv)?;
            }
        }
        let h = b.group_norm(&h, &self.norm_out, Activation::Silu)?;
        let mut image = b.conv2d(&h, &self.conv_out)?;
        if self.patch > 1 {
            image = b.depth_to_space(&image, self.patch)?;
        }
        if let Some(conv) = &self.linear {
            let patches = b.conv2d(quantized, conv)?;
            let linear = b.depth_to_space(&patches, self.factor)?;
            image = b.weighted_sum(&[(1.0, &linear), (1.0, &image)])?;
        }
        if self.tanh { b.activate(&image, Activation::Tanh) } else { Ok(image) }
    }
}
