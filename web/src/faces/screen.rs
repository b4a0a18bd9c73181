//! A canvas that nobody sees, onto which faces are drawn that never leave the GPU's memory.

use lddgan::Stage;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{ImageBitmap, OffscreenCanvas, OffscreenCanvasRenderingContext2d};
use wgpu::{CurrentSurfaceTexture, Surface, SurfaceTarget, TextureFormat};

use super::pixels::rgba;
use crate::format::describe;
use lddgan::Executor as _;
use lddgan_webgpu::{Error, Executor, Gpu, Painter};

const FORMAT: TextureFormat = TextureFormat::Rgba8Unorm;
/// Images in a row of the canvas: few enough for the largest texture that every device has.
pub const COLUMNS: usize = 4;

pub struct Screen {
    canvas: OffscreenCanvas,
    /// What belongs to a device; another one after a loss.
    drawing: Option<Drawing>,
    /// Whether what was drawn was compared with what was computed: some browsers lose it on the way.
    verified: bool,
}

struct Drawing {
    device: wgpu::Device,
    surface: Surface<'static>,
    painter: Painter,
}

impl Screen {
    /// None where the browser has no such canvas.
    pub fn new() -> Option<Self> {
        Some(Self { canvas: OffscreenCanvas::new(1, 1).ok()?, drawing: None, verified: false })
    }

    /// The images that the executor's run makes, [`COLUMNS`] in a row; those of the first call are verified.
    pub async fn draw(&mut self, executor: &Executor) -> lddgan_webgpu::Result<ImageBitmap> {
        let gpu = executor.gpu();
        let drawing = match self.drawing.take().filter(|drawing| drawing.device == *gpu.device()) {
            Some(drawing) => drawing,
            None => Drawing::new(gpu, &self.canvas).await?,
        };
        let drawing = self.drawing.insert(drawing);
        let image = Stage::Image.to_string();
        let shape = executor.shape(&image)?;
        let (count, height, width) = (shape[0], shape[2], shape[3]);
        let config = wgpu::SurfaceConfiguration {
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
            format: FORMAT,
            color_space: wgpu::SurfaceColorSpace::Auto,
            width: (width * COLUMNS.min(count)) as u32,
            height: (height * count.div_ceil(COLUMNS)) as u32,
            present_mode: wgpu::PresentMode::Fifo,
            desired_maximum_frame_latency: 2,
            alpha_mode: wgpu::CompositeAlphaMode::Opaque,
            view_formats: Vec::new(),
        };
        drawing.surface.configure(gpu.device(), &config);
        let (CurrentSurfaceTexture::Success(texture) | CurrentSurfaceTexture::Suboptimal(texture)) =
            drawing.surface.get_current_texture()
        else {
            return Err(failed("the canvas gives nothing to draw on"));
        };
        let view = texture.texture.create_view(&Default::default());
        drawing.painter.draw(executor, &image, &view, COLUMNS.min(count) as u32)?;
        // Taken at once: what was drawn is there until the browser has its turn.
        let picture = self.canvas.transfer_to_image_bitmap().map_err(|error| failed(&describe(error)))?;
        if !self.verified {
            let values = executor.read(&image).await?;
            let images = values.chunks(values.len() / count).map(|image| rgba(image, shape[1], height * width));
            let shown = shows(&picture, images, width, height).map_err(|error| failed(&describe(error)))?;
            self.verified = shown.then_some(true).ok_or_else(|| failed("the browser shows something else"))?;
        }
        Ok(picture)
    }
}

/// Whether these images, as RGBA, are on the picture, but for rounding.
fn shows(
    picture: &ImageBitmap,
    images: impl Iterator<Item = Vec<u8>>,
    width: usize,
    height: usize,
) -> Result<bool, JsValue> {
    const TOLERANCE: u8 = 2;
    let canvas = OffscreenCanvas::new(picture.width(), picture.height())?;
    let context = canvas.get_context("2d")?.ok_or("the browser has no canvas to draw on")?;
    let context: OffscreenCanvasRenderingContext2d = context.unchecked_into();
    context.draw_image_with_image_bitmap(picture, 0.0, 0.0)?;
    for (i, image) in images.enumerate() {
        let [x, y] = [i % COLUMNS * width, i / COLUMNS * height].map(|place| place as f64);
        let drawn = context.get_image_data(x, y, width as f64, height as f64)?.data();
        if drawn.iter().zip(&image).any(|(drawn, computed)| drawn.abs_diff(*computed) > TOLERANCE) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Drawing {
    async fn new(gpu: &Gpu, canvas: &OffscreenCanvas) -> lddgan_webgpu::Result<Self> {
        let surface = gpu.instance().create_surface(SurfaceTarget::OffscreenCanvas(canvas.clone()));
        let surface = surface.map_err(|error| failed(&error.to_string()))?;
        let painter = Painter::new(gpu, FORMAT).await?;
        Ok(Self { device: gpu.device().clone(), surface, painter })
    }
}

fn failed(reason: &str) -> Error {
    Error::WebGpu(format!("faces cannot be drawn: {reason}"))
}
