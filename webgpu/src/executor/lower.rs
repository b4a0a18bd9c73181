//! From a graph to a program: which kernel computes each node, with which parameters.

use std::collections::{HashMap, HashSet};

use bytemuck::{Pod, bytes_of};
use candle_core::Tensor;
use lddgan::Activation;
use lddgan::backend::MINIBATCH_GROUP;
use lddgan::graph::fusion::{FusedConv, FusedProduct, Plan, plan};
use lddgan::graph::styles::Styles;
use lddgan::graph::{Graph, Node, NodeId, Op, fold};
use lddgan::layers::Linear;

use super::constants::{Constants, Shared};
use super::conv::{ConvKernel, THREADS};
use super::conv_layer::ConvLayer;
use super::layout::{Dtype, Shape};
use super::options::Options;
use super::params::{self, activation_code};
use super::parts::{self, ALIGNMENT};
use super::program::{Input, Kernel, Layer, Operand, Output, Program, Step, Value, ValueId};
use crate::error::{Error, Result};

/// A kernel by the name of its file, with its `override` constants.
macro_rules! kernel {
    ($name:literal $(, $override:ident = $value:expr)*) => {
        Kernel {
            name: $name,
            parts: vec![
                kernel_text!("common"),
                kernel_text!($name),
            ],
            weights: None,
            sums: false,
            constants: Vec::new(),
            images: Vec::new(),
            overrides: vec![$((stringify!($override), $value as u32)),*],
        }
    };
}

mod attention;
mod norms;
mod resample;

/// Compiles a graph. What is shared already is not packed again.
pub fn lower(graph: &Graph, options: &Options, shared: &mut Shared) -> Result<Program> {
    graph.check()?;
    let folded = fold::constants(graph)?;
    let mut lowering = Lowering {
        graph,
        options,
        folded: &folded,
        program: Program::default(),
        constants: Constants::new(options.images, shared),
        values: vec![None; graph.nodes.len()],
        styles: HashMap::new(),
        concats: Vec::new(),
        layer: Layer::default(),
        numbers: Dtype::F32,
    };
    let styles = Styles::find(graph, &folded, can_follow);
    let styled: HashSet<NodeId> = styles.iter().flat_map(Styles::nodes).collect();
    for (id, node) in graph.nodes.iter().enumerate().filter(|(id, _)| !styled.contains(id)) {
        if let Op::Input(name) = &node.op {
            lowering.input(id, name)?;
        }
    }
    styles.iter().try_for_each(|styles| lowering.compute_styles(styles))?;
    for (id, plan) in plan(graph, &folded).iter().enumerate().filter(|(id, _)| !styled.contains(id)) {
        lowering.numbers = lowering.numbers(id);
        let value = match plan {
            Plan::Nothing => continue,
            Plan::Conv(fused) => {
                lowering.layer = lowering.layer(fused.node, id)?;
                let y = lowering.shape(id)?;
                lowering.conv(y, fused)?
            }
            Plan::Attention(attention) => lowering.projected_attention(id, attention)?,
            Plan::Product(product) => {
                lowering.layer = lowering.layer(id, id)?;
                lowering.multiply(product, lowering.shape(id)?)?
            }
            Plan::Alone => {
                lowering.layer = lowering.layer(id, id)?;
                match lowering.node(id)? {
                    Some(value) => value,
                    None => continue,
                }
            }
        };
        lowering.values[id] = Some(value);
    }
    lowering.finish()
}

/// Whether vectors of this shape can be read where they lie behind others.
fn can_follow(shape: &[usize]) -> bool {
    let bytes = |shape: Shape| shape.vectors() as u64 * Dtype::F32.vector_bytes();
    Shape::new(shape).is_ok_and(|shape| bytes(shape).is_multiple_of(ALIGNMENT))
}

