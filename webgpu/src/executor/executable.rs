//! A compiled graph on a device.

use std::collections::BTreeMap;

use lddgan::{Graph, executor};

use web_time::Instant;

use super::constants::Shared;
use super::conv::ConvKernel;
use super::conv_layer::ConvLayer;
use super::layout::{Dtype, Shape};
use super::lower::lower;
use super::options::Options;
use super::profile::{DispatchTime, Work};
use super::program::{Input, Operand, Output};
use super::region::Region;
use super::resources::Resources;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::timestamps::time_passes;

/// A graph that was compiled for a device, with its weights and buffers there.
#[derive(Debug)]
pub struct Executor {
    gpu: Gpu,
    resources: Resources,
    inputs: BTreeMap<String, Input>,
    outputs: BTreeMap<String, Output>,
    /// What each dispatch does.
    work: Vec<Work>,
    compile_seconds: f64,
}

impl Executor {
    /// Compiles a graph: pipelines, weights and buffers are made here, once. Convolutions get the kernels that should be
    /// fast, values are f32.
    pub async fn new(gpu: &Gpu, graph: &Graph) -> Result<Self> {
        let software = gpu.is_software();
        let convolutions = |layer: &ConvLayer| ConvKernel::estimated(layer, software);
        Self::with_options(gpu, graph, &Options { convolutions: &convolutions, images: Dtype::F32 }).await
    }

    /// Like [`Self::new`], in another way.
    pub async fn with_options(gpu: &Gpu, graph: &Graph, options: &Options<'_>) -> Result<Self> {
        Self::sharing(gpu, graph, options, &mut Shared::default()).await
    }

    /// Like [`Self::with_options`], with constants of others.
    pub(crate) async fn sharing(gpu: &Gpu, graph: &Graph, options: &Options<'_>, shared: &mut Shared) -> Result<Self> {
        if options.images == Dtype::F16 && !gpu.has_f16() {
            return Err(Error::NoF16(gpu.name().to_string()));
        }
        let clock = Instant::now();
        let program = lower(graph, options, shared)?;
        let resources = Resources::new(gpu, &program, shared).await?;
        let compile_seconds = clock.elapsed().as_secs_f64() - resources.upload_seconds;
        let work = program.work();
        let (inputs, outputs) = (program.inputs, program.outputs);
        Ok(Self { gpu: gpu.clone(), resources, inputs, outputs, work, compile_seconds })
    }

    /// Runs the whole graph, each dispatch in a pass of its own, and waits; what each dispatch was and how long it took.
    /// Takes the inputs of [`lddgan::Executor::run`]; needs an adapter with timestamp queries.
    pub async fn profile<'a>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, &'a [f32])>,
    ) -> Result<Vec<DispatchTime>> {
        self.write_inputs(inputs)?;
        let dispatches = &self.resources.dispatches;
        let seconds = time_passes(&self.gpu, dispatches.len(), |i, pass| dispatches[i].encode(pass)).await?;
        let time = |(work, seconds): (&Work, f64)| DispatchTime { work: work.clone(), seconds };
        Ok(self.work.iter().zip(seconds).map(time).collect())
    }

    /// Submits so many runs in a row, on whatever the inputs hold, and waits; the seconds of all, by timestamp queries
    /// where the adapter has them.
    pub async fn time(&self, runs: usize) -> Result<f64> {
        let encode = |pass: &mut wgpu::ComputePass| {
            (0..runs).for_each(|_| self.resources.dispatches.iter().for_each(|dispatch| dispatch.encode(pass)));
        };
        if self.gpu.has_timestamps() {
            return Ok(time_passes(&self.gpu, 1, |_, pass| encode(pass)).await?.iter().sum());
        }
        let clock = Instant::now();
        self.submit(encode);
        self.gpu.finish().await?;
        Ok(clock.elapsed().as_secs_f64())
    }

    fn submit(&self, encode: impl FnOnce(&mut wgpu::ComputePass)) {
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        encode(&mut encoder.begin_compute_pass(&Default::default()));
        self.gpu.queue().submit([encoder.finish()]);
    }

    fn write_inputs<'a>(&self, inputs: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<()> {
        self.gpu.check()?;
        let needed = self.inputs.iter().map(|(name, input)| (name.as_str(), input.shape.elements()));
        for (name, values) in executor::inputs_by_name(needed, inputs)? {
            let Input { value, offset, shape } = &self.inputs[name];
            let region = &self.resources.values[*value];
            let bytes = shape.pack(values);
            self.gpu.queue().write_buffer(&region.buffer, region.offset + offset, bytemuck::cast_slice(&bytes));
        }
        Ok(())
    }

    /// The device that it was compiled for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// How long it took to find dispatches and to make pipelines.
    pub fn compile_seconds(&self) -> f64 {
        self.compile_seconds
    }

    /// How long it took to make the buffers and to fill them with weights.
    pub fn upload_seconds(&self) -> f64 {
        self.resources.upload_seconds
    }

    /// What each dispatch of a run does.
    pub fn work(&self) -> &[Work] {
        &self.work
    }

    /// Dispatches of one run.
    pub fn dispatches(&self) -> usize {
        self.resources.dispatches.len()
    }

    /// Where an output lies, and its shape.
    pub(crate) fn region(&self, output: &str) -> Result<(&Region, Shape)> {
        let Output { operand, shape, .. } = self.output(output)?;
        let region = match *operand {
            Operand::Value(value) => &self.resources.values[value],
            Operand::Constant(constant) => &self.resources.constants[constant].region,
        };
        Ok((region, *shape))
    }

    fn output(&self, name: &str) -> Result<&Output> {
        self.outputs.get(name).ok_or_else(|| Error::Graph(format!("there is no output `{name}`")))
    }
}

impl lddgan::Executor for Executor {
    type Error = Error;

    /// Submits the whole graph as one command buffer, and does not wait.
    fn run<'a>(&mut self, inputs: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<()> {
        self.write_inputs(inputs)?;
        self.submit(|pass| self.resources.dispatches.iter().for_each(|dispatch| dispatch.encode(pass)));
        Ok(())
    }

    async fn finish(&self) -> Result<()> {
        self.gpu.finish().await
    }

    async fn read(&self, output: &str) -> Result<Vec<f32>> {
        let (region, shape) = self.region(output)?;
        let bytes = self.gpu.read(&region.buffer, region.offset, region.bytes, &format!("output `{output}`")).await?;
        Ok(shape.unpack(&bytemuck::pod_collect_to_vec(&bytes)))
    }

    fn shape(&self, output: &str) -> Result<&[usize]> {
        Ok(&self.output(output)?.dims)
    }

    fn activation_bytes(&self) -> u64 {
        self.resources.value_bytes
    }

    fn weight_bytes(&self) -> u64 {
        self.resources.constant_bytes
    }
}

impl Drop for Executor {
    /// A browser would keep the memory until it collects its garbage.
    fn drop(&mut self) {
        self.resources.values.iter().for_each(|region| region.buffer.destroy());
    }
}
