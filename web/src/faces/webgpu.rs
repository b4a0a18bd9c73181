//! Makes faces with WebGPU.

use std::collections::BTreeSet;

use candle_core::Tensor;
use lddgan::check::{Golden, Report};
use lddgan::hash::sha256;
use lddgan::{Model, Recipe, Sampler, Stage, Trajectory};

use web_sys::ImageBitmap;

use super::Speed;
use super::adapter::{self, Adapter};
use super::memory::{self, Memory};
use super::report::empty;
use super::screen::Screen;
use crate::choices::ExecutorChoice;
use crate::format::{capitalised, size};
use crate::time::now;
use lddgan::Executor as _;
use lddgan_webgpu::executor::{ConvLayer, ConvTimes, Dtype};
use lddgan_webgpu::{Compiler, Error, Executor, Gpu, Recovery};

/// Faces that WebGPU makes at once. More would not be faster, and all appear together.
const LARGEST_BATCH: usize = 16;

/// Milliseconds of a visit that may go into timing kernels; the next visit goes on from there.
const TUNING: f64 = 3000.0;

pub struct WebGpu {
    sampler: Sampler<Compiler>,
    /// The adapter's, for people.
    name: String,
    /// What the adapter's kernel times are kept by.
    key: String,
    /// What is known about it, of this visit and of earlier ones.
    memory: Memory,
    /// What was tried to be verified in this visit.
    tried: BTreeSet<String>,
    /// Whether faces in f16 were wrong.
    distrusts_f16: bool,
    /// None where faces cannot be drawn without a way through the CPU.
    screen: Option<Screen>,
    /// Milliseconds of this visit that may still go into timing kernels.
    tuning: f64,
    /// Whether times were found that what is compiled does not make use of.
    found: bool,
}

impl WebGpu {
    fn new(Adapter { gpu, name, identity }: Adapter, largest_batch: usize) -> Self {
        let sampler = Sampler::new(Compiler::new(gpu), largest_batch);
        Self {
            sampler,
            name,
            key: ConvTimes::key(&identity),
            memory: Memory::default(),
            tried: BTreeSet::new(),
            distrusts_f16: false,
            screen: Screen::new(),
            tuning: 0.0,
            found: false,
        }
    }

    pub fn describe(&self) -> String {
        let software = if self.gpu().is_software() { " (software)" } else { "" };
        format!("WebGPU, {}{software}", self.name)
    }

    pub fn largest_batch(&self) -> usize {
        self.sampler.largest_batch()
    }

    /// Recalls what earlier visits found out. Allows [`Self::tune`], and takes the kernels that were the fastest; software
    /// adapters are too slow for it, unless that is what was chosen.
    pub async fn recall(&mut self, choice: Option<bool>) {
        self.memory = memory::read(&self.key).await.unwrap_or_default();
        if choice.unwrap_or(!self.gpu().is_software()) {
            self.tuning = TUNING;
            self.use_times(self.memory.times.clone());
        }
    }

    /// What was not compared yet: the model of this SHA-256, in these numbers, with these kernels.
    pub fn unverified(&self, model: &str) -> Option<String> {
        let times = serde_json::to_string(self.sampler.compiler().times()).unwrap_or_default();
        let subject = format!("{model} {} {}", self.dtype().name(), &sha256(times.as_bytes())[..16]);
        (!self.memory.verified.contains(&subject) && !self.tried.contains(&subject)).then_some(subject)
    }

    /// Remembers that it was compared; for later visits too if it was `right`.
    pub async fn set_verified(&mut self, subject: String, right: bool) {
        if right {
            self.memory.verified.insert(subject.clone());
            self.keep().await;
        }
        self.tried.insert(subject);
    }