struct Lowering<'a> {
    graph: &'a Graph,
    options: &'a Options<'a>,
    /// The values of the nodes that depend on no input.
    folded: &'a [Option<Tensor>],
    program: Program,
    constants: Constants<'a>,
    /// The values that nodes have on the GPU.
    values: Vec<Option<ValueId>>,
    /// Where the styles lie that were computed together: value, offset of the first sample and distance to the next.
    styles: HashMap<NodeId, (ValueId, usize, usize)>,
    /// The steps that parts::place may do without.
    concats: Vec<usize>,
    /// What is being lowered, and the type of its result.
    layer: Layer,
    numbers: Dtype,
}

/// Kernel, reads, workgroups and the size of what is written.
struct Dispatch {
    kernel: Kernel,
    reads: Vec<Operand>,
    workgroups: usize,
    /// Groups of four numbers that are written.
    vectors: usize,
    numbers: Dtype,
}

impl Lowering<'_> {
    /// One thread for each vec4 of the result.
    fn pointwise(&self, kernel: Kernel, reads: Vec<Operand>, y: Shape) -> Dispatch {
        let workgroups = y.vectors().div_ceil(THREADS);
        Dispatch { kernel, reads, workgroups, vectors: y.vectors(), numbers: self.numbers }
    }

    /// Images between the kernels may be in f16; vectors, which are small, and what is read after the run are in f32.
    fn numbers(&self, id: NodeId) -> Dtype {
        let image = self.graph.nodes[id].shape.len() == 4;
        let output = self.graph.outputs.iter().any(|(_, output)| *output == id);
        if image && !output { self.options.images } else { Dtype::F32 }
    }

    fn shape(&self, id: NodeId) -> Result<Shape> {
        Shape::new(&self.graph.nodes[id].shape)
    }

    /// The layer of the operation `id` whose result is that of `end`.
    fn layer(&self, id: NodeId, end: NodeId) -> Result<Layer> {
        let node = &self.graph.nodes[id];
        let x = self.shape(node.inputs.first().copied().unwrap_or(id))?;
        Ok(Layer { x, y: self.shape(end)?, flops: node.flops(), unread: 0, conv: None })
    }

    fn flops<'a>(&self, nodes: impl Iterator<Item = &'a NodeId>) -> u64 {
        nodes.map(|&node| self.graph.nodes[node].flops()).fold(0, u64::saturating_add)
    }

    fn input(&mut self, id: NodeId, name: &str) -> Result<()> {
        let shape = self.shape(id)?;
        let value = self.value(shape.vectors(), Dtype::F32);
        self.values[id] = Some(value);
        self.add_input(name, Input { value, offset: 0, shape })
    }

    fn add_input(&mut self, name: &str, input: Input) -> Result<()> {
        match self.program.inputs.insert(name.to_string(), input) {
            Some(_) => Err(Error::Graph(format!("there are two inputs `{name}`"))),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Program> {
        for (name, id) in &self.graph.outputs {
            let output = Output {
                operand: self.operand(*id)?,
                shape: self.shape(*id)?,
                dims: self.graph.nodes[*id].shape.clone(),
            };
            self.program.outputs.insert(name.clone(), output);
        }
        let mut program = Program { constants: self.constants.constants, ..self.program };
        parts::place(&mut program, &self.concats);
        Ok(program)
    }

    fn value(&mut self, vectors: usize, numbers: Dtype) -> ValueId {
        self.program.values.push(Value { bytes: vectors as u64 * numbers.vector_bytes(), numbers });
        self.program.values.len() - 1
    }

    fn operand(&mut self, id: NodeId) -> Result<Operand> {
        match (self.values[id], &self.folded[id]) {
            (Some(value), _) => Ok(Operand::Value(value)),
            (None, Some(tensor)) => Ok(Operand::Constant(self.constants.image(tensor)?)),
            (None, None) => Err(Error::Graph(format!("node {id} was not computed"))),
        }
    }

    fn emit(&mut self, dispatch: Dispatch, params: impl Pod) -> ValueId {
        let numbers = |operand: &Operand| match *operand {
            Operand::Value(value) => self.program.values[value].numbers,
            Operand::Constant(_) => Dtype::F32,
        };
        let images = dispatch.reads.iter().map(numbers).chain([dispatch.numbers]).collect();
        let write = self.value(dispatch.vectors, dispatch.numbers);
        self.program.steps.push(Step {
            kernel: Kernel { images, ..dispatch.kernel },
            params: bytes_of(&params).to_vec(),
            reads: dispatch.reads,
            write,
            workgroups: dispatch.workgroups as u64,
            layer: self.layer,
        });
        write
    }

    /// A node that is executed alone; `None` if it needs no dispatch.
    fn node(&mut self, id: NodeId) -> Result<Option<ValueId>> {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let y = self.shape(id)?;
        let value = match &node.op {
            Op::Linear(linear, activation) => {
                let [x] = node.inputs()?;
                let (shape, x) = (self.shape(x)?, self.operand(x)?);
                self.linear(x, shape, y, linear, *activation)?
            }
            Op::GroupNorm(norm, activation) => {
                let [x] = node.inputs()?;
                self.learned_norm(x, norm, *activation)?
            }
            Op::AdaptiveGroupNorm { groups, activation } => {
                let [x, style] = node.inputs()?;
                self.adaptive_norm(x, style, *groups, *activation)?
            }
            Op::Activate(activation) => self.weighted_sum(&[1.0], &node.inputs::<1>()?, y, *activation)?,
            Op::WeightedSum(factors) => self.weighted_sum(factors, &node.inputs, y, Activation::Identity)?,
            Op::PixelNorm => {
                let [x] = self.operands(node)?;
                self.pixel_norm(x, y)
            }
            Op::Fir(mode) => self.fir(node, y, *mode)?,
            Op::UpsampleNearest(factor) => self.upsample_nearest(node, y, *factor)?,
            Op::DepthToSpace(factor) => self.depth_to_space(node, y, *factor)?,
            Op::Pool(weights) => {
                let params = params::Pool { count: y.vectors() as u32, out_width: y.width as u32, weights: *weights };
                let reads = self.operands::<1>(node)?.to_vec();
                self.emit(self.pointwise(kernel!("pool"), reads, y), params)
            }
            Op::InverseHaar => {
                let reads = self.operands::<4>(node)?.to_vec();
                let shape = self.shape(node.inputs[0])?;
                let params = params::InverseHaar { count: shape.vectors() as u32, in_width: shape.width as u32 };
                let workgroups = shape.vectors().div_ceil(THREADS);
                let dispatch = self.pointwise(kernel!("inverse_haar"), reads, y);
                self.emit(Dispatch { workgroups, ..dispatch }, params)
            }
            Op::Concat => {
                let [a, b] = node.inputs()?;
                let operands = (self.operand(a)?, self.operand(b)?);
                self.concat(operands, (self.shape(a)?.channels, self.shape(b)?.channels), y)
            }
            Op::AddPerChannel => self.add_per_channel(node, y)?,
            Op::Attention => {
                let inputs = self.operands(node)?;
                self.attention(inputs, [0, 0], y)
            }
            Op::Quantize(codebook) => self.quantize(node, y, codebook)?,
            Op::MinibatchStddev => self.minibatch_stddev(node, y)?,
            Op::SumPixels => self.sum_pixels(node, y)?,
            // Inputs and constants have their values; every convolution and product has a plan of its own.
            Op::Input(_) | Op::Constant(_) | Op::Conv2d(_) | Op::Multiply => return Ok(None),
        };
        Ok(Some(value))
    }

    fn operands<const N: usize>(&mut self, node: &Node) -> Result<[Operand; N]> {
        let inputs: [NodeId; N] = node.inputs()?;
        let operands = inputs.iter().map(|&input| self.operand(input)).collect::<Result<Vec<_>>>()?;
        Ok(*node.op.take(&operands)?)
    }

    fn conv(&mut self, y: Shape, fused: &FusedConv) -> Result<ValueId> {
        let x = self.shape(fused.input)?;
        let geometry = fused.conv.geometry;
        let (residual_scale, residual) = fused.residual.unzip();
        let input = self.operand(fused.input)?;
        let bias = self.constants.bias(fused.conv.bias.as_ref(), fused.sample_bias, y.channels)?;
        let layer = ConvLayer {
            x: x.dims(),
            y: y.dims(),
            kernel: geometry.kernel,
            stride: geometry.stride,
            upsample: fused.upsample,
        };
        let variant = (self.options.convolutions)(&layer);
        if !variant.fits(&layer) {
            return Err(Error::Graph(format!("kernel {variant} cannot compute {layer:?}")));
        }
        let (weights, weight_type) = match variant {
            ConvKernel::Winograd(_) => self.constants.winograd(&fused.conv.weight)?,
            _ if fused.upsample > 1 => self.constants.phases(&fused.conv.weight)?,
            ConvKernel::Direct(_) | ConvKernel::Tiled(_) | ConvKernel::Summed(_) => {
                self.constants.weights(&fused.conv.weight)?
            }
        };
        let reads = vec![
            input,
            Operand::Constant(weights),
            Operand::Constant(bias),
            residual.map_or(Ok(input), |residual| self.operand(residual))?,
        ];
        let params = params::Conv {
            batch: y.batch as u32,
            in_blocks: x.blocks() as u32,
            in_height: x.height as u32,
            in_width: x.width as u32,
            out_blocks: y.blocks() as u32,
            out_height: (y.height / fused.upsample) as u32,
            out_width: (y.width / fused.upsample) as u32,
            pad: geometry.pad_before as u32,
            bias_stride: if fused.sample_bias.is_some() { y.blocks() as u32 } else { 0 },
            scale: fused.scale,
            residual_scale: residual_scale.unwrap_or(0.0),
        };
        self.layer.conv = Some(layer);
        let overrides = vec![
            ("RESIDUAL", residual.is_some().into()),
            ("PHASES", fused.upsample as u32),
            ("ACTIVATION", activation_code(fused.activation)),
        ];
        let kernel = Kernel { weights: Some(weight_type), overrides, ..variant.kernel(&layer) };
        let dispatch = Dispatch {
            kernel,
            reads,
            workgroups: variant.workgroups(&layer),
            vectors: y.vectors(),
            numbers: self.numbers,
        };
        Ok(self.emit(dispatch, params))
    }

    fn linear(
        &mut self,
        x: Operand,
        shape: Shape,
        y: Shape,
        linear: &Linear,
        activation: Activation,
    ) -> Result<ValueId> {
        let (weights, weight_type) = self.constants.weights(&linear.weight)?;
        let kernel =
            Kernel { weights: Some(weight_type), ..kernel!("linear", ACTIVATION = activation_code(activation)) };
        let in_blocks = shape.blocks() as u32;
        let reads = vec![
            x,
            Operand::Constant(weights),
            Operand::Constant(self.constants.bias(Some(&linear.bias), None, y.channels)?),
        ];
        let params = params::Linear { batch: y.batch as u32, in_blocks, out_blocks: y.blocks() as u32 };
        Ok(self.emit(self.pointwise(kernel, reads, y), params))
    }

    fn weighted_sum(&mut self, factors: &[f32], terms: &[NodeId], y: Shape, activation: Activation) -> Result<ValueId> {
        let kernel = kernel!("weighted_sum", TERMS = terms.len(), ACTIVATION = activation_code(activation));
        let mut reads = terms.iter().map(|&term| self.operand(term)).collect::<Result<Vec<_>>>()?;
        let mut padded = [0.0; 3];
        padded.iter_mut().zip(factors).for_each(|(padded, factor)| *padded = *factor);
        let Some(&first) = reads.first().filter(|_| reads.len() <= padded.len() && factors.len() == reads.len()) else {
            return Err(Error::Graph(format!("a sum of {} terms with {} factors", reads.len(), factors.len())));
        };
        // Bindings of absent terms, which the kernel does not read.
        reads.resize(padded.len(), first);
        let params = params::WeightedSum { count: y.vectors() as u32, factors: padded };
        Ok(self.emit(self.pointwise(kernel, reads, y), params))
    }

    fn pixel_norm(&mut self, x: Operand, y: Shape) -> ValueId {
        let params = params::PixelNorm { batch: y.batch as u32, features: y.channels as u32 };
        self.emit(self.pointwise(kernel!("pixel_norm"), vec![x], y), params)
    }

    fn concat(&mut self, (a, b): (Operand, Operand), channels: (usize, usize), y: Shape) -> ValueId {
        let params = params::Concat {
            count: y.vectors() as u32,
            a_channels: channels.0 as u32,
            b_channels: channels.1 as u32,
            pixels: (y.batch * y.pixels()) as u32,
        };
        if channels.0.is_multiple_of(4) {
            self.concats.push(self.program.steps.len());
        }
        self.emit(self.pointwise(kernel!("concat"), vec![a, b], y), params)
    }

    fn add_per_channel(&mut self, node: &Node, y: Shape) -> Result<ValueId> {
        let [x, bias] = node.inputs()?;
        let params = params::AddPerChannel {
            count: y.vectors() as u32,
            batch: y.batch as u32,
            blocks: y.blocks() as u32,
            pixels: y.pixels() as u32,
        };
        let reads = vec![self.operand(x)?, self.operand(bias)?];
        Ok(self.emit(self.pointwise(kernel!("add_per_channel"), reads, y), params))
    }

    fn multiply(&mut self, product: &FusedProduct, y: Shape) -> Result<ValueId> {
        let [a, b] = product.factors;
        let bias = match product.bias {
            None => 0,
            Some(bias) if self.shape(bias)? == y => 1,
            Some(_) => 2,
        };
        let params = params::Multiply {
            count: y.vectors() as u32,
            batch: y.batch as u32,
            blocks: y.blocks() as u32,
            pixels: y.pixels() as u32,
        };
        // An absent bias is bound, but not read.
        let reads = vec![self.operand(a)?, self.operand(b)?, self.operand(product.bias.unwrap_or(a))?];
        Ok(self.emit(self.pointwise(kernel!("multiply", BIAS = bias), reads, y), params))
    }

    fn quantize(&mut self, node: &Node, y: Shape, codebook: &Tensor) -> Result<ValueId> {
        let [x] = node.inputs()?;
        let params = params::Quantize {
            blocks: y.blocks() as u32,
            positions: (y.batch * y.pixels()) as u32,
            codes: codebook.dim(0)? as u32,
        };
        let dispatch = Dispatch {
            kernel: kernel!("quantize"),
            reads: vec![self.operand(x)?, Operand::Constant(self.constants.image(codebook)?)],
            workgroups: (y.batch * y.pixels()).div_ceil(THREADS),
            vectors: y.vectors(),
            numbers: self.numbers,
        };
        Ok(self.emit(dispatch, params))
    }

    fn minibatch_stddev(&mut self, node: &Node, y: Shape) -> Result<ValueId> {
        let [x] = node.inputs()?;
        let (shape, x) = (self.shape(x)?, self.operand(x)?);
        let members = shape.batch.min(MINIBATCH_GROUP);
        let groups = shape.batch / members;
        let params = params::MinibatchStddev {
            groups: groups as u32,
            members: members as u32,
            channels: shape.channels as u32,
            pixels: shape.pixels() as u32,
        };
        let channel = Shape { channels: 1, ..shape };
        let dispatch = Dispatch {
            kernel: Kernel { sums: true, ..kernel!("minibatch_stddev") },
            reads: vec![x],
            workgroups: groups,
            vectors: channel.vectors(),
            numbers: self.numbers,
        };
        let stddev = self.emit(dispatch, params);
        Ok(self.concat((x, Operand::Value(stddev)), (shape.channels, 1), y))
    }

    fn sum_pixels(&mut self, node: &Node, y: Shape) -> Result<ValueId> {
        let [x] = node.inputs()?;
        let params = params::SumPixels {
            count: y.vectors() as u32,
            batch: y.batch as u32,
            blocks: y.blocks() as u32,
            pixels: self.shape(x)?.pixels() as u32,
        };
        let reads = vec![self.operand(x)?];
        Ok(self.emit(self.pointwise(kernel!("sum_pixels"), reads, y), params))
    }
}
