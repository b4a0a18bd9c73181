//! Writes a network down as a [`Graph`].

use candle_core::Tensor;

use super::{Graph, Node, NodeId, Op};
use crate::backend::{Activation, Backend, FirMode, MINIBATCH_GROUP};
use crate::error::{Error, Result};
use crate::layers::{Conv2d, GroupNorm, Linear};

/// A backend that computes nothing and writes everything down.
#[derive(Debug, Default)]
pub struct Recorder {
    graph: Graph,
}

impl Recorder {
    /// An empty recording.
    pub fn new() -> Self {
        Self::default()
    }

    /// A value that is given at every run.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> NodeId {
        self.push(Op::Input(name.to_string()), &[], shape.to_vec())
    }

    /// Names a value as a result.
    pub fn output(&mut self, name: &str, value: NodeId) {
        self.graph.outputs.push((name.to_string(), value));
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    fn push(&mut self, op: Op, inputs: &[NodeId], shape: Vec<usize>) -> NodeId {
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), shape });
        self.graph.nodes.len() - 1
    }

    fn image(&self, op: &'static str, x: NodeId) -> Result<[usize; 4]> {
        let shape = &self.graph.nodes[x].shape;
        <[usize; 4]>::try_from(shape.as_slice())
            .map_err(|_| Error::shape(op, format!("needs an image (N, C, H, W), got {shape:?}")))
    }

    fn vector(&self, op: &'static str, x: NodeId) -> Result<[usize; 2]> {
        let shape = &self.graph.nodes[x].shape;
        <[usize; 2]>::try_from(shape.as_slice())
            .map_err(|_| Error::shape(op, format!("needs vectors (N, C), got {shape:?}")))
    }
}

fn check(condition: bool, op: &'static str, reason: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::shape(op, reason())) }
}

fn check_bias(op: &'static str, bias: &Tensor, outputs: usize) -> Result<()> {
    check(bias.dims() == [outputs], op, || format!("a bias of {:?} for {outputs} outputs", bias.dims()))
}

impl Backend for Recorder {
    type Value = NodeId;

    fn shape(&self, x: &NodeId) -> Vec<usize> {
        self.graph.nodes[*x].shape.clone()
    }

    fn constant(&mut self, tensor: &Tensor) -> Result<NodeId> {
        Ok(self.push(Op::Constant(tensor.clone()), &[], tensor.dims().to_vec()))
    }

    fn conv2d(&mut self, x: &NodeId, conv: &Conv2d) -> Result<NodeId> {
        let [n, c, h, w] = self.image("conv2d", *x)?;
        let (outputs, inputs, height, width) = conv.weight.dims4()?;
        check(inputs == c, "conv2d", || format!("weight takes {inputs} channels, the image has {c}"))?;
        let kernel = conv.geometry.kernel;
        let fits = [height, width] == [kernel; 2];
        check(fits, "conv2d", || format!("the weight is {height}x{width}, the geometry says {kernel}x{kernel}"))?;
        if let Some(bias) = &conv.bias {
            check_bias("conv2d", bias, outputs)?;
        }
        let size = |size| {
            let reason = || Error::shape("conv2d", format!("{:?} does not fit into {h}x{w}", conv.geometry));
            conv.geometry.output(size).ok_or_else(reason)
        };
        let shape = vec![n, outputs, size(h)?, size(w)?];
        Ok(self.push(Op::Conv2d(conv.clone()), &[*x], shape))
    }

    fn linear(&mut self, x: &NodeId, linear: &Linear, activation: Activation) -> Result<NodeId> {
        let [n, c] = self.vector("linear", *x)?;
        let (outputs, inputs) = linear.weight.dims2()?;
        check(inputs == c, "linear", || format!("weight takes {inputs} features, got {c}"))?;
        check_bias("linear", &linear.bias, outputs)?;
        Ok(self.push(Op::Linear(linear.clone(), activation), &[*x], vec![n, outputs]))
    }

    fn group_norm(&mut self, x: &NodeId, norm: &GroupNorm, activation: Activation) -> Result<NodeId> {
        let shape = self.image("group_norm", *x)?;
        let channels = norm.weight.dims1()?;
        let fits = channels == shape[1] && norm.groups > 0 && channels.is_multiple_of(norm.groups);
        check(fits, "group_norm", || format!("norm of {channels} channels, {} groups on {shape:?}", norm.groups))?;
        check_bias("group_norm", &norm.bias, channels)?;
        Ok(self.push(Op::GroupNorm(norm.clone(), activation), &[*x], shape.to_vec()))
    }

    fn adaptive_group_norm(
        &mut self,
        x: &NodeId,
        style: &NodeId,
        groups: usize,
        activation: Activation,
    ) -> Result<NodeId> {
        let shape = self.image("adaptive_group_norm", *x)?;
        let style_shape = self.vector("adaptive_group_norm", *style)?;
        let fits = style_shape == [shape[0], 2 * shape[1]] && groups > 0 && shape[1].is_multiple_of(groups);
        check(fits, "adaptive_group_norm", || format!("style {style_shape:?}, {groups} groups on {shape:?}"))?;
        Ok(self.push(Op::AdaptiveGroupNorm { groups, activation }, &[*x, *style], shape.to_vec()))
    }

    fn activate(&mut self, x: &NodeId, activation: Activation) -> Result<NodeId> {
        let shape = self.shape(x);
        Ok(self.push(Op::Activate(activation), &[*x], shape))
    }

    fn pixel_norm(&mut self, x: &NodeId) -> Result<NodeId> {
        let shape = self.vector("pixel_norm", *x)?;
        Ok(self.push(Op::PixelNorm, &[*x], shape.to_vec()))
    }

