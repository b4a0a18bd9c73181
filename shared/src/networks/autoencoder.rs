//! The autoencoder: VQGAN-style encoder and decoder (reference: `Encoder` and `Decoder` in
//! `ldm/modules/diffusionmodules/model.py`), with the quantisation layer inside the decoder (paper, section 3.2).

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};

use crate::backend::{Activation, Backend};
use crate::config::{AutoencoderConfig, AutoencoderKind, CoderConfig};
use crate::error::Result;
use crate::layers::{Conv2d, ConvGeometry, GroupNorm, NEARLY_ZERO, WeightInit};

fn conv(vb: VarBuilder, inputs: usize, outputs: usize, kernel: usize) -> Result<Conv2d> {
    Conv2d::new(vb, inputs, outputs, ConvGeometry::same(kernel), WeightInit::average(1.0))
}

/// The last convolution of a coder; beside a linear path it starts close to zero, so that training starts from the
/// linear path alone.
fn last_conv(vb: VarBuilder, inputs: usize, outputs: usize, linear_path: bool) -> Result<Conv2d> {
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

struct AttentionBlock {
    norm: GroupNorm,
    query: Conv2d,
    key: Conv2d,
    value: Conv2d,
    out: Conv2d,
}

impl AttentionBlock {
    fn new(vb: VarBuilder, channels: usize, groups: usize) -> Result<Self> {
        Ok(Self {
            norm: GroupNorm::new(vb.pp("norm"), channels, groups)?,
            query: conv(vb.pp("query"), channels, channels, 1)?,
            key: conv(vb.pp("key"), channels, channels, 1)?,
            value: conv(vb.pp("value"), channels, channels, 1)?,
            out: conv(vb.pp("out"), channels, channels, 1)?,
        })
    }

    fn forward<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        let normed = b.group_norm(x, &self.norm, Activation::Identity)?;
        let query = b.conv2d(&normed, &self.query)?;
        let key = b.conv2d(&normed, &self.key)?;
        let value = b.conv2d(&normed, &self.value)?;
        let attended = b.attention(&query, &key, &value)?;
        let attended = b.conv2d(&attended, &self.out)?;
        b.weighted_sum(&[(1.0, x), (1.0, &attended)])
    }
}

/// Residual block, attention, residual block at the coarsest size.
struct Middle {
    block1: ResidualBlock,
    attention: Option<AttentionBlock>,
    block2: ResidualBlock,
}

impl Middle {
    fn new(vb: VarBuilder, channels: usize, config: &CoderConfig) -> Result<Self> {
        let attention = || AttentionBlock::new(vb.pp("attention"), channels, config.groups);
        Ok(Self {
            block1: ResidualBlock::new(vb.pp("block1"), channels, channels, config.groups)?,
            attention: config.middle_attention.then(attention).transpose()?,
            block2: ResidualBlock::new(vb.pp("block2"), channels, channels, config.groups)?,
        })
    }

    fn forward<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        let mut h = self.block1.forward(b, x)?;
        if let Some(attention) = &self.attention {
            h = attention.forward(b, &h)?;
        }
        self.block2.forward(b, &h)
    }
}

/// The blocks of one size, and the convolution that leads to the next.
struct Level {
    blocks: Vec<ResidualBlock>,
    attention: Vec<AttentionBlock>,
    resample: Option<Conv2d>,
}

impl Level {
    /// `channels` come in; `size` is the width of the feature map.
    fn new(
        vb: &VarBuilder,
        config: &CoderConfig,
        channels: usize,
        outputs: usize,
        blocks: usize,
        size: usize,
    ) -> Result<Self> {
        let inputs = |i| if i == 0 { channels } else { outputs };
        let block = |i: usize| ResidualBlock::new(vb.pp("block").pp(i), inputs(i), outputs, config.groups);
        let attention = |i: usize| AttentionBlock::new(vb.pp("attention").pp(i), outputs, config.groups);
        let attended = if config.attention.contains(&size) { blocks } else { 0 };
        Ok(Self {
            blocks: (0..blocks).map(block).collect::<Result<_>>()?,
            attention: (0..attended).map(attention).collect::<Result<_>>()?,
            resample: None,
        })
    }

