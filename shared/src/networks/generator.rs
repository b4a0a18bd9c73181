//! The generator: an NCSN++ U-Net that predicts x_0 from (x_{t+1}, t, z) (reference: `NCSNpp` in
//! `score_sde/models/ncsnpp_generator_adagn.py`).

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;

use super::attention::{AttentionBlock, AttentionStyle};
use super::gaussian::need;
use super::{Gaussian, SKIP_RESCALE, StepInputs};
use crate::backend::{Activation, Backend, FirMode};
use crate::config::GeneratorConfig;
use crate::diffusion::{Schedule, timestep_embedding};
use crate::error::Result;
use crate::layers::{Conv2d, ConvGeometry, GroupNorm, Linear, NEARLY_ZERO, WeightInit, check_groups};

/// Groups of a norm over `channels` channels.
fn groups(channels: usize) -> usize {
    (channels / 4).clamp(1, 32)
}

fn conv3x3(vb: VarBuilder, inputs: usize, outputs: usize, scale: f64) -> Result<Conv2d> {
    Conv2d::new(vb, inputs, outputs, ConvGeometry::same(3), WeightInit::average(scale))
}

fn conv1x1(vb: VarBuilder, inputs: usize, outputs: usize, scale: f64) -> Result<Conv2d> {
    Conv2d::new(vb, inputs, outputs, ConvGeometry::same(1), WeightInit::average(scale))
}

fn attention_block(vb: VarBuilder, channels: usize) -> Result<AttentionBlock> {
    AttentionBlock::new(vb, channels, groups(channels), AttentionStyle::NCSNPP)
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
    fn widths(config: &GeneratorConfig) -> Self {
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
        let shortcut = project.then(|| conv1x1(vb.pp("shortcut"), inputs, outputs, 1.0)).transpose()?;
        Ok(Self {
            norm1: AdaptiveGroupNorm::new(vb.pp("norm1"), inputs, widths.z)?,
            conv1: conv3x3(vb.pp("conv1"), inputs, outputs, 1.0)?,
            time: Linear::new(vb.pp("time"), widths.time, outputs, WeightInit::average(1.0))?,
            norm2: AdaptiveGroupNorm::new(vb.pp("norm2"), outputs, widths.z)?,
            conv2: conv3x3(vb.pp("conv2"), outputs, outputs, NEARLY_ZERO)?,
            shortcut,
            resample,
        })
    }

    /// (N, inputs, H, W) to (N, outputs, H', W'), of half or twice the size where the block resamples.
    pub fn forward<B: Backend>(&self, b: &mut B, x: &B::Value, condition: &Condition<B::Value>) -> Result<B::Value> {
        let mut branch = self.norm1.forward(b, x, &condition.z)?;
        let mut shortcut = x.clone();
        if let Some(mode) = self.resample {
            branch = b.fir(&branch, mode)?;
            shortcut = b.fir(&shortcut, mode)?;
        }
        let branch = b.conv2d(&branch, &self.conv1)?;
        let time = b.linear(&condition.time, &self.time, Activation::Identity)?;
        let branch = b.add_per_channel(&branch, &time)?;
        let branch = self.norm2.forward(b, &branch, &condition.z)?;
        let branch = b.conv2d(&branch, &self.conv2)?;
        if let Some(conv) = &self.shortcut {
            shortcut = b.conv2d(&shortcut, conv)?;
        }
        b.weighted_sum(&[(SKIP_RESCALE, &shortcut), (SKIP_RESCALE, &branch)])
    }
}

/// Downsampling at the end of a level: a residual block, and a FIR-filtered convolution of the input pyramid.
struct Downsample {
    block: ResidualBlock,
    pyramid: Conv2d,
}

struct DownLevel {
    blocks: Vec<ResidualBlock>,
    attention: Vec<AttentionBlock>,
    downsample: Option<Downsample>,
}

struct UpLevel {
    blocks: Vec<ResidualBlock>,
    attention: Option<AttentionBlock>,
    upsample: Option<ResidualBlock>,
}

/// The z mapping: pixel norm, then linear layers each followed by SiLU.
struct ZMapping(Vec<Linear>);

impl ZMapping {
    fn new(vb: VarBuilder, config: &GeneratorConfig) -> Result<Self> {
        let width = config.z_embedding;
        let layer = |i: usize| {
            let inputs = if i == 0 { config.z_dim } else { width };
            Linear::new(vb.pp(i), inputs, width, WeightInit::out(1.0))
        };
        Ok(Self((0..=config.z_layers).map(layer).collect::<Result<_>>()?))
    }

