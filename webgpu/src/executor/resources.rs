//! What a program needs on a device: pipelines, buffers and bind groups, made once.

use std::collections::HashMap;
use std::sync::Arc;

use web_time::Instant;

use super::constants::{Constant, ConstantBuffer, Shared, Uploaded};
use super::memory;
use super::program::{Kernel, Operand, Program, Step, Value};
use super::region::Region;
use crate::error::{Error, Result};
use crate::gpu::Gpu;

/// A step, ready to be encoded.
#[derive(Debug)]
pub struct Dispatch {
    pub pipeline: wgpu::ComputePipeline,
    pub bindings: wgpu::BindGroup,
    pub params_offset: u32,
    pub workgroups: [u32; 2],
}

impl Dispatch {
    pub fn encode(&self, pass: &mut wgpu::ComputePass) {
        let [width, height] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[self.params_offset]);
        pass.dispatch_workgroups(width, height, 1);
    }
}

/// Everything that a program needs on a device.
#[derive(Debug)]
pub struct Resources {
    pub values: Vec<Region>,
    pub constants: Vec<Arc<Uploaded>>,
    pub dispatches: Vec<Dispatch>,
    pub value_bytes: u64,
    pub constant_bytes: u64,
    /// Of everything but the pipelines.
    pub upload_seconds: f64,
}

impl Resources {
    /// The constants that are uploaded are shared from then on.
    pub async fn new(gpu: &Gpu, program: &Program, shared: &mut Shared) -> Result<Self> {
        let pipelines = Pipelines::new(gpu, program).await?;
        let clock = Instant::now();
        let memory = gpu.device().push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let resources = Self::with_pipelines(gpu, program, &pipelines, shared);
        if let Some(error) = memory.pop().await {
            return Err(error.into());
        }
        gpu.check()?;
        Ok(Self { upload_seconds: clock.elapsed().as_secs_f64(), ..resources? })
    }

