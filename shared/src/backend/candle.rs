//! Computes with Candle: training with autograd, the CPU reference, and the fallback in a browser without WebGPU.

use candle_core::{DType, Tensor};

use super::{Activation, Backend, FirMode, MINIBATCH_GROUP, SQUARES_EPSILON};
use crate::error::{Error, Result};
use crate::layers::{Conv2d, GroupNorm, Linear};
use crate::ops;

/// Computes every operation at once. Feature maps keep the type of the numbers that the network is given, bf16 for
/// instance; weights are converted to it, embeddings, sums and what depends on them stay in f32 (mixed precision).
#[derive(Debug, Clone, Copy, Default)]
pub struct CandleBackend;

impl Backend for CandleBackend {
    type Value = Tensor;

    fn shape(&self, x: &Tensor) -> Vec<usize> {
        x.dims().to_vec()
    }

    fn constant(&mut self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.clone())
    }

    fn conv2d(&mut self, x: &Tensor, conv: &Conv2d) -> Result<Tensor> {
        let y = ops::conv2d(x, &conv.weight.to_dtype(x.dtype())?, conv.geometry)?;
        match &conv.bias {
            Some(bias) => self.add_per_channel(&y, &bias.unsqueeze(0)?),
            None => Ok(y),
        }
    }

    fn linear(&mut self, x: &Tensor, linear: &Linear, activation: Activation) -> Result<Tensor> {
        let y = x.matmul(&linear.weight.t()?)?.broadcast_add(&linear.bias)?;
        self.activate(&y, activation)
    }

    fn group_norm(&mut self, x: &Tensor, norm: &GroupNorm, activation: Activation) -> Result<Tensor> {
        let scale = norm.weight.unsqueeze(0)?;
        let shift = norm.bias.unsqueeze(0)?;
        normalize(x, &scale, &shift, norm.groups, activation)
    }

    fn adaptive_group_norm(
        &mut self,
        x: &Tensor,
        style: &Tensor,
        groups: usize,
        activation: Activation,
    ) -> Result<Tensor> {
        let channels = x.dim(1)?;
        let scale = (style.narrow(1, 0, channels)? + 1.0)?;
        let shift = style.narrow(1, channels, channels)?.contiguous()?;
        normalize(x, &scale, &shift, groups, activation)
    }

    fn activate(&mut self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match activation {
            Activation::Identity => Ok(x.clone()),
            Activation::Silu => Ok(x.silu()?),
            Activation::Tanh => Ok(x.tanh()?),
            Activation::LeakyRelu => Ok(ops::leaky_relu(x)?),
        }
    }

    fn pixel_norm(&mut self, x: &Tensor) -> Result<Tensor> {
        let mean = (x.sqr()?.mean_keepdim(1)? + SQUARES_EPSILON)?;
        Ok(x.broadcast_div(&mean.sqrt()?)?)
    }

    fn fir(&mut self, x: &Tensor, mode: FirMode) -> Result<Tensor> {
        Ok(ops::fir(x, mode)?)
    }

    fn upsample_nearest(&mut self, x: &Tensor, factor: usize) -> Result<Tensor> {
        // Not Candle's own upsampling: its backward pass loses gradients that were gathered before.
        let (n, c, h, w) = x.dims4()?;
        let blocks = x.reshape((n, c, h, 1, w, 1))?.broadcast_as((n, c, h, factor, w, factor))?;
        Ok(blocks.reshape((n, c, h * factor, w * factor))?)
    }

    fn depth_to_space(&mut self, x: &Tensor, factor: usize) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let blocks = x.reshape((n, c / (factor * factor), factor, factor, h, w))?;
        let blocks = blocks.permute((0, 1, 4, 2, 5, 3))?.contiguous()?;
        Ok(blocks.reshape((n, c / (factor * factor), h * factor, w * factor))?)
    }

    fn pool(&mut self, x: &Tensor, weights: [f32; 4]) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        if h % 2 != 0 || w % 2 != 0 {
            return Err(Error::shape("pool", format!("cannot halve {h}x{w}")));
        }
        let blocks = x.reshape((n, c, h / 2, 2, w / 2, 2))?;
        let pixel = |(i, weight): (usize, f32)| {
            let pixel = blocks.narrow(3, i / 2, 1)?.narrow(5, i % 2, 1)?.affine(f64::from(weight), 0.0)?;
            pixel.reshape((n, c, h / 2, w / 2))
        };
        let pixels = weights.into_iter().enumerate().filter(|(_, weight)| *weight != 0.0).map(pixel);
        let sum = pixels.reduce(|sum, pixel| sum? + pixel?);
        Ok(sum.ok_or_else(|| Error::shape("pool", "has no weight but 0"))??)
    }

    fn inverse_haar(&mut self, [ll, lh, hl, hh]: [&Tensor; 4]) -> Result<Tensor> {
        let (n, c, h, w) = ll.dims4()?;
        // What the two pixels of a row share, and what tells them apart.
        let (upper, lower) = ((ll + hl)?, (ll - hl)?);
        let (upper_detail, lower_detail) = ((lh + hh)?, (lh - hh)?);
        let pixels =
            [(&upper + &upper_detail)?, (upper - upper_detail)?, (&lower + &lower_detail)?, (lower - lower_detail)?];
        let blocks = Tensor::stack(&pixels, 0)?.reshape((2, 2, n * c, h, w))?;
        let blocks = blocks.permute((2, 3, 0, 4, 1))?.contiguous()?;
        Ok(blocks.reshape((n, c, 2 * h, 2 * w))?)
    }

    fn concat(&mut self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(Tensor::cat(&[a, b], 1)?)
    }

    fn add_per_channel(&mut self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        Ok(ops::add_bias(x, &bias.to_dtype(x.dtype())?)?)
    }

    fn multiply(&mut self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok((a * b.to_dtype(a.dtype())?)?)
    }

    fn weighted_sum(&mut self, terms: &[(f32, &Tensor)]) -> Result<Tensor> {
        let scaled = |(factor, x): &(f32, &Tensor)| match *factor {
            1.0 => Ok((*x).clone()),
            factor => x.affine(f64::from(factor), 0.0),
        };
        let sum = terms.iter().map(scaled).reduce(|sum, term| sum? + term?);
        Ok(sum.ok_or_else(|| Error::shape("weighted_sum", "of no terms"))??)
    }

    fn attention(&mut self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = q.dims4()?;
        let positions = |x: &Tensor| wide(x)?.reshape((n, c, h * w));
        let logits = positions(q)?.transpose(1, 2)?.matmul(&positions(k)?)?;
        let weights = ops::softmax(&logits, (c as f64).powf(-0.5))?;
        let attended = positions(v)?.matmul(&weights.transpose(1, 2)?)?;
        Ok(attended.reshape((n, c, h, w))?.to_dtype(q.dtype())?)
    }

    fn quantize(&mut self, x: &Tensor, codebook: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let nearest = codebook.detach().index_select(&nearest_codes(&wide(x)?, codebook)?, 0)?.to_dtype(x.dtype())?;
        Ok(nearest.reshape((n, h, w, c))?.permute((0, 3, 1, 2))?.contiguous()?)
    }

    fn minibatch_stddev(&mut self, x: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let group = n.min(MINIBATCH_GROUP);
        if group == 0 || n % group != 0 {
            return Err(Error::shape("minibatch_stddev", format!("batch {n} must be less than 4 or a multiple of 4")));
        }
        let groups = wide(x)?.reshape((group, n / group, c * h * w))?;
        let variance = groups.broadcast_sub(&groups.mean_keepdim(0)?)?.sqr()?.mean(0)?;
        let stddev = (variance + SQUARES_EPSILON)?.sqrt()?.mean_keepdim(1)?;
        let channel = stddev.unsqueeze(0)?.broadcast_as((group, n / group, 1))?.reshape((n, 1, 1, 1))?;
        let channel = channel.to_dtype(x.dtype())?.broadcast_as((n, 1, h, w))?.contiguous()?;
        Ok(Tensor::cat(&[x, &channel], 1)?)
    }

    fn sum_pixels(&mut self, x: &Tensor) -> Result<Tensor> {
        Ok(wide(x)?.flatten_from(2)?.sum(2)?)
    }
}