    fn fir(&mut self, x: &NodeId, mode: FirMode) -> Result<NodeId> {
        let [n, c, h, w] = self.image("fir", *x)?;
        let even = h.is_multiple_of(2) && w.is_multiple_of(2);
        check(mode != FirMode::Downsample || even, "fir", || format!("cannot halve {h}x{w}"))?;
        Ok(self.push(Op::Fir(mode), &[*x], vec![n, c, mode.output(h), mode.output(w)]))
    }

    fn upsample_nearest(&mut self, x: &NodeId, factor: usize) -> Result<NodeId> {
        let [n, c, h, w] = self.image("upsample_nearest", *x)?;
        Ok(self.push(
            Op::UpsampleNearest(factor),
            &[*x],
            vec![n, c, h.saturating_mul(factor), w.saturating_mul(factor)],
        ))
    }

    fn depth_to_space(&mut self, x: &NodeId, factor: usize) -> Result<NodeId> {
        let [n, c, h, w] = self.image("depth_to_space", *x)?;
        let block = factor.saturating_mul(factor);
        check(block > 0 && c.is_multiple_of(block), "depth_to_space", || format!("{c} channels by {factor}"))?;
        Ok(self.push(Op::DepthToSpace(factor), &[*x], vec![n, c / block, h * factor, w * factor]))
    }

    fn pool(&mut self, x: &NodeId, weights: [f32; 4]) -> Result<NodeId> {
        let [n, c, h, w] = self.image("pool", *x)?;
        check(h.is_multiple_of(2) && w.is_multiple_of(2), "pool", || format!("cannot halve {h}x{w}"))?;
        Ok(self.push(Op::Pool(weights), &[*x], vec![n, c, h / 2, w / 2]))
    }

    fn inverse_haar(&mut self, bands: [&NodeId; 4]) -> Result<NodeId> {
        let shapes = bands.map(|band| self.shape(band));
        let equal = shapes.windows(2).all(|pair| pair[0] == pair[1]);
        check(equal, "inverse_haar", || format!("of {shapes:?}"))?;
        let [n, c, h, w] = self.image("inverse_haar", *bands[0])?;
        Ok(self.push(Op::InverseHaar, &bands.map(|band| *band), vec![n, c, 2 * h, 2 * w]))
    }

    fn concat(&mut self, a: &NodeId, b: &NodeId) -> Result<NodeId> {
        let [n, ca, h, w] = self.image("concat", *a)?;
        let [nb, cb, hb, wb] = self.image("concat", *b)?;
        check([n, h, w] == [nb, hb, wb], "concat", || format!("{:?} with {:?}", [n, ca, h, w], [nb, cb, hb, wb]))?;
        Ok(self.push(Op::Concat, &[*a, *b], vec![n, ca + cb, h, w]))
    }

    fn add_per_channel(&mut self, x: &NodeId, bias: &NodeId) -> Result<NodeId> {
        let shape = self.image("add_per_channel", *x)?;
        let bias_shape = self.vector("add_per_channel", *bias)?;
        check(bias_shape == shape[..2], "add_per_channel", || format!("{bias_shape:?} to {shape:?}"))?;
        Ok(self.push(Op::AddPerChannel, &[*x, *bias], shape.to_vec()))
    }

    fn multiply(&mut self, a: &NodeId, b: &NodeId) -> Result<NodeId> {
        let (shape, other) = (self.shape(a), self.shape(b));
        check(shape == other, "multiply", || format!("{shape:?} by {other:?}"))?;
        Ok(self.push(Op::Multiply, &[*a, *b], shape))
    }

    fn weighted_sum(&mut self, terms: &[(f32, &NodeId)]) -> Result<NodeId> {
        let shapes: Vec<_> = terms.iter().map(|(_, x)| self.shape(x)).collect();
        let equal = shapes.windows(2).all(|pair| pair[0] == pair[1]);
        check(equal && (1..=3).contains(&terms.len()), "weighted_sum", || format!("of {shapes:?}"))?;
        let (factors, inputs): (Vec<f32>, Vec<NodeId>) = terms.iter().map(|(factor, x)| (*factor, **x)).unzip();
        Ok(self.push(Op::WeightedSum(factors), &inputs, shapes[0].clone()))
    }

    fn attention(&mut self, q: &NodeId, k: &NodeId, v: &NodeId) -> Result<NodeId> {
        let shape = self.image("attention", *q)?;
        let equal = shape == self.image("attention", *k)? && shape == self.image("attention", *v)?;
        check(equal, "attention", || "q, k and v must have equal shapes".to_string())?;
        Ok(self.push(Op::Attention, &[*q, *k, *v], shape.to_vec()))
    }

    fn quantize(&mut self, x: &NodeId, codebook: &Tensor) -> Result<NodeId> {
        let shape = self.image("quantize", *x)?;
        let (_, dim) = codebook.dims2()?;
        check(dim == shape[1], "quantize", || format!("codes of dimension {dim} for {shape:?}"))?;
        Ok(self.push(Op::Quantize(codebook.clone()), &[*x], shape.to_vec()))
    }

    fn minibatch_stddev(&mut self, x: &NodeId) -> Result<NodeId> {
        let [n, c, h, w] = self.image("minibatch_stddev", *x)?;
        check(n > 0 && n.is_multiple_of(n.min(MINIBATCH_GROUP)), "minibatch_stddev", || {
            format!("batch {n} must be less than 4 or a multiple of 4")
        })?;
        Ok(self.push(Op::MinibatchStddev, &[*x], vec![n, c + 1, h, w]))
    }

    fn sum_pixels(&mut self, x: &NodeId) -> Result<NodeId> {
        let [n, c, ..] = self.image("sum_pixels", *x)?;
        Ok(self.push(Op::SumPixels, &[*x], vec![n, c]))
    }
}