    fn with_pipelines(gpu: &Gpu, program: &Program, pipelines: &Pipelines, shared: &mut Shared) -> Result<Self> {
        let (values, value_bytes) = values(gpu, program)?;
        let constants = constants(gpu, &program.constants, shared)?;
        let constant_bytes = constants.iter().map(|constant| constant.region.bytes).sum();
        let params = params(gpu, &program.steps)?;
        let dispatch = |(i, step): (usize, &Step)| {
            let (pipeline, layout) = pipelines.get(step)?;
            let region = |operand: &Operand| match *operand {
                Operand::Value(value) => &values[value],
                Operand::Constant(constant) => &constants[constant].region,
            };
            let storage = step.reads.iter().map(region).chain([&values[step.write]]);
            let resources = [&params].into_iter().chain(storage).map(Region::binding);
            let entries: Vec<_> =
                (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
            let descriptor = wgpu::BindGroupDescriptor { label: Some(step.kernel.name), layout, entries: &entries };
            Ok(Dispatch {
                pipeline: pipeline.clone(),
                bindings: gpu.device().create_bind_group(&descriptor),
                params_offset: i as u32 * params_stride(gpu),
                workgroups: fold_grid(gpu, step)?,
            })
        };
        let dispatches = program.steps.iter().enumerate().map(dispatch).collect::<Result<_>>()?;
        Ok(Self { values, constants, dispatches, value_bytes, constant_bytes, upload_seconds: 0.0 })
    }
}

fn exceeded(what: impl Into<String>, unit: &'static str, needed: u64, limit: u64) -> Error {
    Error::LimitExceeded { what: what.into(), unit, needed, limit }
}

/// A number of workgroups as a grid within the limit per dimension.
fn fold_grid(gpu: &Gpu, step: &Step) -> Result<[u32; 2]> {
    let limit = u64::from(gpu.device().limits().max_compute_workgroups_per_dimension);
    let width = step.workgroups.clamp(1, limit);
    let height = step.workgroups.div_ceil(width);
    if height > limit {
        let what = format!("kernel `{}`", step.kernel.key());
        return Err(exceeded(what, "workgroups", step.workgroups, limit * limit));
    }
    Ok([width as u32, height as u32])
}

fn storage(gpu: &Gpu, label: &str, bytes: u64) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: bytes,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// The most bytes that a kernel may read or write through one binding.
fn largest_binding(gpu: &Gpu) -> u64 {
    let limits = gpu.device().limits();
    limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
}

/// Where each value lies, and the bytes of all their buffers.
fn values(gpu: &Gpu, program: &Program) -> Result<(Vec<Region>, u64)> {
    let limit = largest_binding(gpu);
    let largest = program.values.iter().map(|value| value.bytes).max();
    if let Some(bytes) = largest.filter(|bytes| *bytes > limit) {
        let step = program.steps.iter().find(|step| program.values[step.write].bytes == bytes);
        let what = step.map_or("an input".to_string(), |step| format!("the result of kernel `{}`", step.kernel.name));
        return Err(exceeded(what, "bytes", bytes, limit));
    }
    let plan = memory::plan(program);
    let buffers: Vec<_> =
        plan.buffers.iter().enumerate().map(|(i, &bytes)| storage(gpu, &format!("values {i}"), bytes)).collect();
    let regions = plan.buffer_of.iter().zip(&program.values).enumerate();
    let region = |(id, (&i, value)): (usize, (&usize, &Value))| {
        let offset = program.parts.get(&id).map_or(0, |(_, offset)| *offset);
        Region { buffer: buffers[i].clone(), offset, bytes: value.bytes }
    };
    let regions = regions.map(region).collect();
    Ok((regions, plan.buffers.iter().sum()))
}

/// The constants on the device: uploads those that are not there, packed into as few buffers as possible.
#[allow(
    clippy::arc_with_non_send_sync,
    reason = "in a browser, which has one thread, devices and buffers are not `Send`"
)]
fn constants(gpu: &Gpu, constants: &[Constant], shared: &mut Shared) -> Result<Vec<Arc<Uploaded>>> {
    let limit = largest_binding(gpu);
    let alignment = u64::from(gpu.device().limits().min_storage_buffer_offset_alignment);
    // Number of the buffer and offset of each constant to be uploaded; bytes of each buffer.
    let mut places = Vec::with_capacity(constants.len());
    let mut buffers: Vec<u64> = Vec::new();
    for constant in constants.iter().filter(|constant| matches!(constant, Constant::Packed(..))) {
        let bytes = constant.bytes();
        if bytes > limit {
            return Err(exceeded("a weight", "bytes", bytes, limit));
        }
        let offset = buffers.last().map(|end| end.next_multiple_of(alignment)).filter(|offset| offset + bytes <= limit);
        match (offset, buffers.last_mut()) {
            (Some(offset), Some(end)) => {
                *end = offset + bytes;
                places.push((buffers.len() - 1, offset));
            }
            _ => {
                buffers.push(bytes);
                places.push((buffers.len() - 1, 0));
            }
        }
    }
    let buffer = |&bytes: &u64| Arc::new(ConstantBuffer(storage(gpu, "constants", bytes)));
    let buffers: Vec<_> = buffers.iter().map(buffer).collect();
    let mut places = places.into_iter();
    let mut upload = |constant: &Constant| match constant {
        Constant::Uploaded(uploaded) => Some(uploaded.clone()),
        Constant::Packed(key, packed) => {
            let (number, offset) = places.next()?;
            let buffer: &Arc<ConstantBuffer> = &buffers[number];
            gpu.queue().write_buffer(&buffer.0, offset, packed.bytes());
            let region = Region { buffer: buffer.0.clone(), offset, bytes: packed.bytes().len() as u64 };
            let uploaded = Arc::new(Uploaded { region, numbers: packed.numbers(), _owner: buffer.clone() });
            shared.insert(key.clone(), &uploaded);
            Some(uploaded)
        }
    };
    Ok(constants.iter().filter_map(&mut upload).collect())
}