    /// All but the resampling.
    fn forward<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
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

/// Images in \[-1, 1\] to latents.
pub struct Encoder {
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant_conv: Conv2d,
    /// The second half of the KL kind's `quant_conv`; the first half, the mean, is the latent.
    log_variance: Option<Conv2d>,
    linear: Option<Conv2d>,
}

/// The normal distribution that a KL encoder gives for an image, each (N, latent_channels, H / f, W / f).
pub struct Posterior<V> {
    pub mean: V,
    /// Not clamped yet, see [`LOG_VARIANCE_RANGE`].
    pub log_variance: V,
}

/// What the log variance of a [`Posterior`] is clamped to.
pub const LOG_VARIANCE_RANGE: (f32, f32) = (-30.0, 20.0);

/// The outputs `first..first + count` of a convolution.
fn outputs(conv: &Conv2d, first: usize, count: usize) -> Result<Conv2d> {
    let bias = conv.bias.as_ref().map(|bias| bias.narrow(0, first, count)).transpose()?;
    Ok(Conv2d { weight: conv.weight.narrow(0, first, count)?, bias, geometry: conv.geometry })
}

impl Encoder {
    pub fn new(vb: VarBuilder, autoencoder: &AutoencoderConfig) -> Result<Self> {
        autoencoder.validate()?;
        let config = &autoencoder.encoder;
        let latent_channels = autoencoder.latent_channels;
        // Pads one row below and one column right only, as the reference does.
        let halve = ConvGeometry { kernel: 3, stride: 2, pad_before: 0, pad_after: 1 };
        let mut channels = config.channels;
        let mut levels = Vec::new();
        for (i, multiplier) in config.multipliers.iter().enumerate() {
            let vb = vb.pp("down").pp(i);
            let outputs = config.channels * multiplier;
            let mut level = Level::new(&vb, config, channels, outputs, config.blocks, autoencoder.image_size >> i)?;
            channels = outputs;
            if i + 1 < config.multipliers.len() {
                let init = WeightInit::average(1.0);
                level.resample = Some(Conv2d::new(vb.pp("downsample"), channels, channels, halve, init)?);
            }
            levels.push(level);
        }
        let patch = ConvGeometry::patch(autoencoder.factor());
        let linear = || {
            let init = WeightInit::average(1.0);
            Conv2d::new(vb.pp("linear"), autoencoder.image_channels, latent_channels, patch, init)
        };
        let moments = match autoencoder.kind {
            AutoencoderKind::Vq => latent_channels,
            AutoencoderKind::Kl => 2 * latent_channels,
        };
        let quant_conv = conv(vb.pp("quant_conv"), moments, moments, 1)?;
        let log_variance = (autoencoder.kind == AutoencoderKind::Kl)
            .then(|| outputs(&quant_conv, latent_channels, latent_channels))
            .transpose()?;
        Ok(Self {
            conv_in: conv(vb.pp("conv_in"), autoencoder.image_channels, config.channels, 3)?,
            levels,
            middle: Middle::new(vb.pp("middle"), channels, config)?,
            norm_out: GroupNorm::new(vb.pp("norm_out"), channels, config.groups)?,
            conv_out: last_conv(vb.pp("conv_out"), channels, moments, autoencoder.linear_path)?,
            quant_conv: outputs(&quant_conv, 0, latent_channels)?,
            log_variance,
            linear: autoencoder.linear_path.then(linear).transpose()?,
        })
    }

    /// Latents (N, latent_channels, H / f, W / f), neither quantised nor scaled; the mean for the KL kind.
    pub fn forward<B: Backend>(&self, b: &mut B, image: &B::Value) -> Result<B::Value> {
        let h = self.features(b, image)?;
        self.latent(b, image, &h)
    }

    /// The distribution of latents that a KL encoder gives; `None` for the VQ kind.
    pub fn posterior<B: Backend>(&self, b: &mut B, image: &B::Value) -> Result<Option<Posterior<B::Value>>> {
        let Some(log_variance) = &self.log_variance else { return Ok(None) };
        let h = self.features(b, image)?;
        let mean = self.latent(b, image, &h)?;
        Ok(Some(Posterior { mean, log_variance: b.conv2d(&h, log_variance)? }))
    }

