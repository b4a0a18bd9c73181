//! From a graph to a program: which kernel computes each node, with which weights.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use candle_core::{DType, Tensor, TensorId};
use lddgan::graph::fusion::{FusedConv, FusedProduct, Plan, plan};
use lddgan::graph::styles::Styles;
use lddgan::graph::{Graph, Node, NodeId, Op, SharedConstants, fold};
use lddgan::layers::{Conv2d, ConvGeometry, Linear};
use lddgan::{Activation, Error, Result};

use crate::kernels::{
    AddPerChannel, Affine, Attention, Concat, Conv, DepthToSpace, Fir, InverseHaar, Kernel, MinibatchStddev, Multiply,
    Norm, PixelNorm, Pool, Quantize, SumPixels, UpsampleNearest, WeightedSum, codebook_blocks, pack_codebook,
};
use lddgan_kernels::conv::{Algorithm, ConvLayer};
use lddgan_kernels::layout::{Block, Shape};

/// Index into [`Program::values`].
pub type ValueId = usize;

/// Something that a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    Value(ValueId),
    /// Index into the program's constants.
    Constant(usize),
}

/// One operation.
#[derive(Debug)]
pub struct Step {
    pub kernel: Box<dyn Kernel>,
    pub reads: Vec<Operand>,
    pub write: ValueId,
}

/// A value that is given at every run.
#[derive(Debug, Clone)]
pub struct Input {
    pub shape: Shape,
    /// Where it is written: the value, the first of its rows that are this input's, and all of them.
    pub places: Vec<(ValueId, usize, usize)>,
}

/// A named result.
#[derive(Debug, Clone)]
pub struct Output {
    pub operand: Operand,
    pub shape: Shape,
    /// The shape as the graph has it.
    pub dims: Vec<usize>,
}

/// A compiled graph.
#[derive(Debug, Default)]
pub struct Program {
    /// The size of each value, in blocks.
    pub values: Vec<usize>,
    pub steps: Vec<Step>,
    pub inputs: BTreeMap<String, Input>,
    pub outputs: BTreeMap<String, Output>,
    /// Packed weights and other constants; empty where they were only measured.
    pub constants: Vec<Arc<Vec<Block>>>,
    /// Blocks of all of them.
    pub constant_blocks: usize,
}

impl Program {
    /// Blocks of memory that a thread needs.
    pub fn memory(&self) -> usize {
        self.steps.iter().map(|step| step.kernel.memory()).max().unwrap_or(0)
    }
}

/// Which algorithm computes a convolution.
pub type Choice<'a> = &'a dyn Fn(&ConvLayer) -> Algorithm;

/// The constants of programs.
pub type Constants = SharedConstants<Key, Vec<Block>>;

/// Compiles a graph. Constants that are known already are not packed again; without `constants`, nothing is packed, and
/// the program only tells what it would take.
pub fn compile(graph: &Graph, choice: Choice, mut constants: Option<&mut Constants>) -> Result<Program> {
    graph.check()?;
    constants.iter_mut().for_each(|constants| constants.clean());
    let folded = fold::constants(graph)?;
    let mut compiler = Compiler {
        graph,
        choice,
        constants,
        folded: &folded,
        program: Program::default(),
        known: HashMap::new(),
        values: vec![None; graph.nodes.len()],
        styles: HashMap::new(),
    };
    for (id, node) in graph.nodes.iter().enumerate() {
        if let Op::Input(name) = &node.op {
            compiler.input(id, name)?;
        }
    }
    // Every input has a place of its own beside the one behind others.
    let styles = Styles::find(graph, &folded, |_| true);
    styles.iter().try_for_each(|styles| compiler.compute_styles(styles))?;
    let inputs = styles.iter().flat_map(|styles| &styles.inputs);
    let inputs: HashSet<NodeId> = inputs.copied().collect();
    let styled: HashSet<NodeId> = styles.iter().flat_map(Styles::nodes).filter(|id| !inputs.contains(id)).collect();
    for (id, plan) in plan(graph, &folded).iter().enumerate().filter(|(id, _)| !styled.contains(id)) {
        match plan {
            Plan::Nothing => continue,
            Plan::Conv(fused) => compiler.fused(id, fused)?,
            Plan::Attention(attention) => {
                for (node, conv) in attention.nodes.into_iter().zip(attention.projections) {
                    compiler.fused(node, &FusedConv::plain(conv, node, attention.input))?;
                }
                compiler.node(id)?;
            }
            Plan::Product(product) => compiler.multiply(id, product)?,
            Plan::Alone => compiler.node(id)?,
        }
    }
    compiler.finish()
}

