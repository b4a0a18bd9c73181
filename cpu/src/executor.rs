//! A compiled graph with its weights and memory.

#[cfg(not(target_family = "wasm"))]
use std::time::{Duration, Instant};

use lddgan::executor;
use lddgan::graph::liveness::{self, BufferPlan};
use lddgan::{Error, Graph, Result};
use pulp::Arch;

use crate::program::{Constants, Input, Operand, Output, Program, Step, compile};
use lddgan_kernels::conv::{Algorithm, ConvLayer};
use lddgan_kernels::layout::Block;
use lddgan_kernels::workers::{Workers, on_worker, threads};

/// A graph that was compiled for this machine.
#[derive(Debug)]
pub struct Executor {
    program: Program,
    values: Values,
    workers: Workers,
}

/// The memory of a program's values.
#[derive(Debug)]
struct Values {
    /// The buffer of each value.
    buffer_of: Vec<usize>,
    buffers: Vec<Vec<Block>>,
}

impl Values {
    fn blocks<'a>(&'a self, program: &'a Program, operand: Operand) -> &'a [Block] {
        match operand {
            Operand::Value(value) => &self.buffers[self.buffer_of[value]][..program.values[value]],
            Operand::Constant(constant) => &program.constants[constant],
        }
    }
}

impl Executor {
    /// Compiles a graph: weights and memory are made here, once.
    pub fn new(graph: &Graph) -> Result<Self> {
        Self::with_options(graph, Arch::new(), &Algorithm::estimated)
    }

    /// Like [`Self::new`], with these instructions and algorithms.
    pub fn with_options(graph: &Graph, arch: Arch, algorithm: &dyn Fn(&ConvLayer) -> Algorithm) -> Result<Self> {
        Ok(Self::of(compile(graph, algorithm, Some(&mut Constants::default()))?, arch))
    }

    /// Like [`Self::new`], with constants of others.
    pub(crate) fn sharing(graph: &Graph, constants: &mut Constants) -> Result<Self> {
        Ok(Self::of(compile(graph, &Algorithm::estimated, Some(constants))?, Arch::new()))
    }

    fn of(program: Program, arch: Arch) -> Self {
        let plan = plan(&program);
        let blocks = |bytes: u64| vec![Block::default(); bytes as usize / size_of::<Block>()];
        Self {
            values: Values {
                buffers: plan.buffers.iter().map(|&bytes| blocks(bytes)).collect(),
                buffer_of: plan.buffer_of,
            },
            workers: Workers::new(arch, program.memory()),
            program,
        }
    }

    /// The bytes that an executor of this graph takes: values, weights, and what its threads need.
    pub fn bytes_of(graph: &Graph) -> Result<u64> {
        let program = compile(graph, &Algorithm::estimated, None)?;
        let blocks = program.constant_blocks as u64 + (threads() * program.memory()) as u64;
        let values: u64 = plan(&program).buffers.iter().sum();
        Ok(values + blocks * size_of::<Block>() as u64)
    }

    /// The bytes that it takes: values, weights, and what its threads need.
    pub fn bytes(&self) -> u64 {
        use lddgan::Executor as _;
        self.activation_bytes() + self.weight_bytes() + self.workers.bytes()
    }

    /// As [`lddgan::Executor::run`], natively; how long each operation took, in words.
    #[cfg(not(target_family = "wasm"))]
    pub fn profile<'a>(
        &mut self,
        inputs: impl IntoIterator<Item = (&'a str, &'a [f32])>,
    ) -> Result<Vec<(String, Duration)>> {
        self.write_inputs(inputs)?;
        let mut times = Vec::new();
        for step in 0..self.program.steps.len() {
            let started = Instant::now();
            self.step(step);
            times.push((format!("{:?}", self.program.steps[step].kernel), started.elapsed()));
        }
        Ok(times)
    }

    fn step(&mut self, step: usize) {
        let Step { kernel, reads, write } = &self.program.steps[step];
        // No step reads the buffer that it writes, because a value that is still read keeps its buffer.
        let mut written = std::mem::take(&mut self.values.buffers[self.values.buffer_of[*write]]);
        let reads: Vec<&[Block]> = reads.iter().map(|operand| self.values.blocks(&self.program, *operand)).collect();
        kernel.run(&mut self.workers, &reads, &mut written[..self.program.values[*write]]);
        self.values.buffers[self.values.buffer_of[*write]] = written;
    }

    fn write_inputs<'a>(&mut self, inputs: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<()> {
        let declared = &self.program.inputs;
        let needed = declared.iter().map(|(name, input)| (name.as_str(), input.shape.elements()));
        for (name, values) in executor::inputs_by_name(needed, inputs)? {
            let Input { shape, places } = &declared[name];
            let packed = shape.pack(values);
            for &(value, first, rows) in places {
                let pixels = shape.pixels();
                let written = &mut self.values.buffers[self.values.buffer_of[value]];
                for (part, packed) in written.chunks_exact_mut(rows * pixels).zip(packed.chunks_exact(shape.plane())) {
                    part[first * pixels..][..packed.len()].copy_from_slice(packed);
                }
            }
        }
        Ok(())
    }

    fn output(&self, name: &str) -> Result<&Output> {
        self.program.outputs.get(name).ok_or_else(|| Error::Graph(format!("there is no output `{name}`")))
    }

    /// Operations of one run.
    pub fn steps(&self) -> usize {
        self.program.steps.len()
    }
}

impl lddgan::Executor for Executor {
    type Error = Error;

    fn run<'a>(&mut self, inputs: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<()> {
        self.write_inputs(inputs)?;
        on_worker(|| (0..self.program.steps.len()).for_each(|step| self.step(step)));
        Ok(())
    }

    /// A run is done when it returns.
    async fn finish(&self) -> Result<()> {
        Ok(())
    }

    async fn read(&self, output: &str) -> Result<Vec<f32>> {
        let Output { operand, shape, .. } = self.output(output)?;
        Ok(shape.unpack(self.values.blocks(&self.program, *operand)))
    }

    fn shape(&self, output: &str) -> Result<&[usize]> {
        Ok(&self.output(output)?.dims)
    }

    fn activation_bytes(&self) -> u64 {
        self.values.buffers.iter().map(|buffer| size_of_val(buffer.as_slice()) as u64).sum()
    }

    fn weight_bytes(&self) -> u64 {
        self.program.constants.iter().map(|constant| size_of_val(constant.as_slice()) as u64).sum()
    }
}

/// Decides which values share a buffer.
fn plan(program: &Program) -> BufferPlan {
    let value = |operand: &Operand| match operand {
        Operand::Value(value) => Some(*value),
        Operand::Constant(_) => None,
    };
    let bytes: Vec<u64> = program.values.iter().map(|&blocks| blocks as u64 * size_of::<Block>() as u64).collect();
    let inputs = program.inputs.values().flat_map(|input| &input.places).map(|&(value, ..)| value);
    let inputs: std::collections::BTreeSet<_> = inputs.collect();
    let steps = program.steps.iter();
    let steps =
        steps.map(|step| liveness::Step { write: step.write, reads: step.reads.iter().filter_map(value).collect() });
    let outputs = program.outputs.values().filter_map(|output| value(&output.operand));
    BufferPlan::new(&bytes, inputs, &steps.collect::<Vec<_>>(), outputs)
}
