//! A recorded network: the list of operations that compilers (WebGPU, ONNX) work from, and what they share.
//!
//! A compiler computes beforehand what depends on no input ([`fold`]), takes what styles the norms together ([`styles`]),
//! merges operations ([`fusion`]) and lets values that are never needed at the same time share memory ([`liveness`]).

pub mod fold;
pub mod fusion;
pub mod liveness;
mod recorder;
mod replay;
mod shared_constants;
pub mod styles;

use candle_core::Tensor;

pub use recorder::Recorder;
pub use shared_constants::SharedConstants;

use crate::backend::{Activation, Backend, FirMode};
use crate::error::{Error, Result};
use crate::layers::{Conv2d, GroupNorm, Linear};

/// Index of a node, and of the value that it computes.
pub type NodeId = usize;

/// An operation; see the method of the same name of [`Backend`].
#[derive(Debug, Clone)]
pub enum Op {
    /// Given at every run, by name.
    Input(String),
    /// [`Backend::constant`]
    Constant(Tensor),
    /// [`Backend::conv2d`]
    Conv2d(Conv2d),
    /// [`Backend::linear`]
    Linear(Linear, Activation),
    /// [`Backend::group_norm`]
    GroupNorm(GroupNorm, Activation),
    /// Inputs: image, style.
    AdaptiveGroupNorm {
        /// Groups of channels.
        groups: usize,
        /// Applied to the result.
        activation: Activation,
    },
    /// [`Backend::activate`]
    Activate(Activation),
    /// [`Backend::pixel_norm`]
    PixelNorm,
    /// [`Backend::fir`]
    Fir(FirMode),
    /// By this factor.
    UpsampleNearest(usize),
    /// By this factor.
    DepthToSpace(usize),
    /// Four weights, of the pixels of a block row by row.
    Pool([f32; 4]),
    /// Inputs: the four bands.
    InverseHaar,
    /// Inputs: two images.
    Concat,
    /// Inputs: image, bias.
    AddPerChannel,
    /// Inputs: both factors.
    Multiply,
    /// One factor per input.
    WeightedSum(Vec<f32>),
    /// Inputs: q, k, v.
    Attention,
    /// The codebook, (codes, C).
    Quantize(Tensor),
    /// [`Backend::minibatch_stddev`]
    MinibatchStddev,
    /// [`Backend::sum_pixels`]
    SumPixels,
}

/// One operation of a [`Graph`].
#[derive(Debug, Clone)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Nodes that come before this one.
    pub inputs: Vec<NodeId>,
    /// Shape of the value, batch first.
    pub shape: Vec<usize>,
}

/// A recorded network for a fixed batch size, in an order in which it can be executed.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// In an order in which each comes after its inputs.
    pub nodes: Vec<Node>,
    /// Named results.
    pub outputs: Vec<(String, NodeId)>,
}

impl Node {
    /// The inputs, of which the operation needs so many.
    pub fn inputs<const N: usize>(&self) -> Result<[NodeId; N]> {
        self.op.take(&self.inputs).copied()
    }

    /// Floating-point operations: two per multiply-add of convolutions, linear layers, attention and quantisation;
    /// `u64::MAX` if they are more.
    pub fn flops(&self) -> u64 {
        self.work().multiply_adds.saturating_mul(product(&self.shape)).saturating_mul(2)
    }

    /// Bytes of the value in f32; none for a constant, which is a weight.
    fn bytes(&self) -> u64 {
        match self.op {
            Op::Constant(_) => 0,
            _ => product(&self.shape).saturating_mul(4),
        }
    }

    /// Bytes that Candle needs besides values while it computes this.
    fn scratch_bytes(&self) -> u64 {
        self.work().scratch.saturating_mul(4)
    }

    /// What an operation takes. A new one has its place here before anything compiles.
    fn work(&self) -> Work {
        let pixels = || product(self.shape.get(2..).unwrap_or_default());
        match &self.op {
            Op::Conv2d(Conv2d { weight, geometry, .. }) => {
                let taps = product(weight.dims().get(1..).unwrap_or_default());
                let im2col = if geometry.kernel > 1 { taps.saturating_mul(pixels()) } else { 0 };
                Work { multiply_adds: taps, scratch: im2col }
            }
            Op::Linear(Linear { weight, .. }, _) => {
                Work { multiply_adds: product(weight.dims().get(1..).unwrap_or_default()), scratch: 0 }
            }
            // Every position meets every other twice: for the weights, and for the sum.
            Op::Attention => {
                Work { multiply_adds: pixels().saturating_mul(2), scratch: pixels().saturating_mul(pixels()) }
            }
            // The distance to every code.
            Op::Quantize(codebook) => {
                Work { multiply_adds: codebook.dims().first().map_or(0, |&codes| codes as u64), scratch: 0 }
            }
            Op::Input(_)
            | Op::Constant(_)
            | Op::GroupNorm(..)
            | Op::AdaptiveGroupNorm { .. }
            | Op::Activate(_)
            | Op::PixelNorm
            | Op::Fir(_)
            | Op::UpsampleNearest(_)
            | Op::DepthToSpace(_)
            | Op::Pool(_)
            | Op::InverseHaar
            | Op::Concat
            | Op::AddPerChannel
            | Op::Multiply
            | Op::WeightedSum(_)
            | Op::MinibatchStddev
            | Op::SumPixels => Work { multiply_adds: 0, scratch: 0 },
        }
    }
}