/// What tells a constant from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Value(TensorId),
    Weights(TensorId, Algorithm),
    Codebook(TensorId),
    /// One behind the other.
    Pair(TensorId, TensorId),
    Bias(Option<TensorId>, Option<TensorId>, usize),
}

struct Compiler<'a> {
    graph: &'a Graph,
    choice: Choice<'a>,
    constants: Option<&'a mut Constants>,
    /// The values of the nodes that depend on no input.
    folded: &'a [Option<Tensor>],
    program: Program,
    /// Where the program has them.
    known: HashMap<Key, usize>,
    /// The values that nodes have.
    values: Vec<Option<ValueId>>,
    /// Where the styles lie that are computed together.
    styles: HashMap<NodeId, (ValueId, Affine)>,
}

impl Compiler<'_> {
    fn shape(&self, id: NodeId) -> Result<Shape> {
        Ok(Shape::new(&self.graph.nodes[id].shape)?)
    }

    fn value(&mut self, size: usize) -> ValueId {
        self.program.values.push(size);
        self.program.values.len() - 1
    }

    fn operand(&mut self, id: NodeId) -> Result<Operand> {
        match (self.values[id], &self.folded[id]) {
            (Some(value), _) => Ok(Operand::Value(value)),
            (None, Some(tensor)) => {
                let blocks = Shape::new(tensor.dims())?.size();
                self.constant(Key::Value(tensor.id()), blocks, || pack(tensor))
            }
            (None, None) => Err(Error::Graph(format!("node {id} was not computed"))),
        }
    }

    /// A constant of so many blocks, packed once however often it is used.
    fn constant(&mut self, key: Key, blocks: usize, pack: impl FnOnce() -> Result<Vec<Block>>) -> Result<Operand> {
        if let Some(&known) = self.known.get(&key) {
            return Ok(Operand::Constant(known));
        }
        let constant = match &mut self.constants {
            None => Arc::default(),
            Some(constants) => match constants.get(&key) {
                Some(shared) => shared,
                None => {
                    let packed = Arc::new(pack()?);
                    constants.insert(key.clone(), &packed);
                    packed
                }
            },
        };
        self.program.constants.push(constant);
        self.program.constant_blocks += blocks;
        let constant = self.program.constants.len() - 1;
        self.known.insert(key, constant);
        Ok(Operand::Constant(constant))
    }

    /// Tensors one behind the other.
    fn joined(&mut self, tensors: &[&Tensor]) -> Result<Tensor> {
        match &mut self.constants {
            Some(constants) => Ok(constants.joined(tensors)?),
            None => Ok(Tensor::cat(tensors, 0)?),
        }
    }

    fn input(&mut self, id: NodeId, name: &str) -> Result<()> {
        let shape = self.shape(id)?;
        let value = self.value(shape.size());
        self.values[id] = Some(value);
        let places = vec![(value, 0, shape.batch)];
        match self.program.inputs.insert(name.to_string(), Input { shape, places }) {
            Some(_) => Err(Error::Graph(format!("there are two inputs `{name}`"))),
            None => Ok(()),
        }
    }

    fn emit(&mut self, kernel: impl Kernel + 'static, reads: Vec<Operand>, size: usize) -> ValueId {
        let write = self.value(size);
        self.program.steps.push(Step { kernel: Box::new(kernel), reads, write });
        write
    }

    /// The operation of a node, whose value is the node's.
    fn emit_node(&mut self, id: NodeId, kernel: impl Kernel + 'static, reads: Vec<Operand>) -> Result<()> {
        let size = self.shape(id)?.size();
        self.values[id] = Some(self.emit(kernel, reads, size));
        Ok(())
    }

    fn finish(mut self) -> Result<Program> {
        for (name, id) in &self.graph.outputs {
            let dims = self.graph.nodes[*id].shape.clone();
            let output = Output { operand: self.operand(*id)?, shape: self.shape(*id)?, dims };
            self.program.outputs.insert(name.clone(), output);
        }
        Ok(self.program)
    }

    /// A node that is executed alone.
    fn node(&mut self, id: NodeId) -> Result<()> {
        let Node { op, inputs, .. } = &self.graph.nodes[id];
        let y = self.shape(id)?;
        let mut reads = inputs.iter().map(|&input| self.operand(input)).collect::<Result<Vec<_>>>()?;
        let shapes = inputs.iter().map(|&input| self.shape(input)).collect::<Result<Vec<_>>>()?;
        let first = || shapes.first().copied().ok_or_else(|| Error::Graph(format!("node {id} has no input")));
        match op {
            // Written before the first step.
            Op::Input(_) => Ok(()),
            Op::Constant(tensor) => Err(Error::Graph(format!("the constant of node {id} {tensor:?} was not folded"))),
            Op::Conv2d(conv) => self.fused(id, &FusedConv::plain(conv, id, op.take::<_, 1>(inputs)?[0])),
            Op::Linear(linear, activation) => {
                let value = self.linear(op.take::<_, 1>(&reads)?[0], first()?.batch, linear, *activation)?;
                self.values[id] = Some(value);
                Ok(())
            }
            Op::GroupNorm(norm, activation) => {
                let (scale, shift) = (&norm.weight, &norm.bias);
                let pair = Shape::new(&[1, 2 * y.channels])?;
                let pack = || Ok(pair.pack(&[numbers(scale)?, numbers(shift)?].concat()));
                reads.push(self.constant(Key::Pair(scale.id(), shift.id()), pair.size(), pack)?);
                let affine = Affine { rows: 1, row: 0, step: 0, feature: 0, offset: 0.0 };
                self.emit_node(id, Norm { shape: y, groups: norm.groups, affine, activation: *activation }, reads)
            }
            Op::AdaptiveGroupNorm { groups, activation } => {
                let [_, style] = *op.take(inputs)?;
                let own = Affine { rows: y.batch, row: 0, step: 1, feature: 0, offset: 1.0 };
                let affine = match self.styles.get(&style) {
                    Some(&(value, affine)) => {
                        reads[1] = Operand::Value(value);
                        affine
                    }
                    None => own,
                };
                self.emit_node(id, Norm { shape: y, groups: *groups, affine, activation: *activation }, reads)
            }
            Op::Activate(activation) => {
                self.emit_node(id, WeightedSum { factors: vec![1.0], activation: *activation }, reads)
            }
            Op::WeightedSum(factors) => {
                let sum = WeightedSum { factors: factors.clone(), activation: Activation::Identity };
                self.emit_node(id, sum, reads)
            }
            Op::PixelNorm => self.emit_node(id, PixelNorm { shape: y }, reads),
            Op::Fir(mode) => self.emit_node(id, Fir { mode: *mode, x: first()? }, reads),
            Op::UpsampleNearest(factor) => self.emit_node(id, UpsampleNearest { factor: *factor, x: first()? }, reads),
            Op::DepthToSpace(factor) => self.emit_node(id, DepthToSpace { factor: *factor, x: first()? }, reads),
            Op::Pool(weights) => self.emit_node(id, Pool { weights: *weights, y }, reads),
            Op::InverseHaar => self.emit_node(id, InverseHaar { x: first()? }, reads),
            Op::Concat => self.emit_node(id, Concat { parts: *op.take(&shapes)? }, reads),
            Op::AddPerChannel => self.emit_node(id, AddPerChannel { shape: y }, reads),
            Op::Multiply => self.emit_node(id, Multiply { shape: y }, reads),
            Op::Attention => self.emit_node(id, Attention { shape: y }, reads),
            Op::Quantize(codebook) => {
                let (codes, channels) = codebook.dims2()?;
                let pack = || Ok(pack_codebook(&numbers(codebook)?, codes, channels));
                let blocks = codebook_blocks(codes, channels);
                reads.push(self.constant(Key::Codebook(codebook.id()), blocks, pack)?);
                self.emit_node(id, Quantize { shape: y, codes }, reads)
            }
            Op::MinibatchStddev => self.emit_node(id, MinibatchStddev { x: first()? }, reads),
            Op::SumPixels => self.emit_node(id, SumPixels { x: first()? }, reads),
        }
    }

    fn fused(&mut self, id: NodeId, fused: &FusedConv) -> Result<()> {
        let Conv2d { weight, bias, geometry } = fused.conv;
        let layer = ConvLayer {
            x: self.shape(fused.input)?,
            y: self.shape(id)?,
            geometry: *geometry,
            upsample: fused.upsample,
        };
        let algorithm = (self.choice)(&layer);
        if !algorithm.fits(&layer) {
            return Err(Error::Graph(format!("{algorithm:?} cannot compute {layer:?}")));
        }
        let mut reads = vec![
            self.operand(fused.input)?,
            self.weights(weight, algorithm, *geometry)?,
            self.bias(bias.as_ref(), fused.sample_bias, layer.y.channels)?,
        ];
        let (residual, node) = fused.residual.unzip();
        if let Some(node) = node {
            reads.push(self.operand(node)?);
        }
        let conv = Conv { layer, algorithm, scale: fused.scale, residual, activation: fused.activation };
        self.emit_node(id, conv, reads)
    }

    /// Weights (out, in, kernel, kernel) or (out, in).
    fn weights(&mut self, weight: &Tensor, algorithm: Algorithm, geometry: ConvGeometry) -> Result<Operand> {
        let (outputs, inputs) = (weight.dim(0)?, weight.dim(1)?);
        let pack = || Ok(algorithm.pack(&numbers(weight)?, outputs, inputs, geometry));
        self.constant(Key::Weights(weight.id(), algorithm), algorithm.packed(outputs, inputs, geometry), pack)
    }

    /// The sum of a bias (C) and one for each sample (N, C); zeros if there is neither.
    fn bias(&mut self, bias: Option<&Tensor>, sample_bias: Option<&Tensor>, channels: usize) -> Result<Operand> {
        let key = Key::Bias(bias.map(Tensor::id), sample_bias.map(Tensor::id), channels);
        let rows = sample_bias.map_or(Ok(1), |bias| bias.dim(0))?;
        self.constant(key, Shape::new(&[rows, channels])?.size(), || match (bias, sample_bias) {
            (Some(bias), Some(sample_bias)) => pack(&sample_bias.broadcast_add(bias)?),
            (Some(bias), None) => pack(&bias.unsqueeze(0)?),
            (None, Some(sample_bias)) => pack(sample_bias),
            (None, None) => Ok(Shape::new(&[1, channels])?.pack(&vec![0.0; channels])),
        })
    }

    /// A linear layer on so many rows: a convolution of images of one pixel.
    fn linear(&mut self, x: Operand, rows: usize, linear: &Linear, activation: Activation) -> Result<ValueId> {
        let (outputs, inputs) = linear.weight.dims2()?;
        let shape = |channels: usize| Shape::new(&[rows, channels]);
        let layer = ConvLayer { x: shape(inputs)?, y: shape(outputs)?, geometry: ConvGeometry::same(1), upsample: 1 };
        let algorithm = Algorithm::Direct;
        let reads = vec![
            x,
            self.weights(&linear.weight, algorithm, layer.geometry)?,
            self.bias(Some(&linear.bias), None, outputs)?,
        ];
        let conv = Conv { layer, algorithm, scale: 1.0, residual: None, activation };
        Ok(self.emit(conv, reads, layer.y.size()))
    }

    fn multiply(&mut self, id: NodeId, product: &FusedProduct) -> Result<()> {
        let nodes = product.factors.into_iter().chain(product.bias);
        let reads = nodes.map(|node| self.operand(node)).collect::<Result<Vec<_>>>()?;
        self.emit_node(id, Multiply { shape: self.shape(id)? }, reads)
    }

    /// All styles at once: a row for each sample of each input, and the features of all heads side by side.
    fn compute_styles(&mut self, styles: &Styles) -> Result<()> {
        let input = self.shape(styles.inputs[0])?;
        let rows = input.batch * styles.inputs.len();
        let joined = self.value(Shape { batch: rows, ..input }.size());
        for (i, &id) in styles.inputs.iter().enumerate() {
            let Op::Input(name) = &self.graph.nodes[id].op else { continue };
            if let Some(input) = self.program.inputs.get_mut(name) {
                input.places.push((joined, i * input.shape.batch, rows));
            }
        }
        let mut value = joined;
        for layer in &styles.layers {
            let Node { op, shape, .. } = &self.graph.nodes[layer[0]];
            value = match op {
                Op::Linear(linear, activation) => self.linear(Operand::Value(value), rows, linear, *activation)?,
                _ => {
                    let shape = Shape { batch: rows, ..Shape::new(shape)? };
                    self.emit(PixelNorm { shape }, vec![Operand::Value(value)], shape.size())
                }
            };
        }
        let heads = || styles.heads.iter().map(|(head, _)| *head);
        let weight = self.joined(&heads().map(|head| &head.weight).collect::<Vec<_>>())?;
        let bias = self.joined(&heads().map(|head| &head.bias).collect::<Vec<_>>())?;
        let linear = Linear { weight, bias };
        let value = self.linear(Operand::Value(value), rows, &linear, Activation::Identity)?;
        let mut features = vec![0];
        for head in heads() {
            features.push(features[features.len() - 1] + head.weight.dim(0)?);
        }
        for (&id, &(number, head)) in &styles.places {
            let row = number * input.batch;
            let affine = Affine { rows, row, step: 1, feature: features[head], offset: 1.0 };
            self.styles.insert(id, (value, affine));
            // What reads it finds it there.
            self.values[id] = Some(value);
        }
        Ok(())
    }
}

/// The numbers of a tensor in the order of its shape.
fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn pack(tensor: &Tensor) -> Result<Vec<Block>> {
    Ok(Shape::new(tensor.dims())?.pack(&numbers(tensor)?))
}
