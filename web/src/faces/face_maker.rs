//! Makes faces with WebGPU or on the CPU.

use candle_core::Tensor;
use lddgan::check::{Golden, Report};
use lddgan::{Model, Recipe, Trajectory};
use web_sys::ImageBitmap;

use super::cpu::{Cpu, memory};
use super::pixels::rgba;
use super::report::empty;
use super::webgpu::{WebGpu, sentence, webgpu};
use super::{ExecutorInfo, Speed};
use crate::choices::ExecutorChoice;
use crate::time::now;
use lddgan_webgpu::Error;
use lddgan_webgpu::executor::Dtype;

/// A model and the executor that makes its faces.
pub struct FaceMaker {
    model: Model,
    /// Of the model's file.
    sha256: String,
    /// None: the CPU computes.
    webgpu: Option<WebGpu>,
    cpu: Cpu,
    /// What the visitor should know about this choice.
    note: Option<String>,
    /// Whether [`Self::info`] has changed since the last [`Self::take_news`].
    news: bool,
    speed: Speed,
    choice: ExecutorChoice,
    /// How many other workers make faces, where the CPU computes.
    helpers: usize,
    /// When WebGPU was asked for last after the browser had lost the GPU, in milliseconds, until it is back.
    lost: Option<f64>,
}

/// Milliseconds after which a lost GPU is asked for again.
const AGAIN: f64 = 5000.0;

/// The name of the executor on the CPU, for people.
pub const CPU: &str = "WebAssembly on the CPU";

const REPORT: &str = "The report is under “Check this device”.";
const FOUND_AGAIN: &str = "The browser lost the GPU and found it again.";

/// Faces as RGBA, in the order of their recipes.
pub struct Batch {
    pub images: Vec<Vec<u8>>,
    pub milliseconds: f64,
}

impl FaceMaker {
    /// Chooses the executor that runs here.
    pub async fn new(model: Model, sha256: String, speed: Speed, choice: ExecutorChoice) -> Self {
        let (webgpu, note) = match choice {
            ExecutorChoice::Cpu => (None, None),
            _ => webgpu(choice).await,
        };
        Self { model, sha256, webgpu, cpu: Cpu::new(), note, news: false, speed, choice, helpers: 0, lost: None }
    }

    /// The same model with the executor of this choice.
    pub async fn with_choice(self, choice: ExecutorChoice) -> Self {
        match self.choice == choice {
            true => self,
            false => Self::new(self.model, self.sha256, Speed::default(), choice).await,
        }
    }

    /// The same executor with another model.
    pub fn with_model(self, model: Model, sha256: String, speed: Speed) -> Self {
        Self { model, sha256, speed, ..self }
    }

    /// Whether WebGPU makes the faces.
    pub fn has_webgpu(&self) -> bool {
        self.webgpu.is_some()
    }

    /// Recalls what earlier visits found out about the GPU, such as its fastest kernels. About others [`Self::tune`] finds
    /// out; `choice` is that of the address.
    pub async fn recall(&mut self, choice: Option<bool>) {
        if let Some(webgpu) = &mut self.webgpu {
            webgpu.recall(choice).await;
        }
    }

    /// What WebGPU makes and was not compared yet.
    pub fn unverified(&self) -> Option<String> {
        self.webgpu.as_ref()?.unverified(&self.sha256)
    }

    /// Remembers that it was compared, and whether it was `right`.
    pub async fn set_verified(&mut self, subject: String, right: bool) {
        if let Some(webgpu) = &mut self.webgpu {
            webgpu.set_verified(subject, right).await;
        }
    }

    /// Makes faces in another way from now on, because they were wrong.
    pub fn distrust(&mut self) {
        let given_up = self.webgpu.as_mut().and_then(WebGpu::distrust);
        self.note = Some(match given_up {
            Some(what) => format!("This GPU makes wrong faces with {what}, so the page does without. {REPORT}"),
            None => format!("This GPU makes wrong faces, so the CPU makes them; it is slower. {REPORT}"),
        });
        if given_up.is_none() {
            self.webgpu = None;
        }
    }

    /// The numbers that faces are made in.
    pub fn dtype(&self) -> Dtype {
        self.webgpu.as_ref().map_or(Dtype::F32, WebGpu::dtype)
    }

    /// Times kernels while `idle` says that there is nothing else to do; whether [`Self::speed`] has changed.
    pub async fn tune(&mut self, idle: impl Fn() -> bool) -> bool {
        let timed = match &mut self.webgpu {
            Some(webgpu) => webgpu.tune(idle).await,
            None => None,
        };
        self.speed.kernels = timed.or(self.speed.kernels);
        timed.is_some()
    }

    pub fn info(&self) -> ExecutorInfo {
        let cpu = || match self.helpers {
            0 => CPU.to_owned(),
            1 => format!("{CPU}, in another worker"),
            helpers => format!("{CPU}, in {helpers} workers"),
        };
        let name = self.webgpu.as_ref().map_or_else(cpu, WebGpu::describe);
        ExecutorInfo { name, note: self.note.clone(), f16: self.webgpu.as_ref().is_some_and(WebGpu::has_f16) }
    }

    /// Tells [`Self::info`] how many other workers make faces.
    pub fn set_helpers(&mut self, helpers: usize) {
        self.news |= self.helpers != helpers;
        self.helpers = helpers;
    }

