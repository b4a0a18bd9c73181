//! What a graph is compiled to: a list of dispatches over values and constants.

use std::collections::BTreeMap;

use super::layout::Shape;

/// Index into [`Program::values`].
pub type ValueId = usize;

/// Something that a dispatch reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    Value(ValueId),
    /// Index into the program's constants.
    Constant(usize),
}

/// A kernel and its `override` constants: the key of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// The name of its file.
    pub name: &'static str,
    pub source: &'static str,
    pub overrides: Vec<(&'static str, u32)>,
}

impl Kernel {
    /// Name and constants; also the label of the pipeline.
    pub fn key(&self) -> String {
        let overrides = self.overrides.iter().map(|(name, value)| format!(" {}={value}", name.to_lowercase()));
        overrides.fold(self.name.to_string(), |key, part| key + &part)
    }
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
}

/// A value that is given at every run.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    pub value: ValueId,
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
    /// Bytes of each value.
    pub values: Vec<u64>,
    pub steps: Vec<Step>,
    pub inputs: BTreeMap<String, Input>,
    pub outputs: BTreeMap<String, Output>,
    /// Packed weights and other constants.
    pub constants: Vec<Vec<f32>>,
}