    /// Computes more carefully from now on, after wrong faces: with the kernels that are the default, then in f32. Tells
    /// what was given up; none if nothing is left.
    pub fn distrust(&mut self) -> Option<&'static str> {
        if *self.sampler.compiler().times() != ConvTimes::default() {
            self.tuning = 0.0;
            self.use_times(ConvTimes::default());
            return Some("the fastest kernels");
        }
        if self.dtype() != Dtype::F32 {
            self.distrusts_f16 = true;
            self.use_images(Dtype::F32);
            return Some("f16");
        }
        None
    }

    /// A browser that keeps nothing finds everything out again at the next visit.
    async fn keep(&self) {
        drop(memory::write(&self.key, &self.memory).await);
    }

    /// Times the kernels of what was compiled, while `idle` says that there is nothing else to do. The number of
    /// convolutions that are timed now, and of all, if there are more than before.
    pub async fn tune(&mut self, idle: impl Fn() -> bool) -> Option<[usize; 2]> {
        let mut news = false;
        let layers = convolutions(&self.sampler);
        while self.tuning > 0.0 && idle() {
            let start = now();
            let measured = self.sampler.compiler_mut().measure(&layers, &idle).await;
            self.tuning -= now() - start;
            match measured {
                Ok(true) => news = true,
                Ok(false) => break,
                // If the device is lost, the next face will show that.
                Err(_) => self.tuning = 0.0,
            }
        }
        let [timed, all] = timed(&self.sampler);
        if news {
            self.memory.times = self.sampler.compiler().times().clone();
            self.keep().await;
        }
        self.found |= news;
        if self.found && (timed == all || self.tuning <= 0.0) {
            self.found = false;
            self.sampler.forget();
        }
        news.then_some([timed, all])
    }

    /// Keeps images between the kernels in these numbers from now on, if the GPU has them.
    pub fn set_dtype(&mut self, dtype: Dtype) {
        let has = dtype == Dtype::F32 || self.has_f16();
        self.use_images(if has { dtype } else { Dtype::F32 });
    }

    fn use_images(&mut self, images: Dtype) {
        if self.dtype() != images {
            self.sampler.compiler_mut().use_images(images);
            self.sampler.forget();
        }
    }

    fn use_times(&mut self, times: ConvTimes) {
        self.sampler.compiler_mut().use_times(times);
        self.sampler.forget();
    }

    fn gpu(&self) -> &Gpu {
        self.sampler.compiler().gpu()
    }

    /// The numbers of images between the kernels.
    pub fn dtype(&self) -> Dtype {
        self.sampler.compiler().images()
    }

    /// Whether the GPU has f16 numbers.
    pub fn has_f16(&self) -> bool {
        self.gpu().has_f16() && !self.distrusts_f16
    }

    /// Whether the GPU was lost since the last call, and opened again.
    pub fn take_reopened(&mut self) -> bool {
        self.sampler
            .compiler_mut()
            .take_recoveries()
            .iter()
            .any(|recovery| matches!(recovery, Recovery::Reopened { .. }))
    }

    /// The values of the images.
    pub async fn sample(
        &mut self,
        model: &Model,
        recipes: &[Recipe],
        speed: &mut Speed,
    ) -> lddgan_webgpu::Result<Vec<f32>> {
        let image = Stage::Image.to_string();
        let images = sample(&mut self.sampler, model, recipes, speed, async |executor| executor.read(&image).await);
        Ok(images.await?.concat())
    }

    /// Whether [`Self::draw`] can be used.
    pub fn draws(&self) -> bool {
        self.screen.is_some()
    }

    /// As [`Self::sample`], but draws the images; each picture with the number of faces on it. After an error faces are
    /// not drawn any more: there are browsers that lose the GPU over it.
    pub async fn draw(
        &mut self,
        model: &Model,
        recipes: &[Recipe],
        speed: &mut Speed,
    ) -> lddgan_webgpu::Result<Vec<(ImageBitmap, usize)>> {
        let mut screen = self.screen.take();
        let draw = async |executor: &Executor| {
            let mut drawing = screen.take().ok_or_else(|| Error::WebGpu("faces cannot be drawn here".to_owned()))?;
            let picture = drawing.draw(executor).await?;
            executor.gpu().finish().await?;
            screen = Some(drawing);
            Ok((picture, executor.shape(&Stage::Image.to_string())?[0]))
        };
        let pictures = sample(&mut self.sampler, model, recipes, speed, draw).await?;
        self.screen = screen;
        Ok(pictures)
    }

    /// The values of the images that the decoder makes of each latent on the way to a face.
    pub async fn develop(
        &mut self,
        model: &Model,
        recipe: Recipe,
        speed: &mut Speed,
    ) -> lddgan_webgpu::Result<Vec<f32>> {
        let (latents, count) = (self.sampler.latents(model, recipe).await?, model.levels().len());
        let start = now();
        let values = self.sampler.decode(model, &latents, count).await?;
        speed.decode = Some((now() - start) / count as f64);
        Ok(values)
    }

    /// Everything that comes about on the way to the faces of these seeds.
    pub async fn trajectory(&mut self, model: &Model, seeds: &[u64]) -> lddgan_webgpu::Result<Trajectory<Tensor>> {
        self.sampler.trajectory(model, seeds).await
    }

    /// A report of this adapter, without stages.
    pub fn report(&self, golden: &Golden) -> Report {
        let report = empty(golden.subject.clone(), "webgpu", &self.name);
        let gpu = self.gpu();
        Report { limits: gpu.limits(), features: gpu.features(), ..report }
    }
}

