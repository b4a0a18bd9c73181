//! The time-conditional discriminator D(x_t, t, x_{t+1}) (reference: `Discriminator_small` and
//! `Discriminator_large` in `score_sde/models/discriminator.py`).

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;

use super::gaussian::need;
use super::{Gaussian, SKIP_RESCALE, StepInputs};
use crate::backend::{Activation, Backend, FirMode};
use crate::config::{DiscriminatorConfig, DiscriminatorKind};
use crate::diffusion::{Schedule, timestep_embedding};
use crate::error::{Error, Result};
use crate::layers::{Conv2d, ConvGeometry, Linear, NEARLY_ZERO, WeightInit};

fn conv(vb: VarBuilder, inputs: usize, outputs: usize, kernel: usize, scale: f64) -> Result<Conv2d> {
    Conv2d::new(vb, inputs, outputs, ConvGeometry::same(kernel), WeightInit::out(scale))
}

/// Two convolutions, conditioned on time, with an optional halving of the size.
struct Block {
    conv1: Conv2d,
    time: Linear,
    conv2: Conv2d,
    shortcut: Conv2d,
    downsample: bool,
}

impl Block {
    fn new(vb: VarBuilder, inputs: usize, outputs: usize, time_embedding: usize, downsample: bool) -> Result<Self> {
        let pointwise = ConvGeometry::same(1);
        Ok(Self {
            conv1: conv(vb.pp("conv1"), inputs, outputs, 3, 1.0)?,
            time: Linear::new(vb.pp("time"), time_embedding, outputs, WeightInit::out(1.0))?,
            conv2: conv(vb.pp("conv2"), outputs, outputs, 3, NEARLY_ZERO)?,
            shortcut: Conv2d::without_bias(vb.pp("shortcut"), inputs, outputs, pointwise, WeightInit::out(1.0))?,
            downsample,
        })
    }

    fn forward<B: Backend>(&self, b: &mut B, x: &B::Value, time: &B::Value) -> Result<B::Value> {
        let h = b.activate(x, Activation::LeakyRelu)?;
        let h = b.conv2d(&h, &self.conv1)?;
        let time = b.linear(time, &self.time, Activation::Identity)?;
        let h = b.add_per_channel(&h, &time)?;
        let mut h = b.activate(&h, Activation::LeakyRelu)?;
        let mut shortcut = x.clone();
        if self.downsample {
            h = b.fir(&h, FirMode::Downsample)?;
            shortcut = b.fir(&shortcut, FirMode::Downsample)?;
        }
        let h = b.conv2d(&h, &self.conv2)?;
        let shortcut = b.conv2d(&shortcut, &self.shortcut)?;
        b.weighted_sum(&[(SKIP_RESCALE, &h), (SKIP_RESCALE, &shortcut)])
    }
}

/// The discriminator of the diffusion GAN.
pub struct Discriminator {
    config: DiscriminatorConfig,
    gaussian: Option<Gaussian>,
    time: [Linear; 2],
    start_conv: Conv2d,
    blocks: Vec<Block>,
    final_conv: Conv2d,
    end_linear: Linear,
}

impl Discriminator {
    /// Takes its parameters from `vb`; an error if the configuration describes no discriminator.
    pub fn new(vb: VarBuilder, config: &DiscriminatorConfig) -> Result<Self> {
        config.validate()?;
        let (least, final_scale) = match config.kind {
            DiscriminatorKind::Small => (3, NEARLY_ZERO),
            DiscriminatorKind::Large => (4, 1.0),
        };
        let widths = config.kind.widths();
        let most = widths.len();
        if !(least..=most).contains(&config.layers) {
            let reason = format!("{} is not between {least} and {most}", config.layers);
            return Err(Error::config("discriminator.layers", reason));
        }
        let time_width = config.time_embedding;
        let embedding = |name| Linear::new(vb.pp("time").pp(name), time_width, time_width, WeightInit::out(1.0));
        let mut channels = 2 * config.channels;
        let modes = config.gaussian_modes;
        let gaussian = || Gaussian::new(vb.pp("gaussian"), modes, config.latent_channels, config.latent_size);
        let gaussian = (modes > 0).then(gaussian).transpose()?;
        let latents = if gaussian.is_some() { 4 } else { 2 };
        let start_conv = conv(vb.pp("start_conv"), latents * config.latent_channels, channels, 1, 1.0)?;
        let mut blocks = Vec::new();
        for (i, width) in widths[..config.layers].iter().enumerate() {
            let outputs = width * config.channels;
            let downsample = i > 0 || config.kind == DiscriminatorKind::Large;
            blocks.push(Block::new(vb.pp("block").pp(i), channels, outputs, time_width, downsample)?);
            channels = outputs;
        }
        Ok(Self {
            gaussian,
            time: [embedding("0")?, embedding("1")?],
            start_conv,
            blocks,
            final_conv: conv(vb.pp("final_conv"), channels + 1, channels, 3, final_scale)?,
            end_linear: Linear::new(vb.pp("end_linear"), channels, 1, WeightInit::out(1.0))?,
            config: config.clone(),
        })
    }