/// In f32, unless it is wider than that already.
fn wide(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.dtype() == DType::F64 { Ok(x.clone()) } else { x.to_dtype(DType::F32) }
}

/// The index of the nearest row of `codebook` (codes, C) for each position of `x` (N, C, H, W), (N H W) in the order
/// batch, row, column.
pub fn nearest_codes(x: &Tensor, codebook: &Tensor) -> Result<Tensor> {
    let channels = x.dim(1)?;
    let rows = x.detach().permute((0, 2, 3, 1))?.contiguous()?.reshape(((), channels))?;
    let codes = codebook.detach();
    let squares = codes.sqr()?.sum(1)?.unsqueeze(0)?;
    let distances = rows.matmul(&codes.t()?)?.affine(-2.0, 0.0)?.broadcast_add(&squares)?;
    Ok(distances.argmin(1)?)
}

/// Group norm times `scale` plus `shift`, each (1 or N, C), then the activation.
fn normalize(x: &Tensor, scale: &Tensor, shift: &Tensor, groups: usize, activation: Activation) -> Result<Tensor> {
    let silu = activation == Activation::Silu;
    let (scale, shift) = (scale.to_dtype(x.dtype())?, shift.to_dtype(x.dtype())?);
    let y = ops::group_norm(x, &scale, &shift, groups, silu)?;
    if silu { Ok(y) } else { CandleBackend.activate(&y, activation) }
}