    /// Everything up to the last 1x1 convolution.
    fn features<B: Backend>(&self, b: &mut B, image: &B::Value) -> Result<B::Value> {
        let mut h = b.conv2d(image, &self.conv_in)?;
        for level in &self.levels {
            h = level.forward(b, &h)?;
            if let Some(conv) = &level.resample {
                h = b.conv2d(&h, conv)?;
            }
        }
        let h = self.middle.forward(b, &h)?;
        let h = b.group_norm(&h, &self.norm_out, Activation::Silu)?;
        b.conv2d(&h, &self.conv_out)
    }

    fn latent<B: Backend>(&self, b: &mut B, image: &B::Value, h: &B::Value) -> Result<B::Value> {
        let latent = b.conv2d(h, &self.quant_conv)?;
        match &self.linear {
            Some(conv) => {
                let linear = b.conv2d(image, conv)?;
                b.weighted_sum(&[(1.0, &linear), (1.0, &latent)])
            }
            None => Ok(latent),
        }
    }
}

/// Latents to images; the VQ kind quantises first.
pub struct Decoder {
    codebook: Option<Tensor>,
    post_quant_conv: Conv2d,
    conv_in: Conv2d,
    middle: Middle,
    /// Coarsest first.
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    linear: Option<Conv2d>,
    factor: usize,
    tanh: bool,
}

impl Decoder {
    pub fn new(vb: VarBuilder, autoencoder: &AutoencoderConfig) -> Result<Self> {
        autoencoder.validate()?;
        let config = &autoencoder.decoder;
        let latent_channels = autoencoder.latent_channels;
        let width = |multiplier: &usize| config.channels * multiplier;
        let coarsest = config.multipliers.last().map_or(config.channels, width);
        let mut channels = coarsest;
        let mut levels = Vec::new();
        for (i, multiplier) in config.multipliers.iter().enumerate().rev() {
            let vb = vb.pp("up").pp(i);
            let outputs = width(multiplier);
            let mut level = Level::new(&vb, config, channels, outputs, config.blocks + 1, autoencoder.image_size >> i)?;
            channels = outputs;
            if i > 0 {
                level.resample = Some(conv(vb.pp("upsample"), channels, channels, 3)?);
            }
            levels.push(level);
        }
        let factor = autoencoder.factor();
        let pixels = autoencoder.image_channels * factor * factor;
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
            conv_out: last_conv(vb.pp("conv_out"), channels, autoencoder.image_channels, autoencoder.linear_path)?,
            linear: autoencoder.linear_path.then(|| conv(vb.pp("linear"), latent_channels, pixels, 1)).transpose()?,
            factor,
            tanh: autoencoder.tanh,
        })
    }

    /// The codebook of the VQ kind, (codes, latent_channels).
    pub fn codebook(&self) -> Option<&Tensor> {
        self.codebook.as_ref()
    }

    /// Replaces each position of an unscaled latent (N, latent_channels, h, w) by its nearest code; the KL kind leaves
    /// it as it is.
    pub fn quantize<B: Backend>(&self, b: &mut B, latent: &B::Value) -> Result<B::Value> {
        match &self.codebook {
            Some(codebook) => b.quantize(latent, codebook),
            None => Ok(latent.clone()),
        }
    }

    /// Images (N, image_channels, f h, f w), nominally in \[-1, 1\], from latents that [`Self::quantize`] gave.
    pub fn forward<B: Backend>(&self, b: &mut B, quantized: &B::Value) -> Result<B::Value> {
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
        if let Some(conv) = &self.linear {
            let patches = b.conv2d(quantized, conv)?;
            let linear = b.depth_to_space(&patches, self.factor)?;
            image = b.weighted_sum(&[(1.0, &linear), (1.0, &image)])?;
        }
        if self.tanh { b.activate(&image, Activation::Tanh) } else { Ok(image) }
    }
}