/// Distance between the `Params` of two steps.
fn params_stride(gpu: &Gpu) -> u32 {
    gpu.device().limits().min_uniform_buffer_offset_alignment
}

/// One buffer with the `Params` of all steps; the region is the first step's.
fn params(gpu: &Gpu, steps: &[Step]) -> Result<Region> {
    let stride = params_stride(gpu) as usize;
    let mut bytes = vec![0; stride * steps.len().max(1)];
    for (slot, step) in bytes.chunks_mut(stride).zip(steps) {
        let most = slot.len() as u64;
        let slot = slot.get_mut(..step.params.len());
        slot.ok_or_else(|| exceeded("parameters", "bytes", step.params.len() as u64, most))?
            .copy_from_slice(&step.params);
    }
    let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("parameters"),
        size: bytes.len() as u64,
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    gpu.queue().write_buffer(&buffer, 0, &bytes);
    Ok(Region { buffer, offset: 0, bytes: stride as u64 })
}

/// The pipelines of a program by the keys of their kernels, and the bind group layouts by the number of reads.
struct Pipelines {
    pipelines: HashMap<String, wgpu::ComputePipeline>,
    layouts: HashMap<usize, wgpu::BindGroupLayout>,
}

impl Pipelines {
    async fn new(gpu: &Gpu, program: &Program) -> Result<Self> {
        let mut layouts = HashMap::new();
        let mut modules = HashMap::new();
        let mut pipelines = HashMap::new();
        let mut failures = Vec::new();
        for step in &program.steps {
            let key = step.kernel.key();
            if pipelines.contains_key(&key) {
                continue;
            }
            let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
            let layout = layouts.entry(step.reads.len()).or_insert_with(|| layout(gpu, step.reads.len()));
            let module = modules.entry(step.kernel.module_key()).or_insert_with(|| module(gpu, &step.kernel));
            pipelines.insert(key, pipeline(gpu, &step.kernel, layout, module));
            failures.push((&step.kernel, module.clone(), scope.pop()));
        }
        for (kernel, module, failure) in failures {
            if let Some(error) = failure.await {
                return Err(shader_error(gpu, kernel, &module, &error).await);
            }
        }
        Ok(Self { pipelines, layouts })
    }

    fn get(&self, step: &Step) -> Result<(&wgpu::ComputePipeline, &wgpu::BindGroupLayout)> {
        let key = step.kernel.key();
        let missing = || Error::Graph(format!("kernel `{key}` was not compiled"));
        let pipeline = self.pipelines.get(&key).ok_or_else(missing)?;
        let layout = self.layouts.get(&step.reads.len()).ok_or_else(missing)?;
        Ok((pipeline, layout))
    }
}

fn module(gpu: &Gpu, kernel: &Kernel) -> wgpu::ShaderModule {
    gpu.device().create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(kernel.name),
        source: wgpu::ShaderSource::Wgsl(kernel.source(gpu.has_subgroups()).into()),
    })
}

/// The error of a kernel that was not accepted: each message with the lines of the source that it is about, or what
/// WebGPU says about the pipeline where there are no messages.
async fn shader_error(gpu: &Gpu, kernel: &Kernel, module: &wgpu::ShaderModule, error: &wgpu::Error) -> Error {
    let source = kernel.source(gpu.has_subgroups());
    let messages: Vec<_> = module.get_compilation_info().await.messages;
    let errors = messages.iter().filter(|message| message.message_type == wgpu::CompilationMessageType::Error);
    let excerpts: Vec<String> = errors
        .map(|message| {
            let line = message.location.map_or(0, |location| location.line_number as usize);
            format!("{}{}", message.message.trim_end(), excerpt(&source, line))
        })
        .collect();
    let reason = if excerpts.is_empty() { error.to_string() } else { excerpts.join("\n") };
    Error::Shader { kernel: kernel.key(), reason }
}

