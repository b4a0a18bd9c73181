//! Finds what a convolution can do on its way: an upsampling by two before a 3x3 kernel, and a constant bias per sample,
//! a scale, a residual and an activation after it. The three projections of an attention become one convolution, and a product
//! adds what is added to it.

use candle_core::Tensor;

use super::{Graph, NodeId, Op};
use crate::backend::Activation;
use crate::layers::{Conv2d, ConvGeometry};

/// y = activation(scale * (conv(upsample(input)) + biases) + residual factor * residual)
#[derive(Debug, Clone)]
pub struct FusedConv<'a> {
    /// The convolution, with its own bias.
    pub conv: &'a Conv2d,
    /// The node of the convolution.
    pub node: NodeId,
    /// The node that is convolved, after upsampling.
    pub input: NodeId,
    /// The factor of nearest upsampling before the convolution: 1 or 2.
    pub upsample: usize,
    /// (N, C), beside the convolution's own bias.
    pub sample_bias: Option<&'a Tensor>,
    /// Factor of the result.
    pub scale: f32,
    /// What is added to it, with a factor.
    pub residual: Option<(f32, NodeId)>,
    /// The last thing that is done.
    pub activation: Activation,
    /// The nodes that need no dispatch of their own.
    absorbed: Vec<NodeId>,
}

/// Attention whose query, key and value are 1x1 convolutions of one image.
#[derive(Debug, Clone)]
pub struct ProjectedAttention<'a> {
    /// The node of the image.
    pub input: NodeId,
    /// Of query, key and value.
    pub projections: [&'a Conv2d; 3],
    /// The nodes of the projections.
    pub nodes: [NodeId; 3],
}

/// y = a * b + bias, number by number.
#[derive(Debug, Clone)]
pub struct FusedProduct {
    /// The nodes of both factors.
    pub factors: [NodeId; 2],
    /// As the factors, or vectors with a number for each channel of images.
    pub bias: Option<NodeId>,
    /// The node of the product, if it needs no dispatch of its own.
    absorbed: Option<NodeId>,
}

/// How each node is executed.
#[derive(Debug, Clone)]
pub enum Plan<'a> {
    /// Not at all: constant, without influence on an output, or part of another node's dispatch.
    Nothing,
    /// As a convolution, with what it does on its way.
    Conv(FusedConv<'a>),
    /// As attention, projections included.
    Attention(ProjectedAttention<'a>),
    /// As a product, sum included.
    Product(FusedProduct),
    /// As an operation of its own.
    Alone,
}

/// Decides about every node. `constants` are the values of the nodes that depend on no input.
pub fn plan<'a>(graph: &'a Graph, constants: &'a [Option<Tensor>]) -> Vec<Plan<'a>> {
    let finder = Finder { graph, constants, uses: uses(graph, constants) };
    let mut plans = vec![Plan::Nothing; graph.nodes.len()];
    let mut absorbed = vec![false; graph.nodes.len()];
    // From the end, so that the longest chain that ends in a convolution's result is found first.
    for node in (0..graph.nodes.len()).rev() {
        if constants[node].is_some() || finder.uses[node] == 0 || absorbed[node] {
            continue;
        }
        plans[node] = if let Some(fused) = finder.fused_conv(node) {
            fused.absorbed.iter().for_each(|&node| absorbed[node] = true);
            Plan::Conv(fused)
        } else if let Some(attention) = finder.attention(node) {
            attention.nodes.iter().for_each(|&node| absorbed[node] = true);
            Plan::Attention(attention)
        } else if let Some(product) = finder.product(node) {
            product.absorbed.iter().for_each(|&node| absorbed[node] = true);
            Plan::Product(product)
        } else {
            Plan::Alone
        };
    }
    plans
}

/// How often each node is read by nodes that matter, or is an output.
fn uses(graph: &Graph, constants: &[Option<Tensor>]) -> Vec<usize> {
    let mut uses = vec![0; graph.nodes.len()];
    graph.outputs.iter().for_each(|(_, node)| uses[*node] += 1);
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        if uses[id] > 0 && constants[id].is_none() {
            node.inputs.iter().for_each(|&input| uses[input] += 1);
        }
    }
    uses
}

struct Finder<'a> {
    graph: &'a Graph,
    constants: &'a [Option<Tensor>],
    uses: Vec<usize>,
}

