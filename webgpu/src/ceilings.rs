//! What an adapter reaches at most, measured: the rate of multiply-adds and that of copies.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::timestamps::time_passes;

/// What no kernel can exceed by much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// Operations of f32 multiply-adds on registers, two for each.
    pub flops_per_second: f64,
    /// Bytes read and written by a copy that no cache holds.
    pub bytes_per_second: f64,
}

/// Threads of a workgroup, in both kernels.
const THREADS: u32 = 256;
/// Each thread moves 16 bytes: 64 MiB are read and 64 MiB written.
const WORKGROUPS: u32 = (64 << 20) / 16 / THREADS;
/// Operations of a thread in a round, two for each multiply-add.
const FLOPS_PER_ROUND: f64 = 8.0 * 4.0 * 4.0 * 2.0;
/// The best of so many passes counts.
const PASSES: usize = 5;
/// A pass should take so long, so that timestamps and starting cost nothing.
const MIN_PASS_SECONDS: f64 = 5e-3;

/// Measures both ceilings; needs an adapter with timestamp queries. Takes less than a second on a GPU.
pub async fn measure(gpu: &Gpu) -> Result<Ceilings> {
    let bench = Bench::new(gpu).await?;
    let copy = bench.time("copy", WORKGROUPS, 0).await?;
    let bytes = f64::from(WORKGROUPS) * f64::from(THREADS) * 32.0;
    // Few threads at first, for adapters that are slow.
    let (mut workgroups, mut rounds) = (256, 8);
    let mut seconds = bench.time("multiply_add", workgroups, rounds).await?;
    while seconds < MIN_PASS_SECONDS && rounds < 1 << 20 {
        if workgroups < WORKGROUPS / 4 {
            workgroups *= 4;
        } else {
            rounds *= 4;
        }
        seconds = bench.time("multiply_add", workgroups, rounds).await?;
    }
    let flops = f64::from(workgroups) * f64::from(THREADS) * f64::from(rounds) * FLOPS_PER_ROUND;
    Ok(Ceilings { flops_per_second: flops / seconds, bytes_per_second: bytes / copy })
}

/// The buffers of the measurement, and its kernels.
struct Bench<'a> {
    gpu: &'a Gpu,
    module: wgpu::ShaderModule,
    layout: wgpu::PipelineLayout,
    bindings: wgpu::BindGroup,
    params: wgpu::Buffer,
}

impl<'a> Bench<'a> {
    async fn new(gpu: &'a Gpu) -> Result<Self> {
        let device = gpu.device();
        let buffer = |size: u64, usage: wgpu::BufferUsages| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("ceilings"),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let bytes = u64::from(WORKGROUPS) * u64::from(THREADS) * 16;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let (x, y) = (buffer(bytes, wgpu::BufferUsages::STORAGE), buffer(bytes, wgpu::BufferUsages::STORAGE));
        let params = buffer(8, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        if let Some(error) = memory.pop().await {
            return Err(error.into());
        }
        let entry = |(binding, ty): (u32, wgpu::BufferBindingType)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let storage = |read_only: bool| wgpu::BufferBindingType::Storage { read_only };
        let entries = [(0, wgpu::BufferBindingType::Uniform), (1, storage(true)), (2, storage(false))].map(entry);
        let group =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let entries = [(0, &params), (1, &x), (2, &y)]
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
        let bindings =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &group, entries: &entries });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("ceilings"),
            bind_group_layouts: &[Some(&group)],
            immediate_size: 0,
        });
        let module = device.create_shader_module(wgpu::include_wgsl!("ceilings.wgsl"));
        Ok(Self { gpu, module, layout, bindings, params })
    }

    /// The seconds of the fastest of some passes, after one that does not count.
    async fn time(&self, kernel: &str, workgroups: u32, rounds: u32) -> Result<f64> {
        let scope = self.gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
        let pipeline = self.gpu.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel),
            layout: Some(&self.layout),
            module: &self.module,
            entry_point: Some(kernel),
            compilation_options: Default::default(),
            cache: None,
        });
        if let Some(error) = scope.pop().await {
            return Err(Error::Shader { kernel: kernel.to_string(), reason: error.to_string() });
        }
        // A factor below one keeps the sums finite.
        let params: [u32; 2] = [rounds, 0.5f32.to_bits()];
        self.gpu.queue().write_buffer(&self.params, 0, bytemuck::cast_slice(&params));
        let seconds = time_passes(self.gpu, 1 + PASSES, |_, pass| {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            pass.dispatch_workgroups(workgroups, 1, 1);
        });
        Ok(seconds.await?.into_iter().skip(1).fold(f64::INFINITY, f64::min))
    }
}
