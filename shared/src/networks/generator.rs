//! The generator: an NCSN++ U-Net that predicts x_0 from (x_{t+1}, t, z) (reference: `NCSNpp` in
//! `score_sde/models/ncsnpp_generator_adagn.py`).

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;

use super::attention::{AttentionBlock, AttentionStyle};
use super::gaussian::need;
use super::residual::{Condition, ResidualBlock, conv3x3, groups};
use super::wavelet::{FineBands, WaveletDown, WaveletPyramid, WaveletUp, blocks_to_channels, on_coarse_band};
use super::{Gaussian, SKIP_RESCALE, StepInputs};
use crate::backend::{Activation, Backend, FirMode};
use crate::config::GeneratorConfig;
use crate::diffusion::{Schedule, timestep_embedding};
use crate::error::Result;
use crate::layers::{Conv2d, ConvGeometry, GroupNorm, Linear, NEARLY_ZERO, WeightInit};

fn attention_block(vb: VarBuilder, channels: usize) -> Result<AttentionBlock> {
    AttentionBlock::new(vb, channels, groups(channels), AttentionStyle::NCSNPP)
}

/// The halving at the end of a level: a residual block, and a convolution of the input pyramid.
enum Downsample {
    Fir { block: ResidualBlock, pyramid: Conv2d },
    Wavelet { block: WaveletDown, pyramid: WaveletPyramid },
}

impl Downsample {
    /// From a level of so many channels; the pyramid has `inputs` there.
    fn new(vb: VarBuilder, config: &GeneratorConfig, inputs: usize, channels: usize) -> Result<Self> {
        let widths = Condition::widths(config);
        let (block, pyramid) = (vb.pp("downsample"), vb.pp("pyramid"));
        if config.wavelet {
            let block = WaveletDown::new(block, &widths, channels)?;
            return Ok(Self::Wavelet { block, pyramid: WaveletPyramid::new(pyramid, inputs, channels)? });
        }
        let stride2 = ConvGeometry { kernel: 3, stride: 2, pad_before: 0, pad_after: 0 };
        Ok(Self::Fir {
            block: ResidualBlock::new(block, &widths, channels, channels, Some(FirMode::Downsample))?,
            pyramid: Conv2d::new(pyramid, inputs, channels, stride2, WeightInit::average(1.0))?,
        })
    }
}

/// The residual block that doubles the size at the end of a level of the up path.
enum Upsample {
    Fir(ResidualBlock),
    Wavelet(WaveletUp),
}

impl Upsample {
    /// Of a level of so many channels, to one of `finer` channels.
    fn new(vb: VarBuilder, config: &GeneratorConfig, channels: usize, finer: usize) -> Result<Self> {
        let widths = Condition::widths(config);
        Ok(match config.wavelet {
            true => Self::Wavelet(WaveletUp::new(vb, &widths, channels, finer)?),
            false => Self::Fir(ResidualBlock::new(vb, &widths, channels, channels, Some(FirMode::Upsample))?),
        })
    }
}

struct DownLevel {
    blocks: Vec<ResidualBlock>,
    attention: Vec<AttentionBlock>,
    downsample: Option<Downsample>,
}

struct UpLevel {
    blocks: Vec<ResidualBlock>,
    attention: Option<AttentionBlock>,
    upsample: Option<Upsample>,
}

/// What the up path starts from.
struct Down<V> {
    /// The coarsest feature map.
    h: V,
    /// Everything that it will concatenate, in the order of its making.
    skips: Vec<V>,
    /// The fine bands that wavelet blocks put aside, likewise.
    bands: Vec<FineBands<V>>,
}

