//! Images to latents.

use candle_nn::VarBuilder;

use super::blocks::{Level, Middle, conv, last_conv};
use super::map::Map;
use crate::backend::{Activation, Backend};
use crate::config::{AutoencoderConfig, AutoencoderKind};
use crate::error::Result;
use crate::layers::{Conv2d, ConvGeometry, GroupNorm, WeightInit};

/// Images in \[-1, 1\] to latents.
pub struct Encoder(Map<Network>);

/// The encoder of the kinds with weights.
struct Network {
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
pub struct LatentDistribution<V> {
    /// (N, C, h, w)
    pub mean: V,
    /// Not clamped yet, see [`LOG_VARIANCE_RANGE`].
    pub log_variance: V,
}

/// What the log variance of a [`LatentDistribution`] is clamped to.
pub const LOG_VARIANCE_RANGE: (f32, f32) = (-30.0, 20.0);

impl Encoder {
    /// Takes its parameters from `vb`; an error if the configuration describes no encoder.
    pub fn new(vb: VarBuilder, config: &AutoencoderConfig) -> Result<Self> {
        Ok(Self(Map::new(vb, config, Network::new)?))
    }

    /// Latents (N, latent_channels, H / f, W / f), neither quantised nor scaled; the mean for the KL kind.
    pub fn forward<B: Backend>(&self, b: &mut B, image: &B::Value) -> Result<B::Value> {
        match &self.0 {
            Map::Identity => Ok(image.clone()),
            Map::Haar(transform) => transform.analyse(b, image),
            Map::Learned(network) => {
                let h = network.features(b, image)?;
                network.latent(b, image, &h)
            }
        }
    }

    /// The distribution of latents that a KL encoder gives; `None` for the other kinds.
    pub fn latent_distribution<B: Backend>(
        &self,
        b: &mut B,
        image: &B::Value,
    ) -> Result<Option<LatentDistribution<B::Value>>> {
        let Map::Learned(network) = &self.0 else { return Ok(None) };
        let Some(log_variance) = &network.log_variance else { return Ok(None) };
        let h = network.features(b, image)?;
        let mean = network.latent(b, image, &h)?;
        Ok(Some(LatentDistribution { mean, log_variance: b.conv2d(&h, log_variance)? }))
    }
}

impl Network {
    fn new(vb: VarBuilder, autoencoder: &AutoencoderConfig) -> Result<Self> {
        let (config, _) = autoencoder.coders()?;
        let latent_channels = autoencoder.latent_channels;
        // Pads one row below and one column right only, as the reference does.
        let halve = ConvGeometry { kernel: 3, stride: 2, pad_before: 0, pad_after: 1 };
        let size = autoencoder.image_size / autoencoder.patch;
        let mut channels = config.channels;
        let mut levels = Vec::new();
        for (i, multiplier) in config.multipliers.iter().enumerate() {
            let vb = vb.pp("down").pp(i);
            let outputs = config.channels * multiplier;
            let mut level = Level::new(&vb, config, channels, outputs, config.blocks, size >> i)?;
            channels = outputs;
            if i + 1 < config.multipliers.len() {
                let init = WeightInit::average(1.0);
                level.resample = Some(Conv2d::new(vb.pp("downsample"), channels, channels, halve, init)?);
            }
            levels.push(level);
        }
        let of_patches = |name: &str, outputs: usize, side: usize| {
            let init = WeightInit::average(1.0);
            Conv2d::new(vb.pp(name), autoencoder.image_channels, outputs, ConvGeometry::patch(side), init)
        };
        let linear = || of_patches("linear", latent_channels, autoencoder.factor());
        let has_variance = autoencoder.kind == AutoencoderKind::Kl;
        let moments = if has_variance { 2 * latent_channels } else { latent_channels };
        let quant_conv = conv(vb.pp("quant_conv"), moments, moments, 1)?;
        let log_variance = has_variance.then(|| quant_conv.outputs(latent_channels, latent_channels)).transpose()?;
        Ok(Self {
            conv_in: match autoencoder.patch {
                1 => conv(vb.pp("conv_in"), autoencoder.image_channels, config.channels, 3)?,
                side => of_patches("conv_in", config.channels, side)?,
            },
            levels,
            middle: Middle::new(vb.pp("middle"), channels, config)?,
            norm_out: GroupNorm::new(vb.pp("norm_out"), channels, config.groups)?,
            conv_out: last_conv(vb.pp("conv_out"), channels, moments, autoencoder.linear_path)?,
            quant_conv: quant_conv.outputs(0, latent_channels)?,
            log_variance,
            linear: autoencoder.linear_path.then(linear).transpose()?,
        })
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