/// More than any memory holds, so that sizes in bytes can be computed with.
const MAX_NUMBERS: u64 = 1 << 40;

/// What it takes to compute a node.
struct Work {
    /// For each number of the result.
    multiply_adds: u64,
    /// Numbers that Candle keeps meanwhile: a convolution's im2col matrix, the weights of an attention.
    scratch: u64,
}

impl Op {
    /// The name of the operation.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Constant(_) => "constant",
            Self::Conv2d(_) => "conv2d",
            Self::Linear(..) => "linear",
            Self::GroupNorm(..) => "group_norm",
            Self::AdaptiveGroupNorm { .. } => "adaptive_group_norm",
            Self::Activate(_) => "activate",
            Self::PixelNorm => "pixel_norm",
            Self::Fir(_) => "fir",
            Self::UpsampleNearest(_) => "upsample_nearest",
            Self::DepthToSpace(_) => "depth_to_space",
            Self::Pool(_) => "pool",
            Self::InverseHaar => "inverse_haar",
            Self::Concat => "concat",
            Self::AddPerChannel => "add_per_channel",
            Self::Multiply => "multiply",
            Self::WeightedSum(_) => "weighted_sum",
            Self::Attention => "attention",
            Self::Quantize(_) => "quantize",
            Self::MinibatchStddev => "minibatch_stddev",
            Self::SumPixels => "sum_pixels",
        }
    }

    /// What was given for the inputs, if it is as much as the operation takes.
    pub fn take<'a, T, const N: usize>(&self, inputs: &'a [T]) -> Result<&'a [T; N]> {
        inputs.try_into().map_err(|_| Error::shape(self.name(), format!("takes {N} inputs, got {}", inputs.len())))
    }
}

impl Graph {
    /// Whether it can be executed: every node comes after its inputs and has the shape that its operation gives, no value is
    /// empty or larger than memory can be, and every output is a node.
    pub fn check(&self) -> Result<()> {
        let mut recorder = Recorder::new();
        for (id, Node { op, inputs, shape }) in self.nodes.iter().enumerate() {
            let fail = |reason: String| Err(Error::shape(op.name(), format!("node {id} {reason}")));
            if inputs.iter().any(|&input| input >= id) {
                return fail("comes before one of its inputs".to_string());
            }
            if shape.contains(&0) {
                return fail(format!("has the empty shape {shape:?}"));
            }
            if product(shape) > MAX_NUMBERS.min(usize::MAX as u64) {
                return fail(format!("has the shape {shape:?}, which is too large"));
            }
            let value = op.apply(&mut recorder, &inputs.iter().collect::<Vec<_>>())?;
            let value = value.unwrap_or_else(|| recorder.input(op.name(), shape));
            let expected = recorder.shape(&value);
            if *shape != expected {
                return fail(format!("has the shape {shape:?}, its operation gives {expected:?}"));
            }
        }
        match self.outputs.iter().find(|(_, node)| *node >= self.nodes.len()) {
            Some((name, node)) => Err(Error::shape("output", format!("`{name}` is the missing node {node}"))),
            None => Ok(()),
        }
    }

    /// Floating-point operations of one run, see [`Node::flops`].
    pub fn flops(&self) -> u64 {
        self.nodes.iter().map(Node::flops).fold(0, u64::saturating_add)
    }

    /// Bytes of all values together, weights aside, as training keeps them for the gradient; `u64::MAX` if they are more.
    pub fn kept_bytes(&self) -> u64 {
        self.nodes.iter().map(Node::bytes).fold(0, u64::saturating_add)
    }

    /// Bytes that Candle needs at least for one run, weights aside: the most that exist at a time, each value from its
    /// making to its last use; `u64::MAX` if they are more.
    pub fn bytes(&self) -> u64 {
        let touched = self.nodes.iter().enumerate().map(|(id, node)| node.inputs.iter().copied().chain([id]));
        let outputs = self.outputs.iter().map(|&(_, output)| output);
        let last_uses = liveness::last_uses(self.nodes.len(), touched, outputs);
        let mut ends: Vec<u64> = vec![0; self.nodes.len()];
        let (mut live, mut most) = (0u64, 0);
        for (id, node) in self.nodes.iter().enumerate() {
            live = live.saturating_add(node.bytes());
            most = most.max(live.saturating_add(node.scratch_bytes()));
            if let Some(end) = last_uses[id] {
                ends[end] = ends[end].saturating_add(node.bytes());
            }
            live = live.saturating_sub(ends[id]);
        }
        most
    }
}

fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |product, &size| product.saturating_mul(size as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::ConvGeometry;

    #[test]
    fn graphs_whose_shapes_do_not_fit_are_refused() {
        let tensor =
            |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let mut recorder = Recorder::new();
        let x = recorder.input("x", &[1, 2, 8, 8]);
        let conv = Conv2d { weight: tensor(&[4, 2, 3, 3]), bias: Some(tensor(&[4])), geometry: ConvGeometry::same(3) };
        let y = recorder.conv2d(&x, &conv).unwrap();
        let sum = recorder.weighted_sum(&[(1.0, &y), (2.0, &y)]).unwrap();
        recorder.output("sum", sum);
        let graph = recorder.finish();
        graph.check().unwrap();
        let refused = |reason: &str, change: &dyn Fn(&mut Graph)| {
            let mut graph = graph.clone();
            change(&mut graph);
            let error = graph.check().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}, not {reason}");
        };
        refused("comes before one of its inputs", &|graph| graph.nodes[1].inputs = vec![2]);
        refused("has the empty shape", &|graph| graph.nodes[0].shape[3] = 0);
        refused("which is too large", &|graph| graph.nodes[0].shape = vec![1, 1 << 20, 1 << 20, 1 << 20]);
        refused("its operation gives [1, 4, 8, 8]", &|graph| graph.nodes[1].shape[1] = 5);
        refused("its operation gives [1, 4, 8, 8]", &|graph| graph.nodes[2].shape = vec![4, 64]);
        refused("takes 1 inputs, got 2", &|graph| graph.nodes[1].inputs = vec![0, 0]);
        refused("3 factors for 2 inputs", &|graph| graph.nodes[2].op = Op::WeightedSum(vec![1.0; 3]));
        refused("`sum` is the missing node 9", &|graph| graph.outputs[0].1 = 9);
        for (reason, weight, bias, geometry) in [
            ("weight takes 3 channels", [4, 3, 3, 3], 4, ConvGeometry::same(3)),
            ("the weight is 3x3, the geometry says 5x5", [4, 2, 3, 3], 4, ConvGeometry::same(5)),
            ("the weight is 3x1, the geometry says 3x3", [4, 2, 3, 1], 4, ConvGeometry::same(3)),
            ("a bias of [5]", [4, 2, 3, 3], 5, ConvGeometry::same(3)),
            ("does not fit", [4, 2, 3, 3], 4, ConvGeometry { stride: 0, ..ConvGeometry::same(3) }),
        ] {
            let conv = Conv2d { weight: tensor(&weight), bias: Some(tensor(&[bias])), geometry };
            refused(reason, &|graph| graph.nodes[1].op = Op::Conv2d(conv.clone()));
        }
    }

    #[test]
    fn flops_of_attention_are_those_of_two_products() {
        let flops = |channels: usize, size: usize| {
            let mut recorder = Recorder::new();
            let x = recorder.input("x", &[1, channels, size, size]);
            recorder.attention(&x, &x, &x).unwrap();
            recorder.finish().flops()
        };
        // 9 x 9 weights from 2 channels, and 2 channels from 9 weights at 9 places; two for each multiply-add.
        assert_eq!(flops(2, 3), 2 * (2 * 9 * 9) * 2);
        assert_eq!(flops(1 << 14, 1 << 16), u64::MAX);
    }

    #[test]
    fn bytes_are_those_of_the_values_that_exist_together() {
        let mut recorder = Recorder::new();
        let x = recorder.input("x", &[1, 2, 8, 8]);
        let up = recorder.upsample_nearest(&x, 2).unwrap();
        let smooth = recorder.activate(&up, Activation::Silu).unwrap();
        let attended = recorder.attention(&x, &x, &x).unwrap();
        recorder.output("smooth", smooth);
        recorder.output("attended", attended);
        let (small, large) = (4 * 2 * 64, 4 * 2 * 256);
        // The attention's weights, while what came of the upsampling is an output and waits; then it itself is over.
        assert_eq!(recorder.finish().bytes(), 2 * small + large + 4 * 64 * 64);

        let mut recorder = Recorder::new();
        let x = recorder.input("x", &[1, 1 << 14, 1 << 31, 1 << 31]);
        recorder.output("x", x);
        assert_eq!(recorder.finish().bytes(), u64::MAX);
    }
}