/// The pixels of a block one by one, as weights of [`Backend::pool`].
const PIXELS: [[f32; 4]; 4] = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]];

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
    /// Takes its parameters from `vb`; an error if the configuration describes no generator.
    pub fn new(vb: VarBuilder, config: &GeneratorConfig) -> Result<Self> {
        config.validate()?;
        let width = config.channels;
        let embedding = |name, inputs| Linear::new(vb.pp("time").pp(name), inputs, 4 * width, WeightInit::average(1.0));
        let widths = Condition::widths(config);
        let (modes, channels) = (config.gaussian_modes, config.latent_channels);
        let gaussian = || Gaussian::new(vb.pp("gaussian"), modes, channels, config.latent_size);
        let gaussian = (modes > 0).then(gaussian).transpose()?;
        let area = config.patch * config.patch;
        let inputs = area * if gaussian.is_some() { 2 * channels } else { channels };
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
            conv_out: conv3x3(vb.pp("conv_out"), finest, area * channels, NEARLY_ZERO)?,
            config: config.clone(),
        })
    }

    /// What it was built from.
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

        let mut down = self.forward_down(b, x, &condition)?;
        let mut h = self.forward_middle(b, &down.h, &condition)?;
        for level in &self.up {
            for block in &level.blocks {
                if let Some(skip) = down.skips.pop() {
                    h = b.concat(&h, &skip)?;
                }
                h = block.forward(b, &h, &condition)?;
            }
            if let Some(attention) = &level.attention {
                h = attention.forward(b, &h)?;
            }
            h = match (&level.upsample, down.bands.pop()) {
                (Some(Upsample::Fir(block)), _) => block.forward(b, &h, &condition)?,
                (Some(Upsample::Wavelet(block)), Some(bands)) => block.forward(b, &h, &bands, &condition)?,
                _ => h,
            };
        }
        let h = b.group_norm(&h, &self.norm_out, Activation::Silu)?;
        let mut h = b.conv2d(&h, &self.conv_out)?;
        if self.config.patch > 1 {
            h = b.depth_to_space(&h, self.config.patch)?;
        }
        if self.config.tanh { b.activate(&h, Activation::Tanh) } else { Ok(h) }
    }

    /// The blocks around the attention of the coarsest level. With wavelets they see its coarse band, the second one after
    /// it has seen the whole (reference: frequency bottleneck).
    fn forward_middle<B: Backend>(&self, b: &mut B, h: &B::Value, condition: &Condition<B::Value>) -> Result<B::Value> {
        let (first, attention, second) = &self.middle;
        let h = match self.config.wavelet {
            true => on_coarse_band(b, first, h, condition)?,
            false => first.forward(b, h, condition)?,
        };
        let h = attention.forward(b, &h)?;
        let h = second.forward(b, &h, condition)?;
        if self.config.wavelet { on_coarse_band(b, second, &h, condition) } else { Ok(h) }
    }

    fn forward_down<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        condition: &Condition<B::Value>,
    ) -> Result<Down<B::Value>> {
        let mut pyramid = if self.config.patch > 1 { blocks_to_channels(b, x, &PIXELS)? } else { x.clone() };
        let mut h = b.conv2d(&pyramid, &self.conv_in)?;
        let mut skips = vec![h.clone()];
        let mut bands = Vec::new();
        for level in &self.down {
            for (i, block) in level.blocks.iter().enumerate() {
                h = block.forward(b, &h, condition)?;
                if let Some(attention) = level.attention.get(i) {
                    h = attention.forward(b, &h)?;
                }
                skips.push(h.clone());
            }
            if let Some(downsample) = &level.downsample {
                match downsample {
                    Downsample::Fir { block, pyramid: conv } => {
                        h = block.forward(b, &h, condition)?;
                        let smooth = b.fir(&pyramid, FirMode::Smooth)?;
                        pyramid = b.conv2d(&smooth, conv)?;
                    }
                    Downsample::Wavelet { block, pyramid: conv } => {
                        let (halved, fine) = block.forward(b, &h, condition)?;
                        h = halved;
                        bands.push(fine);
                        pyramid = conv.forward(b, &pyramid)?;
                    }
                }
                h = b.weighted_sum(&[(SKIP_RESCALE, &pyramid), (SKIP_RESCALE, &h)])?;
                pyramid = h.clone();
                skips.push(h.clone());
            }
        }
        Ok(Down { h, skips, bands })
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
        let attend = config.attention.contains(&config.level_size(level));
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
            downsample = Some(Downsample::new(vb, config, pyramid_channels, channels)?);
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
        let attend = config.attention.contains(&config.level_size(level));
        let attention = attend.then(|| attention_block(vb.pp("attention"), channels)).transpose()?;
        let finer = level.checked_sub(1).map(|level| config.channels * config.multipliers[level]);
        let upsample = finer.map(|finer| Upsample::new(vb.pp("upsample"), config, channels, finer)).transpose()?;
        levels.push(UpLevel { blocks, attention, upsample });
    }
    Ok((levels, channels))
}