impl<'a> Finder<'a> {
    /// The convolution that ends with this node's value.
    fn fused_conv(&self, id: NodeId) -> Option<FusedConv<'a>> {
        let node = &self.graph.nodes[id];
        match (&node.op, node.inputs.as_slice()) {
            (Op::Conv2d(conv), &[input]) => Some(self.conv(conv, id, input)),
            (Op::AddPerChannel, &[x, bias]) => {
                let fused = self.part(x).filter(FusedConv::is_plain)?;
                Some(FusedConv { sample_bias: Some(self.constants[bias].as_ref()?), ..fused })
            }
            (Op::WeightedSum(factors), inputs) if inputs.len() <= 2 => {
                let terms = || factors.iter().copied().zip(inputs.iter().copied());
                terms().enumerate().rev().find_map(|(i, (scale, x))| {
                    let fused = self.part(x).filter(FusedConv::is_unscaled)?;
                    let residual = terms().enumerate().find(|(j, _)| *j != i).map(|(_, term)| term);
                    Some(FusedConv { scale, residual, ..fused })
                })
            }
            (Op::Activate(activation), &[x]) => {
                let fused = self.part(x).filter(|fused| fused.activation == Activation::Identity)?;
                Some(FusedConv { activation: *activation, ..fused })
            }
            _ => None,
        }
    }

    /// The convolution that ends with this node's value, if nobody else needs the value.
    fn part(&self, id: NodeId) -> Option<FusedConv<'a>> {
        let mut fused = self.is_read_once(id).then(|| self.fused_conv(id)).flatten()?;
        fused.absorbed.push(id);
        Some(fused)
    }

    /// Whether a value is computed at every run, for one reader alone.
    fn is_read_once(&self, id: NodeId) -> bool {
        self.uses[id] == 1 && self.constants[id].is_none()
    }

    /// The product that ends with this node's value.
    fn product(&self, id: NodeId) -> Option<FusedProduct> {
        let node = &self.graph.nodes[id];
        match (&node.op, node.inputs.as_slice()) {
            (Op::Multiply, &[a, b]) => Some(FusedProduct { factors: [a, b], bias: None, absorbed: None }),
            (Op::AddPerChannel, &[x, bias]) => self.product_and(x, bias),
            (Op::WeightedSum(factors), &[x, y]) if factors == &[1.0; 2] => {
                self.product_and(x, y).or_else(|| self.product_and(y, x))
            }
            _ => None,
        }
    }

    /// The sum of the product `id`, if it is one that nobody else needs, and a bias.
    fn product_and(&self, id: NodeId, bias: NodeId) -> Option<FusedProduct> {
        let node = &self.graph.nodes[id];
        let (Op::Multiply, &[a, b]) = (&node.op, node.inputs.as_slice()) else { return None };
        self.is_read_once(id).then_some(FusedProduct { factors: [a, b], bias: Some(bias), absorbed: Some(id) })
    }

    /// The attention of this node, if its inputs can be computed together: nobody else needs them, and their channels
    /// fill whole groups of four.
    fn attention(&self, id: NodeId) -> Option<ProjectedAttention<'a>> {
        let node = &self.graph.nodes[id];
        let (Op::Attention, &[query, key, value]) = (&node.op, node.inputs.as_slice()) else { return None };
        let nodes = [query, key, value];
        let projection = |id: NodeId| {
            let node = &self.graph.nodes[id];
            let (Op::Conv2d(conv), &[input]) = (&node.op, node.inputs.as_slice()) else { return None };
            let fits = self.is_read_once(id) && node.shape[1].is_multiple_of(4);
            (fits && conv.geometry == ConvGeometry::same(1) && conv.bias.is_some()).then_some((conv, input))
        };
        let [(query, input), (key, b), (value, c)] = [projection(query)?, projection(key)?, projection(value)?];
        (input == b && input == c).then_some(ProjectedAttention { input, projections: [query, key, value], nodes })
    }

    fn conv(&self, conv: &'a Conv2d, node: NodeId, input: NodeId) -> FusedConv<'a> {
        let fused = FusedConv::plain(conv, node, input);
        let before = &self.graph.nodes[input];
        match (&before.op, before.inputs.as_slice()) {
            (Op::UpsampleNearest(2), &[x]) if self.is_read_once(input) && conv.geometry == ConvGeometry::same(3) => {
                FusedConv { input: x, upsample: 2, absorbed: vec![input], ..fused }
            }
            _ => fused,
        }
    }
}

impl<'a> FusedConv<'a> {
    /// With nothing before or after it.
    pub fn plain(conv: &'a Conv2d, node: NodeId, input: NodeId) -> Self {
        Self {
            conv,
            node,
            input,
            upsample: 1,
            sample_bias: None,
            scale: 1.0,
            residual: None,
            activation: Activation::Identity,
            absorbed: Vec::new(),
        }
    }

    /// Whether a factor and a residual can still follow.
    fn is_unscaled(&self) -> bool {
        self.scale == 1.0 && self.residual.is_none() && self.activation == Activation::Identity
    }

    /// Whether a bias can still follow.
    fn is_plain(&self) -> bool {
        self.is_unscaled() && self.sample_bias.is_none()
    }
}