    fn forward<B: Backend>(&self, b: &mut B, z: &B::Value) -> Result<B::Value> {
        let mut z = b.pixel_norm(z)?;
        for layer in &self.0 {
            z = b.linear(&z, layer, Activation::Silu)?;
        }
        Ok(z)
    }
}

/// The NCSN++ generator.
pub struct Generator {
    config: GeneratorConfig,
    gaussian: Option<Gaussian>,
    z_mapping: ZMapping,
    time: [Linear; 2],
    conv_in: Conv2d,
    down: Vec<DownLevel>,
    middle: (ResidualBlock, AttentionBlock, ResidualBlock),
    /// Coarsest level first.
    up: Vec<UpLevel>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Generator {
    pub fn new(vb: VarBuilder, config: &GeneratorConfig) -> Result<Self> {
        config.validate()?;
        let width = config.channels;
        let embedding = |name, inputs| Linear::new(vb.pp("time").pp(name), inputs, 4 * width, WeightInit::average(1.0));
        let widths = Condition::widths(config);
        let (modes, channels) = (config.gaussian_modes, config.latent_channels);
        let gaussian = || Gaussian::new(vb.pp("gaussian"), modes, channels, config.latent_size);
        let gaussian = (modes > 0).then(gaussian).transpose()?;
        let inputs = if gaussian.is_some() { 2 * channels } else { channels };
        let (down, mut skips, coarsest) = down_levels(vb.pp("down"), config, inputs)?;
        let middle = vb.pp("middle");
        let middle = (
            ResidualBlock::new(middle.pp("block1"), &widths, coarsest, coarsest, None)?,
            attention_block(middle.pp("attention"), coarsest)?,
            ResidualBlock::new(middle.pp("block2"), &widths, coarsest, coarsest, None)?,
        );
        let (up, finest) = up_levels(vb.pp("up"), config, coarsest, &mut skips)?;
        Ok(Self {
            z_mapping: ZMapping::new(vb.pp("z_mapping"), config)?,
            time: [embedding("0", width)?, embedding("1", 4 * width)?],
            conv_in: conv3x3(vb.pp("conv_in"), inputs, width, 1.0)?,
            gaussian,
            down,
            middle,
            up,
            norm_out: GroupNorm::new(vb.pp("norm_out"), finest, groups(finest))?,
            conv_out: conv3x3(vb.pp("conv_out"), finest, config.latent_channels, NEARLY_ZERO)?,
            config: config.clone(),
        })
    }

    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// What [`Self::forward`] takes for samples of the steps `t`, which lead from x_{t+1} of `schedule`.
    pub fn step_inputs(&self, schedule: &Schedule, t: &[u32], device: &Device) -> Result<StepInputs<Tensor>> {
        let mut inputs = match &self.gaussian {
            Some(gaussian) => {
                let alpha_bars: Vec<f32> = t.iter().map(|&t| schedule.alpha_bar(t as usize + 1)).collect();
                gaussian.step_inputs("", &alpha_bars, device)?
            }
            None => StepInputs::new(),
        };
        inputs.insert("time".to_string(), timestep_embedding(t, self.config.channels, device)?);
        Ok(inputs)
    }

    /// Predicts x_0, in (-1, 1) if the configuration says tanh. With Gaussian modes, it is what the network adds to the
    /// start that they give.
    ///
    /// `x` is x_{t+1} (N, latent_channels, H, W), `step` comes from [`Self::step_inputs`], `z` is (N, z_dim).
    pub fn forward<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        step: &StepInputs<B::Value>,
        z: &B::Value,
    ) -> Result<B::Value> {
        let Some(gaussian) = &self.gaussian else { return self.network(b, x, step, z) };
        let start = gaussian.start(b, x, step, z)?;
        let input = b.concat(x, &start)?;
        let change = self.network(b, &input, step, z)?;
        b.weighted_sum(&[(1.0, &start), (1.0, &change)])
    }

