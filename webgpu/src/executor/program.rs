//! What a graph is compiled to: a list of dispatches over values and constants.

use std::collections::{BTreeMap, HashMap};

use lddgan::backend::{LEAKY_SLOPE, SQUARES_EPSILON};

use super::constants::Constant;
use super::conv_layer::ConvLayer;
use super::layout::{Dtype, Shape};
use super::profile::Work;
use super::unroll::unroll;

/// Index into [`Program::values`].
pub type ValueId = usize;

/// Something that a dispatch reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operand {
    Value(ValueId),
    /// Index into the program's constants.
    Constant(usize),
}

/// A kernel and its constants: the key of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// The name of its file.
    pub name: &'static str,
    /// The texts of its module, one after the other.
    pub parts: Vec<&'static str>,
    /// The type of its weights, if it has any.
    pub weights: Option<Dtype>,
    /// Constants that size arrays, which `override` cannot.
    pub constants: Vec<(&'static str, u32)>,
    pub overrides: Vec<(&'static str, u32)>,
    /// Whether its workgroups add up what their threads have.
    pub sums: bool,
    /// The types of the images that are read and written, by binding: `Read1`, `Read2`, …, `Written`.
    pub images: Vec<Dtype>,
}

impl Kernel {
    /// Name and all constants; also the label of the pipeline.
    pub fn key(&self) -> String {
        self.module_key() + &listed(&self.overrides)
    }

    /// What tells the module from others.
    pub fn module_key(&self) -> String {
        let weights = if self.weights == Some(Dtype::F16) { " f16 weights" } else { "" };
        let images: Vec<&str> = self.images.iter().map(|numbers| numbers.name()).collect();
        let images = if images.contains(&"f16") { format!(" images={}", images.join(",")) } else { String::new() };
        format!("{}{weights}{images}{}", self.name, listed(&self.constants))
    }

    /// The text of the module, for an adapter with or without subgroups.
    pub fn source(&self, subgroups: bool) -> String {
        let constants = self.constants.iter().map(|(name, value)| format!("const {name}: u32 = {value}u;\n"));
        let sum = self.sums.then_some(if subgroups {
            kernel_text!("workgroup_sum_subgroups")
        } else {
            kernel_text!("workgroup_sum")
        });
        let parts = self.weighting().into_iter().chain(sum).chain(self.parts.iter().copied()).map(str::to_string);
        let text: String = [self.aliases(), shared_constants()].into_iter().chain(constants).chain(parts).collect();
        unroll(&text, &self.constants)
    }

    /// How weights are read and multiplied with the first image: in f16 where both are that.
    fn weighting(&self) -> Vec<&'static str> {
        const F32: &str = kernel_text!("multiply_add_f32");
        const F16: &str = kernel_text!("multiply_add_f16");
        let half = self.images.first() == Some(&Dtype::F16);
        match self.weights {
            Some(Dtype::F32) => vec![F32, kernel_text!("columns_f32")],
            Some(Dtype::F16) => vec![if half { F16 } else { F32 }, kernel_text!("columns_f16")],
            None => Vec::new(),
        }
    }

    /// Names for the types of the images.
    fn aliases(&self) -> String {
        let enable = if self.images.contains(&Dtype::F16) { "enable f16;\n" } else { "" };
        let alias = |(i, numbers): (usize, &Dtype)| {
            let name = if i + 1 == self.images.len() { "Written".to_string() } else { format!("Read{}", i + 1) };
            format!("alias {name} = vec4<{}>;\n", numbers.name())
        };
        self.images.iter().enumerate().map(alias).fold(enable.to_string(), |text, alias| text + &alias)
    }
}

/// What all backends have in common.
fn shared_constants() -> String {
    format!("const LEAKY_SLOPE: f32 = {LEAKY_SLOPE:?};\nconst SQUARES_EPSILON: f32 = {SQUARES_EPSILON:?};\n")
}

fn listed(constants: &[(&str, u32)]) -> String {
    constants.iter().map(|(name, value)| format!(" {}={value}", name.to_lowercase())).collect()
}

/// One dispatch.
#[derive(Debug, Clone)]
pub struct Step {
    pub kernel: Kernel,
    /// The bytes of the kernel's `Params`.
    pub params: Vec<u8>,
    /// Bound from binding 1 on; binding 0 is `Params`.
    pub reads: Vec<Operand>,
    /// Bound after the reads.
    pub write: ValueId,
    /// Workgroups before folding.
    pub workgroups: u64,
    pub layer: Layer,
}

/// The layer that a step belongs to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layer {
    /// Shape of the (first) input.
    pub x: Shape,
    /// Shape of the result.
    pub y: Shape,
    /// As [`lddgan::graph::Node::flops`] counts them.
    pub flops: u64,
    /// Bytes of what is bound but not read, because it belongs to other layers.
    pub unread: u64,
    pub conv: Option<ConvLayer>,
}

/// Something that is computed or given.
#[derive(Debug, Clone, Copy)]
pub struct Value {
    pub bytes: u64,
    pub numbers: Dtype,
}

/// A value that is given at every run.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    pub value: ValueId,
    /// Where it starts in the value, in bytes: inputs may share one.
    pub offset: u64,
    pub shape: Shape,
}

/// A named result.
#[derive(Debug, Clone)]
pub struct Output {
    pub operand: Operand,
    pub shape: Shape,
    /// The shape as the graph has it.
    pub dims: Vec<usize>,
}

/// A compiled graph, independent of any device.
#[derive(Debug, Default)]
pub struct Program {
    pub values: Vec<Value>,
    /// The values that lie in another one: in which, and from which byte on.
    pub parts: HashMap<ValueId, (ValueId, u64)>,
    pub steps: Vec<Step>,
    pub inputs: BTreeMap<String, Input>,
    pub outputs: BTreeMap<String, Output>,
    /// Weights and other constants.
    pub constants: Vec<Constant>,
}

impl Program {
    /// What each step does. Its bytes are those of all that it reads and of what it writes, each once.
    pub fn work(&self) -> Vec<Work> {
        let bytes = |operand: &Operand| match *operand {
            Operand::Value(value) => self.values[value].bytes,
            Operand::Constant(constant) => self.constants[constant].bytes(),
        };
        let work = |step: &Step| {
            let mut reads = step.reads.clone();
            reads.sort_unstable();
            reads.dedup();
            let Layer { x, y, flops, unread, conv } = step.layer;
            let bytes = reads.iter().map(bytes).sum::<u64>() + self.values[step.write].bytes - unread;
            Work { kernel: step.kernel.key(), x: x.dims(), y: y.dims(), flops, bytes, conv }
        };
        self.steps.iter().map(work).collect()
    }
}
