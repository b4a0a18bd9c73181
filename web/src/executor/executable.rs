//! A compiled graph on a device.

use std::collections::BTreeMap;

use lddgan::Graph;

use super::layout::Shape;
use super::lower::lower;
use super::program::{Input, Operand, Output};
use super::resources::{Region, Resources};
use crate::error::{Error, Result};
use crate::gpu::Gpu;

/// A graph that was compiled for a device, with its weights and buffers there.
#[derive(Debug)]
pub struct Executor {
    gpu: Gpu,
    resources: Resources,
    inputs: BTreeMap<String, Input>,
    outputs: BTreeMap<String, Output>,
}

impl Executor {
    /// Compiles a graph: pipelines, weights and buffers are made here, once.
    pub async fn new(gpu: &Gpu, graph: &Graph) -> Result<Self> {
        let program = lower(graph)?;
        let resources = Resources::new(gpu, &program).await?;
        Ok(Self { gpu: gpu.clone(), resources, inputs: program.inputs, outputs: program.outputs })
    }

    /// Writes the inputs (name, values in the order of the graph's shapes) and submits the whole graph as one command
    /// buffer; does not wait. Every input of the graph must be given.
    pub fn run<'a>(&self, inputs: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<()> {
        self.gpu.check()?;
        let inputs: BTreeMap<&str, &[f32]> = inputs.into_iter().collect();
        if let Some(name) = inputs.keys().find(|name| !self.inputs.contains_key(**name)) {
            return Err(Error::Input { name: name.to_string(), reason: "the graph has no such input".to_string() });
        }
        for (name, input) in &self.inputs {
            self.write(name, input, inputs.get(name.as_str()))?;
        }
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for dispatch in &self.resources.dispatches {
                let [width, height] = dispatch.workgroups;
                pass.set_pipeline(&dispatch.pipeline);
                pass.set_bind_group(0, &dispatch.bindings, &[dispatch.params_offset]);
                pass.dispatch_workgroups(width, height, 1);
            }
        }
        self.gpu.queue().submit([encoder.finish()]);
        Ok(())
    }

    fn write(&self, name: &str, input: &Input, values: Option<&&[f32]>) -> Result<()> {
        let fail = |reason: String| Error::Input { name: name.to_string(), reason };
        let values = values.ok_or_else(|| fail("was not given".to_string()))?;
        let needed = input.shape.elements();
        if values.len() != needed {
            return Err(fail(format!("{} values were given, {needed} are needed", values.len())));
        }
        let Region { buffer, offset, .. } = &self.resources.values[input.value];
        self.gpu.queue().write_buffer(buffer, *offset, bytemuck::cast_slice(&input.shape.pack(values)));
        Ok(())
    }

    /// Waits for the last run and reads an output, in the order of its shape.
    pub async fn read(&self, output: &str) -> Result<Vec<f32>> {
        let (region, shape) = self.region(output)?;
        let staging = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: region.bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&region.buffer, region.offset, &staging, 0, region.bytes);
        self.gpu.queue().submit([encoder.finish()]);

        let (sender, receiver) = futures_channel::oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |mapped| {
            // Nobody waits any more if the receiver is gone.
            sender.send(mapped).unwrap_or_default();
        });
        self.gpu.poll()?;
        let mapped = receiver.await;
        // A cause that WebGPU reported says more than that the mapping failed.
        self.gpu.check()?;
        let failed = |reason: String| Error::WebGpu(format!("output `{output}` cannot be read: {reason}"));
        mapped.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|error| failed(error.to_string()))?;
        Ok(shape.unpack(&bytemuck::pod_collect_to_vec(&view)))
    }

    /// The shape of an output, batch first.
    pub fn shape(&self, output: &str) -> Result<&[usize]> {
        Ok(&self.output(output)?.dims)
    }

    /// Bytes of all buffers that hold values between dispatches.
    pub fn activation_bytes(&self) -> u64 {
        self.resources.value_bytes
    }

    /// Bytes of weights and other constants.
    pub fn weight_bytes(&self) -> u64 {
        self.resources.constant_bytes
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
            Operand::Constant(constant) => &self.resources.constants[constant],
        };
        Ok((region, *shape))
    }

    fn output(&self, name: &str) -> Result<&Output> {
        self.outputs.get(name).ok_or_else(|| Error::Graph(format!("there is no output `{name}`")))
    }
}
