//! Draws images from the GPU's memory onto a canvas, without a way through the CPU.

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::gpu::Gpu;

/// Draws grids of images onto textures of one format.
#[derive(Debug)]
pub struct Painter {
    gpu: Gpu,
    pipeline: wgpu::RenderPipeline,
    params: wgpu::Buffer,
}

/// `Params` of painter.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    width: u32,
    height: u32,
    images: u32,
    columns: u32,
    grey: u32,
}

impl Painter {
    /// `format` is the surface's: an 8-bit unorm format without sRGB (`Rgba8Unorm`, `Bgra8Unorm`).
    pub async fn new(gpu: &Gpu, format: wgpu::TextureFormat) -> Result<Self> {
        let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
        let pipeline = pipeline(gpu, format);
        let params = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("painter"),
            size: size_of::<Params>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        match scope.pop().await {
            Some(error) => Err(Error::Shader { kernel: "painter".to_string(), reason: error.to_string() }),
            None => Ok(Self { gpu: gpu.clone(), pipeline, params }),
        }
    }

    /// Draws all images of an output (N, 1 or 3, H, W), nominally in \[-1, 1\], row by row, `columns` in a row, one
    /// texel for each pixel, from the top left corner of `view`; does not wait. What the grid does not cover becomes
    /// transparent. Bytes are those of [`lddgan::model::to_byte`].
    pub fn draw(&self, executor: &Executor, output: &str, view: &wgpu::TextureView, columns: u32) -> Result<()> {
        let (images, shape) = executor.region(output)?;
        if shape.channels != 1 && shape.channels != 3 {
            let reason = format!("output `{output}` has {} channels; only 1 or 3 can be drawn", shape.channels);
            return Err(Error::Graph(reason));
        }
        let params = Params {
            width: shape.width as u32,
            height: shape.height as u32,
            images: shape.batch as u32,
            columns,
            grey: u32::from(shape.channels == 1),
        };
        self.gpu.queue().write_buffer(&self.params, 0, bytemuck::bytes_of(&params));
        let bindings = self.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("painter"),
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: self.params.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: images.binding() },
            ],
        });
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        {
            let operations =
                wgpu::Operations { load: wgpu::LoadOp::Clear(wgpu::Color::TRANSPARENT), store: wgpu::StoreOp::Store };
            let attachment =
                wgpu::RenderPassColorAttachment { view, depth_slice: None, resolve_target: None, ops: operations };
            let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
                label: Some("painter"),
                color_attachments: &[Some(attachment)],
                ..Default::default()
            });
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &bindings, &[]);
            pass.draw(0..3, 0..1);
        }
        self.gpu.queue().submit([encoder.finish()]);
        self.gpu.check()
    }
}

fn pipeline(gpu: &Gpu, format: wgpu::TextureFormat) -> wgpu::RenderPipeline {
    let module = gpu.device().create_shader_module(wgpu::include_wgsl!("painter.wgsl"));
    gpu.device().create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some("painter"),
        layout: None,
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: Some("vertex"),
            compilation_options: Default::default(),
            buffers: &[],
        },
        primitive: Default::default(),
        depth_stencil: None,
        multisample: Default::default(),
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some("fragment"),
            compilation_options: Default::default(),
            targets: &[Some(format.into())],
        }),
        multiview_mask: None,
        cache: None,
    })
}