/// The different convolutions of what is compiled.
fn convolutions(sampler: &Sampler<Compiler>) -> Vec<ConvLayer> {
    ConvTimes::convolutions(sampler.executors().flat_map(Executor::work))
}

/// How many of them were timed, and how many there are.
fn timed(sampler: &Sampler<Compiler>) -> [usize; 2] {
    let layers = convolutions(sampler);
    [sampler.compiler().timed(&layers), layers.len()]
}

/// Samples, and notes what that took.
async fn sample<T>(
    sampler: &mut Sampler<Compiler>,
    model: &Model,
    recipes: &[Recipe],
    speed: &mut Speed,
    mut finish: impl AsyncFnMut(&Executor) -> lddgan_webgpu::Result<T>,
) -> lddgan_webgpu::Result<Vec<T>> {
    sampler.prepare(model, recipes.len()).await?;
    speed.kernels = Some(timed(sampler));
    let start = now();
    let results = sampler.sample(model, recipes, async |executor| {
        let result = finish(executor).await?;
        // What else is done with the model may have compiled it before.
        speed.compile = Some(executor.compile_seconds() * 1000.0);
        speed.upload = Some(executor.upload_seconds() * 1000.0);
        speed.memory = Some([executor.weight_bytes(), executor.activation_bytes()]);
        Ok(result)
    });
    let results = results.await?;
    speed.sampling = now() - start;
    Ok(results)
}

/// WebGPU if this choice allows it here, and what to say about it.
pub async fn webgpu(choice: ExecutorChoice) -> (Option<WebGpu>, Option<String>) {
    let adapter = match adapter::open().await {
        Ok(adapter) => adapter,
        Err(error) => {
            return (None, Some(format!("{}. The CPU makes the faces; it is slower.", sentence(&error))));
        }
    };
    if !adapter.gpu.is_software() {
        return (Some(WebGpu::new(adapter, LARGEST_BATCH)), None);
    }
    let name = &adapter.name;
    // SwiftShader, Chromium's software adapter, takes much longer than the CPU executor.
    if choice == ExecutorChoice::Auto {
        return (None, Some(format!("Used because WebGPU is only a software adapter here ({name}), which is slower.")));
    }
    let note = "A software adapter computes on the CPU: it is much slower than a GPU.".to_owned();
    (Some(WebGpu::new(adapter, 1)), Some(note))
}

/// An error of WebGPU in words for a visitor.
pub fn sentence(error: &Error) -> String {
    match error {
        Error::NoAdapter(reason) => capitalised(reason),
        Error::DeviceLost(_) => "The browser lost the GPU".to_owned(),
        Error::OutOfMemory => "This model is too big for WebGPU here: the GPU has no memory left".to_owned(),
        Error::LimitExceeded { what, unit: "bytes", needed, limit } => {
            let (needed, limit) = (size(*needed), size(*limit));
            format!("This model is too big for WebGPU here: {what} needs {needed}, the device allows {limit}")
        }
        error => format!("WebGPU cannot run this model ({error})"),
    }
}