    /// Bytes that the CPU takes for a face.
    pub fn memory(&self) -> Result<u64, String> {
        memory(&self.model)
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    pub fn speed(&self) -> Speed {
        Speed { dtype: self.dtype(), ..self.speed.clone() }
    }

    /// How many faces are best made at once.
    pub fn batch(&self) -> usize {
        self.webgpu.as_ref().map_or(1, WebGpu::largest_batch)
    }

    /// Takes this many denoising steps from now on, or as many as the model has.
    pub fn set_steps(&mut self, steps: usize) -> Result<(), String> {
        let steps = steps.min(self.model.schedule.steps());
        if steps + 1 == self.model.levels().len() {
            return Ok(());
        }
        self.model.set_steps(steps).map_err(|error| format!("{error}."))
    }

    /// Computes with these numbers from now on, where WebGPU does and has them.
    pub fn set_dtype(&mut self, dtype: Dtype) {
        if let Some(webgpu) = &mut self.webgpu {
            webgpu.set_dtype(dtype);
        }
    }

    /// Goes back to WebGPU some time after the browser lost the GPU, once it is there again.
    pub async fn return_to_webgpu(&mut self) {
        if self.lost.is_none_or(|time| now() < time + AGAIN) {
            return;
        }
        self.lost = Some(now());
        if let (Some(found), _) = webgpu(self.choice).await {
            self.webgpu = Some(found);
            self.cpu.forget();
            self.note = Some(FOUND_AGAIN.to_owned());
            (self.lost, self.news) = (None, true);
        }
    }

    /// Makes faces; none if WebGPU could not, and the next attempt will be another.
    pub async fn sample(&mut self, recipes: &[Recipe]) -> Result<Option<Batch>, String> {
        self.return_to_webgpu().await;
        let made = match &mut self.webgpu {
            Some(webgpu) => webgpu.sample(&self.model, recipes, &mut self.speed).await,
            None => Ok(self.cpu.sample(&self.model, recipes, &mut self.speed).await?),
        };
        self.speed.drawn = false;
        self.speed.batch = recipes.len();
        let milliseconds = self.speed.sampling;
        Ok(self.images(made).map(|images| Batch { images, milliseconds }))
    }

    /// Whether faces can be drawn without a way through the CPU.
    pub fn draws(&self) -> bool {
        self.webgpu.as_ref().is_some_and(WebGpu::draws)
    }

    /// As [`Self::sample`], where [`Self::draws`] says so: pictures of some faces each, [`super::screen::COLUMNS`] in a
    /// row, and the milliseconds that they took.
    pub async fn draw(&mut self, recipes: &[Recipe]) -> Option<(Vec<(ImageBitmap, usize)>, f64)> {
        let drawn = self.webgpu.as_mut()?.draw(&self.model, recipes, &mut self.speed).await;
        self.speed.drawn = true;
        self.speed.batch = recipes.len();
        // The attempt without drawing that follows an error tells whether anything else is wrong.
        drawn.ok().map(|pictures| (pictures, self.speed.sampling))
    }

    /// Whether [`Self::info`] has changed since the last call.
    pub fn take_news(&mut self) -> bool {
        if self.webgpu.as_mut().is_some_and(WebGpu::take_reopened) {
            self.note = Some(FOUND_AGAIN.to_owned());
            self.news = true;
        }
        std::mem::take(&mut self.news)
    }

    /// Shows what the decoder makes of each latent on the way to a face, as RGBA, the noise first; false where
    /// [`Self::sample`] gives none.
    pub async fn develop(&mut self, recipe: Recipe, mut show: impl FnMut(Vec<u8>)) -> Result<bool, String> {
        let Some(webgpu) = &mut self.webgpu else {
            let rgba = |values: Vec<f32>| rgba_of(&self.model, &values).into_iter().for_each(&mut show);
            self.cpu.develop(&self.model, recipe, rgba).await?;
            return Ok(true);
        };
        let made = webgpu.develop(&self.model, recipe, &mut self.speed).await;
        Ok(self.images(made).map(|images| images.into_iter().for_each(&mut show)).is_some())
    }

    /// As [`Self::webgpu_check`], on the CPU.
    pub async fn cpu_check(&mut self, golden: &Golden) -> (Report, Result<Trajectory<Tensor>, String>) {
        let report = empty(golden.subject.clone(), "cpu", CPU);
        let trajectory = self.cpu.trajectory(&self.model, &golden.subject.seeds).await;
        if self.has_webgpu() {
            self.cpu.forget();
        }
        (report, trajectory)
    }

    /// All that WebGPU makes on the way to the faces of these seeds, and a report of it without stages; none if the CPU
    /// computes.
    pub async fn webgpu_check(
        &mut self,
        golden: &Golden,
    ) -> Option<(Report, lddgan_webgpu::Result<Trajectory<Tensor>>)> {
        let webgpu = self.webgpu.as_mut()?;
        Some((webgpu.report(golden), webgpu.trajectory(&self.model, &golden.subject.seeds).await))
    }

    /// The bytes of images; none after an error of WebGPU, after which the CPU computes.
    fn images(&mut self, values: lddgan_webgpu::Result<Vec<f32>>) -> Option<Vec<Vec<u8>>> {
        let values = values.inspect_err(|error| self.give_up(error)).ok()?;
        Some(rgba_of(&self.model, &values))
    }

    fn give_up(&mut self, error: &Error) {
        self.webgpu = None;
        self.lost = matches!(error, Error::DeviceLost(_)).then(now);
        self.speed = Speed { download: self.speed.download, read: self.speed.read, ..Default::default() };
        self.note = Some(format!("{}. The CPU took over; it is slower.", sentence(error)));
        self.news = true;
    }
}

/// The bytes of images that a model made.
fn rgba_of(model: &Model, values: &[f32]) -> Vec<Vec<u8>> {
    let config = &model.config.autoencoder;
    let (channels, pixels) = (config.image_channels, config.image_size * config.image_size);
    values.chunks(channels * pixels).map(|image| rgba(image, channels, pixels)).collect()
}
