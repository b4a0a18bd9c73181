//! Makes faces with WebGPU or with Candle.

use candle_core::Device;
use lddgan::Model;
use lddgan::sampler::to_byte;

use super::adapter;
use super::clock::now;
use crate::page::protocol::ExecutorInfo;
use crate::page::settings::ExecutorChoice;
use crate::{Error, Gpu, GpuSampler, Recovery};

/// Faces that WebGPU makes at once. More would not be faster, and all appear together.
const LARGEST_BATCH: usize = 16;

/// A model and who executes it.
pub struct Sampler {
    model: Model,
    /// None: Candle computes.
    webgpu: Option<WebGpu>,
    /// What the visitor should know about this choice.
    note: Option<String>,
}

struct WebGpu {
    sampler: GpuSampler,
    name: String,
}

/// Faces as RGBA, in the order of their seeds.
pub struct Batch {
    pub images: Vec<Vec<u8>>,
    pub milliseconds: f64,
    /// Whether the executor has something new to say about itself.
    pub recovered: bool,
}

impl Sampler {
    /// Chooses the executor that runs here.
    pub async fn new(model: Model, choice: ExecutorChoice) -> Self {
        let (webgpu, note) = match choice {
            ExecutorChoice::Candle => (None, None),
            _ => webgpu(choice).await,
        };
        Self { model, webgpu, note }
    }

    pub fn info(&self) -> ExecutorInfo {
        let name = match &self.webgpu {
            Some(WebGpu { sampler, name }) if sampler.gpu().is_software() => format!("WebGPU, {name} (software)"),
            Some(WebGpu { name, .. }) => format!("WebGPU, {name}"),
            None => "Candle, WebAssembly on the CPU".to_owned(),
        };
        ExecutorInfo { name, note: self.note.clone() }
    }

    /// How many faces are best made at once.
    pub fn batch(&self) -> usize {
        self.webgpu.as_ref().map_or(1, |webgpu| webgpu.sampler.largest_batch())
    }

    /// Makes the faces of these seeds; none if WebGPU could not, and the next attempt will be another.
    pub async fn sample(&mut self, seeds: &[u64]) -> Result<Option<Batch>, String> {
        let made = match &mut self.webgpu {
            Some(webgpu) => webgpu.sample(&self.model, seeds).await,
            None => {
                let start = now();
                let values = self.sample_with_candle(seeds);
                let values = values.map_err(|error| format!("Candle cannot make a face: {error}."))?;
                Ok((values, now() - start))
            }
        };
        let recoveries = self.webgpu.as_mut().map(|webgpu| webgpu.sampler.take_recoveries()).unwrap_or_default();
        let recovered = recoveries.iter().any(|recovery| matches!(recovery, Recovery::Reopened { .. }));
        if recovered {
            self.note = Some("The browser lost the GPU and found it again.".to_owned());
        }
        match made {
            Ok((values, milliseconds)) => Ok(Some(Batch { images: self.images(&values), milliseconds, recovered })),
            Err(error) => {
                self.webgpu = None;
                self.note = Some(format!("{}. Candle took over; it is slower.", sentence(&error)));
                Ok(None)
            }
        }
    }

    fn sample_with_candle(&self, seeds: &[u64]) -> lddgan::Result<Vec<f32>> {
        let image = self.model.sample_seeds(seeds, &Device::Cpu)?.image;
        Ok(image.flatten_all()?.to_vec1()?)
    }

    fn images(&self, values: &[f32]) -> Vec<Vec<u8>> {
        let config = &self.model.config.autoencoder;
        let (channels, pixels) = (config.image_channels, config.image_size * config.image_size);
        values.chunks(channels * pixels).map(|image| rgba(image, channels, pixels)).collect()
    }
}

impl WebGpu {
    fn new(gpu: Gpu, name: String, largest_batch: usize) -> Self {
        Self { sampler: GpuSampler::new(gpu, largest_batch), name }
    }

    /// The values of the images, and the milliseconds that they took once everything was compiled.
    async fn sample(&mut self, model: &Model, seeds: &[u64]) -> crate::Result<(Vec<f32>, f64)> {
        self.sampler.prepare(model, seeds.len()).await?;
        let start = now();
        let images = self.sampler.sample(model, seeds, async |executor| executor.read("image").await).await?;
        Ok((images.concat(), now() - start))
    }
}

/// WebGPU if this choice allows it here, and what to say about it.
async fn webgpu(choice: ExecutorChoice) -> (Option<WebGpu>, Option<String>) {
    let gpu = match Gpu::new().await {
        Ok(gpu) => gpu,
        Err(error) => {
            return (None, Some(format!("{}. Candle makes the faces; it is slower.", sentence(&error))));
        }
    };
    let name = adapter::name().await.unwrap_or_else(|| gpu.name().to_owned());
    if !gpu.is_software() {
        return (Some(WebGpu::new(gpu, name, LARGEST_BATCH)), None);
    }
    // SwiftShader, Chromium's software adapter, takes about 25 times as long as Candle.
    if choice == ExecutorChoice::Auto {
        return (None, Some(format!("Used because WebGPU is only a software adapter here ({name}), which is slower.")));
    }
    let note = "A software adapter computes on the CPU: it is much slower than a GPU.".to_owned();
    (Some(WebGpu::new(gpu, name, 1)), Some(note))
}

/// An error of WebGPU in words for a visitor.
fn sentence(error: &Error) -> String {
    match error {
        Error::NoAdapter(_) => "This browser offers no WebGPU".to_owned(),
        Error::DeviceLost(_) => "The browser lost the GPU".to_owned(),
        error => format!("WebGPU cannot run this model ({error})"),
    }
}

/// The bytes of a canvas, from one plane of pixels for each channel: red, green and blue, or gray.
fn rgba(planes: &[f32], channels: usize, pixels: usize) -> Vec<u8> {
    let plane = |color: usize| color.min(channels - 1) * pixels;
    let pixel = |index| {
        let color = |color| planes.get(plane(color) + index).copied().map_or(0, to_byte);
        [color(0), color(1), color(2), u8::MAX]
    };
    (0..pixels).flat_map(pixel).collect()
}
