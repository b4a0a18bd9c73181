//! Layers with weights: what the networks are built from and what a [`crate::Backend`] executes.
//!
//! Names under a `VarBuilder` are the names of the tensors in a model file.

use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};

pub use lddgan_kernels::ConvGeometry;

use crate::error::{Error, Result};

/// Added to the variance by every group norm.
pub const GROUP_NORM_EPS: f64 = 1e-6;

/// Stands for the start of tensors that are given and never trained; nothing here starts as Candle names it.
pub(crate) const GIVEN: Init = Init::Kaiming {
    dist: candle_nn::init::NormalOrUniform::Normal,
    fan: candle_nn::init::FanInOut::FanIn,
    non_linearity: candle_nn::init::NonLinearity::Linear,
};

/// Variance scale of layers that start close to zero (the reference's "scale 0").
pub const NEARLY_ZERO: f64 = 1e-10;

/// Which of a layer's two sizes the variance of the initial weights is divided by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fan {
    /// Mean of fan-in and fan-out.
    Average,
    /// Fan-out alone.
    Out,
}

/// How a layer's weights start: uniform with variance `scale / fan`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightInit {
    /// Factor of the variance.
    pub scale: f64,
    /// What the variance is divided by.
    pub fan: Fan,
}

impl WeightInit {
    /// Uniform with variance `scale / fan_avg`: convolutions of generator and autoencoder, time embedding.
    pub fn average(scale: f64) -> Self {
        Self { scale, fan: Fan::Average }
    }

    /// Uniform with variance `scale / fan_out`: discriminators, z mapping, style layers.
    pub fn out(scale: f64) -> Self {
        Self { scale, fan: Fan::Out }
    }

    fn init(self, inputs: usize, outputs: usize, receptive_field: usize) -> Init {
        let fan_in = (inputs * receptive_field) as f64;
        let fan_out = (outputs * receptive_field) as f64;
        let fan = match self.fan {
            Fan::Average => (fan_in + fan_out) / 2.0,
            Fan::Out => fan_out,
        };
        let bound = (3.0 * self.scale / fan).sqrt();
        Init::Uniform { lo: -bound, up: bound }
    }
}

/// 2-D convolution. `weight` is (out, in, kernel, kernel), `bias` (out).
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// (out, in, kernel, kernel)
    pub weight: Tensor,
    /// (out)
    pub bias: Option<Tensor>,
    /// Kernel, stride and padding.
    pub geometry: ConvGeometry,
}

impl Conv2d {
    /// A convolution with bias.
    pub fn new(
        vb: VarBuilder,
        inputs: usize,
        outputs: usize,
        geometry: ConvGeometry,
        init: WeightInit,
    ) -> Result<Self> {
        let bias = vb.get_with_hints(outputs, "bias", Init::Const(0.0))?;
        Ok(Self { bias: Some(bias), ..Self::without_bias(vb, inputs, outputs, geometry, init)? })
    }

    /// A convolution without bias.
    pub fn without_bias(
        vb: VarBuilder,
        inputs: usize,
        outputs: usize,
        geometry: ConvGeometry,
        init: WeightInit,
    ) -> Result<Self> {
        let kernel = geometry.kernel;
        let init = init.init(inputs, outputs, kernel * kernel);
        let weight = vb.get_with_hints((outputs, inputs, kernel, kernel), "weight", init)?;
        Ok(Self { weight, bias: None, geometry })
    }

    /// The outputs `first..first + count` alone.
    pub fn outputs(&self, first: usize, count: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, first, count)).transpose()?;
        Ok(Self { weight: self.weight.narrow(0, first, count)?, bias, geometry: self.geometry })
    }
}

/// Fully connected layer. `weight` is (out, in), `bias` (out).
#[derive(Debug, Clone)]
pub struct Linear {
    /// (out, in)
    pub weight: Tensor,
    /// (out)
    pub bias: Tensor,
}

impl Linear {
    /// Takes `weight` and `bias` from `vb`, or draws the weight from `init`, the bias being zero.
    pub fn new(vb: VarBuilder, inputs: usize, outputs: usize, init: WeightInit) -> Result<Self> {
        let weight = vb.get_with_hints((outputs, inputs), "weight", init.init(inputs, outputs, 1))?;
        let bias = vb.get_with_hints(outputs, "bias", Init::Const(0.0))?;
        Ok(Self { weight, bias })
    }
}

/// Group norm with affine parameters per channel, biased variance, [`GROUP_NORM_EPS`].
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// (C), a factor for each channel.
    pub weight: Tensor,
    /// (C), added to each channel.
    pub bias: Tensor,
    /// Groups of channels that are normalised together.
    pub groups: usize,
}

impl GroupNorm {
    /// Takes `weight` and `bias` from `vb`, or ones and zeros.
    pub fn new(vb: VarBuilder, channels: usize, groups: usize) -> Result<Self> {
        check_groups(channels, groups)?;
        let weight = vb.get_with_hints(channels, "weight", Init::Const(1.0))?;
        let bias = vb.get_with_hints(channels, "bias", Init::Const(0.0))?;
        Ok(Self { weight, bias, groups })
    }
}

pub(crate) fn check_groups(channels: usize, groups: usize) -> Result<()> {
    if groups == 0 || !channels.is_multiple_of(groups) {
        let reason = format!("{channels} channels cannot be normalised in {groups} groups");
        return Err(Error::config("channels", reason));
    }
    Ok(())
}