    fn network<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        step: &StepInputs<B::Value>,
        z: &B::Value,
    ) -> Result<B::Value> {
        let z = self.z_mapping.forward(b, z)?;
        let time = b.linear(need(step, "time")?, &self.time[0], Activation::Silu)?;
        // Every block applies SiLU to the time embedding again before its own layer: once is enough.
        let time = b.linear(&time, &self.time[1], Activation::Silu)?;
        let condition = Condition { time, z };

        let (mut h, mut skips) = self.forward_down(b, x, &condition)?;
        h = self.middle.0.forward(b, &h, &condition)?;
        h = self.middle.1.forward(b, &h)?;
        h = self.middle.2.forward(b, &h, &condition)?;
        for level in &self.up {
            for block in &level.blocks {
                if let Some(skip) = skips.pop() {
                    h = b.concat(&h, &skip)?;
                }
                h = block.forward(b, &h, &condition)?;
            }
            if let Some(attention) = &level.attention {
                h = attention.forward(b, &h)?;
            }
            if let Some(upsample) = &level.upsample {
                h = upsample.forward(b, &h, &condition)?;
            }
        }
        let h = b.group_norm(&h, &self.norm_out, Activation::Silu)?;
        let h = b.conv2d(&h, &self.conv_out)?;
        if self.config.tanh { b.activate(&h, Activation::Tanh) } else { Ok(h) }
    }

    /// The down path: the coarsest feature map, and everything that the up path will concatenate.
    fn forward_down<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        condition: &Condition<B::Value>,
    ) -> Result<(B::Value, Vec<B::Value>)> {
        let mut h = b.conv2d(x, &self.conv_in)?;
        let mut pyramid = x.clone();
        let mut skips = vec![h.clone()];
        for level in &self.down {
            for (i, block) in level.blocks.iter().enumerate() {
                h = block.forward(b, &h, condition)?;
                if let Some(attention) = level.attention.get(i) {
                    h = attention.forward(b, &h)?;
                }
                skips.push(h.clone());
            }
            if let Some(downsample) = &level.downsample {
                h = downsample.block.forward(b, &h, condition)?;
                let smooth = b.fir(&pyramid, FirMode::Smooth)?;
                pyramid = b.conv2d(&smooth, &downsample.pyramid)?;
                h = b.weighted_sum(&[(SKIP_RESCALE, &pyramid), (SKIP_RESCALE, &h)])?;
                pyramid = h.clone();
                skips.push(h.clone());
            }
        }
        Ok((h, skips))
    }
}

/// The down path of a network with so many `inputs`, the channels of every skip in the order of their making, and the
/// channels of the coarsest level.
fn down_levels(vb: VarBuilder, config: &GeneratorConfig, inputs: usize) -> Result<(Vec<DownLevel>, Vec<usize>, usize)> {
    let widths = Condition::widths(config);
    let mut channels = config.channels;
    let mut pyramid_channels = inputs;
    let mut skips = vec![channels];
    let mut levels = Vec::new();
    for (level, multiplier) in config.multipliers.iter().enumerate() {
        let vb = vb.pp(level);
        let outputs = config.channels * multiplier;
        let attend = config.attention.contains(&(config.latent_size >> level));
        let mut blocks = Vec::new();
        let mut attention = Vec::new();
        for i in 0..config.blocks {
            blocks.push(ResidualBlock::new(vb.pp("block").pp(i), &widths, channels, outputs, None)?);
            if attend {
                attention.push(attention_block(vb.pp("attention").pp(i), outputs)?);
            }
            channels = outputs;
            skips.push(channels);
        }
        let mut downsample = None;
        if level + 1 < config.multipliers.len() {
            let stride2 = ConvGeometry { kernel: 3, stride: 2, pad_before: 0, pad_after: 0 };
            let init = WeightInit::average(1.0);
            downsample = Some(Downsample {
                block: ResidualBlock::new(vb.pp("downsample"), &widths, channels, channels, Some(FirMode::Downsample))?,
                pyramid: Conv2d::new(vb.pp("pyramid"), pyramid_channels, channels, stride2, init)?,
            });
            pyramid_channels = channels;
            skips.push(channels);
        }
        levels.push(DownLevel { blocks, attention, downsample });
    }
    Ok((levels, skips, channels))
}

/// The up path, coarsest level first, and the channels that it ends with. Level names count from the finest.
fn up_levels(
    vb: VarBuilder,
    config: &GeneratorConfig,
    mut channels: usize,
    skips: &mut Vec<usize>,
) -> Result<(Vec<UpLevel>, usize)> {
    let widths = Condition::widths(config);
    let mut levels = Vec::new();
    for (level, multiplier) in config.multipliers.iter().enumerate().rev() {
        let vb = vb.pp(level);
        let outputs = config.channels * multiplier;
        let mut blocks = Vec::new();
        for i in 0..=config.blocks {
            let inputs = channels + skips.pop().unwrap_or(0);
            blocks.push(ResidualBlock::new(vb.pp("block").pp(i), &widths, inputs, outputs, None)?);
            channels = outputs;
        }
        let attend = config.attention.contains(&(config.latent_size >> level));
        let attention = attend.then(|| attention_block(vb.pp("attention"), channels)).transpose()?;
        let upsample = (level > 0)
            .then(|| ResidualBlock::new(vb.pp("upsample"), &widths, channels, channels, Some(FirMode::Upsample)))
            .transpose()?;
        levels.push(UpLevel { blocks, attention, upsample });
    }
    Ok((levels, channels))
}