/// The line of this number, counted from 1, between its neighbours.
fn excerpt(source: &str, line: usize) -> String {
    const AROUND: usize = 2;
    let near = |number: &usize| line > 0 && number.abs_diff(line) <= AROUND;
    let lines = (1..).zip(source.lines()).filter(|(number, _)| near(number));
    lines.fold(String::new(), |text, (number, content)| {
        let mark = if number == line { '>' } else { ' ' };
        text + &format!("\n{mark}{number:4} | {content}")
    })
}

/// `Params`, then what is read, then what is written.
fn layout(gpu: &Gpu, reads: usize) -> wgpu::BindGroupLayout {
    let entry = |(binding, ty): (u32, wgpu::BufferBindingType)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: ty == wgpu::BufferBindingType::Uniform,
            min_binding_size: None,
        },
        count: None,
    };
    let read = wgpu::BufferBindingType::Storage { read_only: true };
    let write = wgpu::BufferBindingType::Storage { read_only: false };
    let types = [wgpu::BufferBindingType::Uniform].into_iter().chain(std::iter::repeat_n(read, reads)).chain([write]);
    let entries: Vec<_> = (0..).zip(types).map(entry).collect();
    let label = format!("{reads} reads");
    gpu.device().create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries })
}

fn pipeline(
    gpu: &Gpu,
    kernel: &Kernel,
    layout: &wgpu::BindGroupLayout,
    module: &wgpu::ShaderModule,
) -> wgpu::ComputePipeline {
    let key = kernel.key();
    let layout = gpu.device().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(&key),
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    let constants: Vec<_> = kernel.overrides.iter().map(|&(name, value)| (name, f64::from(value))).collect();
    gpu.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&key),
        layout: Some(&layout),
        module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, ..Default::default() },
        cache: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::layout::Dtype;
    use crate::executor::program::{Layer, Value};

    /// A program of one kernel with this text.
    fn program(text: &'static str) -> Program {
        let kernel = Kernel {
            name: "broken",
            parts: vec![kernel_text!("common"), text],
            weights: None,
            sums: false,
            constants: vec![("CHUNK", 8)],
            overrides: vec![("ACTIVATION", 1)],
            images: vec![Dtype::F32],
        };
        let step =
            Step { kernel, params: vec![0; 16], reads: Vec::new(), write: 0, workgroups: 1, layer: Layer::default() };
        let value = Value { bytes: 16, numbers: Dtype::F32 };
        Program { values: vec![value], steps: vec![step], ..Default::default() }
    }

    #[test]
    fn a_kernel_that_does_not_compile_is_named_with_the_line() {
        // The error says what to install.
        let gpu = pollster::block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}"));
        let missing = "\n@compute @workgroup_size(THREADS)\nfn main() {\n    let x = nothing_of_this_name;\n}\n";
        for text in [missing, "fn main( {"] {
            let program = program(text);
            let lines = program.steps[0].kernel.source(false).lines().count();
            let error = pollster::block_on(Resources::new(&gpu, &program, &mut Shared::default())).unwrap_err();
            let Error::Shader { kernel, reason } = error else { panic!("{error}") };
            assert_eq!(kernel, "broken chunk=8 activation=1");
            let line = text.lines().find(|line| line.contains("nothing") || line.contains("( {")).unwrap();
            let number = if text == missing { lines - 1 } else { lines };
            assert!(reason.contains(&format!(">{number:4} | {line}")), "{reason}");
        }
        let error =
            pollster::block_on(Resources::new(&gpu, &program("fn other() {}"), &mut Shared::default())).unwrap_err();
        assert!(matches!(&error, Error::Shader { kernel, .. } if kernel.starts_with("broken")), "{error}");
    }
}