    /// What [`Self::forward`] takes for samples of the steps `t` of `schedule`.
    pub fn step_inputs(&self, schedule: &Schedule, t: &[u32], device: &Device) -> Result<StepInputs<Tensor>> {
        let mut inputs = StepInputs::new();
        if let Some(gaussian) = &self.gaussian {
            for (name, offset) in [("x_t/", 0), ("x_tp1/", 1)] {
                let alpha_bars: Vec<f32> = t.iter().map(|&t| schedule.alpha_bar(t as usize + offset)).collect();
                inputs.extend(gaussian.step_inputs(name, &alpha_bars, device)?);
            }
        }
        inputs.insert("time".to_string(), timestep_embedding(t, self.config.time_embedding, device)?);
        Ok(inputs)
    }

    /// The two latents, and with Gaussian modes what these make of each.
    fn seen<B: Backend>(
        &self,
        b: &mut B,
        x_t: &B::Value,
        step: &StepInputs<B::Value>,
        x_tp1: &B::Value,
    ) -> Result<B::Value> {
        let pair = b.concat(x_t, x_tp1)?;
        let Some(gaussian) = &self.gaussian else { return Ok(pair) };
        let denoised_t = gaussian.denoise(b, x_t, "x_t/", step)?;
        let denoised_tp1 = gaussian.denoise(b, x_tp1, "x_tp1/", step)?;
        let denoised = b.concat(&denoised_t, &denoised_tp1)?;
        b.concat(&pair, &denoised)
    }

    /// Logits (N, 1): positive where (`x_t`, `x_tp1`), each (N, latent_channels, H, W), looks real. `step` comes from
    /// [`Self::step_inputs`]. N must be a multiple of min(N, 4).
    pub fn forward<B: Backend>(
        &self,
        b: &mut B,
        x_t: &B::Value,
        step: &StepInputs<B::Value>,
        x_tp1: &B::Value,
    ) -> Result<B::Value> {
        let time = b.linear(need(step, "time")?, &self.time[0], Activation::LeakyRelu)?;
        let time = b.linear(&time, &self.time[1], Activation::LeakyRelu)?;
        let seen = self.seen(b, x_t, step, x_tp1)?;
        let mut h = b.conv2d(&seen, &self.start_conv)?;
        for block in &self.blocks {
            h = block.forward(b, &h, &time)?;
        }
        let h = b.minibatch_stddev(&h)?;
        let h = b.conv2d(&h, &self.final_conv)?;
        let h = b.activate(&h, Activation::LeakyRelu)?;
        let h = b.sum_pixels(&h)?;
        b.linear(&h, &self.end_linear, Activation::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Shapes;

    #[test]
    fn impossible_widths_are_errors() {
        let valid = DiscriminatorConfig {
            kind: DiscriminatorKind::Small,
            latent_channels: 2,
            channels: 2,
            layers: 3,
            time_embedding: 4,
            gaussian_modes: 0,
            latent_size: 0,
        };
        let build = |config: DiscriminatorConfig| Discriminator::new(Shapes::new().var_builder(), &config);
        assert!(build(valid.clone()).is_ok());
        for width in [0, usize::MAX] {
            let error = |config| build(config).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error(DiscriminatorConfig { latent_channels: width, ..valid.clone() }).contains("latent_channels"));
            assert!(error(DiscriminatorConfig { channels: width, ..valid.clone() }).contains("channels"));
            assert!(error(DiscriminatorConfig { time_embedding: width, ..valid.clone() }).contains("time_embedding"));
        }
    }
}
