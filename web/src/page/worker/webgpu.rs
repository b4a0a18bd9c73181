//! Makes faces with WebGPU.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use candle_core::{Device, Tensor};
use lddgan::check::{Golden, Report};
use lddgan::{Model, Recipe, Trajectory};

use super::{adapter, check, now};
use crate::page::protocol::Speed;
use crate::page::settings::ExecutorChoice;
use crate::{Error, Executor, Gpu};

/// Faces that WebGPU makes at once. More would not be faster, and all appear together.
const LARGEST_BATCH: usize = 16;

/// What executors are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Task {
    /// As many faces.
    Sample(usize),
    /// As many latents.
    Decode(usize),
}

pub struct WebGpu {
    gpu: Gpu,
    /// The adapter's, for people.
    name: String,
    executors: HashMap<Task, Executor>,
    pub largest_batch: usize,
}

impl WebGpu {
    pub fn describe(&self) -> String {
        let software = if self.gpu.is_software() { " (software)" } else { "" };
        format!("WebGPU, {}{software}", self.name)
    }

    /// Forgets what was compiled.
    pub fn clear(&mut self) {
        self.executors.clear();
    }

    /// The values of the images.
    pub async fn sample(&mut self, model: &Model, recipes: &[Recipe], speed: &mut Speed) -> crate::Result<Vec<f32>> {
        let executor = self.executor(model, Task::Sample(recipes.len()), speed).await?;
        run(executor, model, recipes, speed).await?;
        executor.read("image").await
    }

    /// The values of the images that the decoder makes of each latent on the way to a face.
    pub async fn develop(&mut self, model: &Model, recipe: Recipe, speed: &mut Speed) -> crate::Result<Vec<f32>> {
        let executor = self.executor(model, Task::Sample(1), speed).await?;
        run(executor, model, &[recipe], speed).await?;
        let mut latents = Vec::new();
        for t in model.levels() {
            latents.extend(executor.read(&format!("latent/{t}")).await?);
        }
        let count = model.levels().len();
        let executor = self.executor(model, Task::Decode(count), speed).await?;
        let start = now();
        executor.run([("latent", latents.as_slice())])?;
        let values = executor.read("image").await?;
        speed.decode = Some((now() - start) / count as f64);
        Ok(values)
    }

    /// Everything that comes about on the way to the faces of these seeds.
    pub async fn trajectory(&mut self, model: &Model, seeds: &[u64]) -> crate::Result<Trajectory<Tensor>> {
        let recipes: Vec<Recipe> = seeds.iter().map(|&seed| seed.into()).collect();
        let executor = self.executor(model, Task::Sample(seeds.len()), &mut Speed::default()).await?;
        run(executor, model, &recipes, &mut Speed::default()).await?;
        let mut latents = Vec::new();
        for t in model.levels() {
            latents.push(tensor(executor, &format!("latent/{t}")).await?);
        }
        Ok(Trajectory { latents, image: tensor(executor, "image").await? })
    }

    /// A report of this adapter, without stages.
    pub fn report(&self, golden: &Golden) -> Report {
        let report = check::empty(golden.subject.clone(), "webgpu", &self.name);
        Report { limits: self.gpu.limits(), features: self.gpu.features(), ..report }
    }

    /// Compiled for a task. Sets what is known about it in `speed`.
    async fn executor(&mut self, model: &Model, task: Task, speed: &mut Speed) -> crate::Result<&Executor> {
        let start = now();
        let executor = match self.executors.entry(task) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let graph = match task {
                    Task::Sample(count) => model.record(count)?,
                    Task::Decode(count) => model.record_decode(count)?,
                };
                let executor = entry.insert(Executor::new(&self.gpu, &graph).await?);
                speed.compile = Some(now() - start);
                executor
            }
        };
        speed.memory = Some([executor.weight_bytes(), executor.activation_bytes()]);
        Ok(executor)
    }
}

/// Draws the noise of these faces and runs the executor on it.
async fn run(executor: &Executor, model: &Model, recipes: &[Recipe], speed: &mut Speed) -> crate::Result<()> {
    let start = now();
    let inputs = model.draw(recipes);
    speed.noise = now() - start;
    executor.run(inputs.iter().map(|input| (input.name.as_str(), input.values.as_slice())))
}

async fn tensor(executor: &Executor, output: &str) -> crate::Result<Tensor> {
    Ok(Tensor::from_vec(executor.read(output).await?, executor.shape(output)?, &Device::Cpu)?)
}

/// WebGPU if this choice allows it here, and what to say about it.
pub async fn webgpu(choice: ExecutorChoice) -> (Option<WebGpu>, Option<String>) {
    let gpu = match Gpu::new().await {
        Ok(gpu) => gpu,
        Err(error) => {
            return (None, Some(format!("{}. Candle makes the faces; it is slower.", sentence(&error))));
        }
    };
    let name = adapter::name().await.unwrap_or_else(|| gpu.name().to_owned());
    let software = gpu.is_software();
    let webgpu = |largest_batch| WebGpu { gpu, name: name.clone(), executors: HashMap::new(), largest_batch };
    if !software {
        return (Some(webgpu(LARGEST_BATCH)), None);
    }
    // SwiftShader, Chromium's software adapter, takes about 25 times as long as Candle.
    if choice == ExecutorChoice::Auto {
        return (None, Some(format!("Used because WebGPU is only a software adapter here ({name}), which is slower.")));
    }
    let note = "A software adapter computes on the CPU: it is much slower than a GPU.".to_owned();
    (Some(webgpu(1)), Some(note))
}

/// An error of WebGPU in words for a visitor.
pub fn sentence(error: &Error) -> String {
    match error {
        Error::NoAdapter(_) => "This browser offers no WebGPU".to_owned(),
        Error::DeviceLost(_) => "The browser lost the GPU".to_owned(),
        error => format!("WebGPU cannot run this model ({error})"),
    }
}
