//! What the Inception network is built of. Names are those of the state dictionary.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

const BATCH_NORM_EPS: f64 = 1e-3;

/// A convolution without bias, a batch norm (folded into it) and a ReLU.
pub struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    /// Zeros around the image so that a convolution of stride 1 keeps its size.
    padded: bool,
}

impl Conv {
    pub fn new(vb: VarBuilder, inputs: usize, outputs: usize, (h, w): (usize, usize)) -> Result<Self> {
        let bn = |name: &str| vb.pp("bn").get(outputs, name);
        let scale = (bn("weight")? / (bn("running_var")? + BATCH_NORM_EPS)?.sqrt()?)?;
        let bias = (bn("bias")? - (bn("running_mean")? * &scale)?)?.reshape((1, outputs, 1, 1))?;
        let weight = vb.pp("conv").get((outputs, inputs, h, w), "weight")?;
        let weight = weight.broadcast_mul(&scale.reshape((outputs, 1, 1, 1))?)?.contiguous()?;
        Ok(Self { weight, bias, stride: 1, padded: true })
    }

    /// Without padding, every `stride`th pixel.
    pub fn valid(self, stride: usize) -> Self {
        Self { stride, padded: false, ..self }
    }
}

impl Module for Conv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = self.weight.dims4()?;
        let x = if self.padded { pad(x, h / 2, w / 2)? } else { x.clone() };
        x.contiguous()?.conv2d(&self.weight, 0, self.stride, 1, 1)?.broadcast_add(&self.bias)?.relu()
    }
}

fn pad(x: &Tensor, rows: usize, columns: usize) -> Result<Tensor> {
    x.pad_with_zeros(2, rows, rows)?.pad_with_zeros(3, columns, columns)
}

/// A part of a branch, before there are weights.
#[derive(Clone, Copy)]
pub enum Part {
    Conv(&'static str, usize, (usize, usize)),
    /// 3 x 3, every second pixel, without padding.
    Halving(&'static str, usize),
    /// 1 x 3 and 3 x 1 side by side, of as many channels each.
    Split(&'static str, &'static str, usize),
}

enum Layer {
    Conv(Conv),
    Split(Conv, Conv),
}

impl Layer {
    /// The layer, and how many channels it gives.
    fn new(vb: &VarBuilder, inputs: usize, part: Part) -> Result<(Self, usize)> {
        Ok(match part {
            Part::Conv(name, outputs, kernel) => {
                (Self::Conv(Conv::new(vb.pp(name), inputs, outputs, kernel)?), outputs)
            }
            Part::Halving(name, outputs) => {
                (Self::Conv(Conv::new(vb.pp(name), inputs, outputs, (3, 3))?.valid(2)), outputs)
            }
            Part::Split(a, b, outputs) => {
                let row = Conv::new(vb.pp(a), inputs, outputs, (1, 3))?;
                (Self::Split(row, Conv::new(vb.pp(b), inputs, outputs, (3, 1))?), 2 * outputs)
            }
        })
    }
}

impl Module for Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Split(a, b) => Tensor::cat(&[a.forward(x)?, b.forward(x)?], 1),
        }
    }
}

/// What the last branch of a block starts with.
#[derive(Clone, Copy)]
pub enum Pool {
    /// 3 x 3; zeros outside the image are not counted.
    Average,
    /// 3 x 3, as large as the input.
    Max,
    /// 3 x 3, every second pixel, without padding.
    Halving,
}

impl Pool {
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Average => {
                let (_, _, h, w) = x.dims4()?;
                let mean = |x: &Tensor| pad(x, 1, 1)?.avg_pool2d_with_stride(3, 1);
                let inside = mean(&Tensor::ones((1, 1, h, w), x.dtype(), x.device())?)?;
                mean(x)?.broadcast_div(&inside)
            }
            // What comes out of a ReLU is nowhere below the padding.
            Self::Max => pad(x, 1, 1)?.max_pool2d_with_stride(3, 1),
            Self::Halving => x.max_pool2d_with_stride(3, 2),
        }
    }
}

/// Branches side by side; the last is a pool, with or without a 1 x 1 convolution.
pub struct Mixed {
    branches: Vec<Vec<Layer>>,
    pool: Pool,
    projection: Option<Conv>,
}

impl Mixed {
    /// `pooled` is the number of channels that the last branch is projected to, if it is.
    pub fn new(vb: VarBuilder, inputs: usize, branches: &[&[Part]], pool: Pool, pooled: Option<usize>) -> Result<Self> {
        let branch = |parts: &&[Part]| -> Result<Vec<Layer>> {
            let mut channels = inputs;
            let mut layers = Vec::new();
            for &part in *parts {
                let (layer, outputs) = Layer::new(&vb, channels, part)?;
                layers.push(layer);
                channels = outputs;
            }
            Ok(layers)
        };
        let projection = pooled.map(|outputs| Conv::new(vb.pp("branch_pool"), inputs, outputs, (1, 1))).transpose()?;
        Ok(Self { branches: branches.iter().map(branch).collect::<Result<_>>()?, pool, projection })
    }
}

impl Module for Mixed {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let branch = |layers: &Vec<Layer>| layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x));
        let mut outputs = self.branches.iter().map(branch).collect::<Result<Vec<_>>>()?;
        let pooled = self.pool.forward(x)?;
        outputs.push(match &self.projection {
            Some(conv) => conv.forward(&pooled)?,
            None => pooled,
        });
        Tensor::cat(&outputs, 1)
    }
}
