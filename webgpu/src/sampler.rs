//! Makes batches of images on a WebGPU device, and goes on after what can happen to one: a lost device is opened again,
//! a batch that is too large is made in smaller ones.

use std::collections::BTreeMap;
use std::fmt;

use lddgan::{Model, Recipe};

use crate::error::{Error, Result};
use crate::executor::{ConvLayer, ConvTimes, Dtype, Executor, Options};
use crate::gpu::Gpu;

/// How often the device may be lost before a batch is done.
const LOSSES: usize = 3;

/// What a sampler did to go on after an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// The device was lost and opened again.
    Reopened {
        /// Why it was lost.
        reason: String,
    },
    /// From now on batches are smaller.
    SmallerBatches {
        /// Images at a time.
        largest: usize,
        /// What went wrong with more.
        reason: String,
    },
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reopened { reason } => write!(f, "{reason}; it was opened again and the batch is repeated"),
            Self::SmallerBatches { largest, reason } => write!(f, "{reason}; batches are of {largest} now"),
        }
    }
}

/// What an executor is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    /// So many images.
    Sample(usize),
    /// The images of so many latents.
    Decode(usize),
}

/// Samples models on a WebGPU device. What is compiled belongs to the model, and its steps, that were asked for last.
#[derive(Debug)]
pub struct GpuSampler {
    gpu: Gpu,
    /// [`Model::id`] and [`Model::levels`] of what is compiled.
    compiled: (u64, Vec<usize>),
    executors: BTreeMap<Task, Executor>,
    largest_batch: usize,
    /// From which each convolution gets its kernel.
    times: ConvTimes,
    /// The type of images between the kernels.
    images: Dtype,
    recoveries: Vec<Recovery>,
}

impl GpuSampler {
    /// `largest_batch` images are made at once, or fewer where they do not fit.
    pub fn new(gpu: Gpu, largest_batch: usize) -> Self {
        Self {
            gpu,
            compiled: Default::default(),
            executors: BTreeMap::new(),
            largest_batch: largest_batch.max(1),
            times: ConvTimes::default(),
            images: Dtype::F32,
            recoveries: Vec::new(),
        }
    }

    /// From now on each convolution gets the kernel that was the fastest.
    pub fn use_times(&mut self, times: ConvTimes) {
        self.times = times;
        self.forget();
    }

    /// From now on images between the kernels are of this type. f16 needs an adapter that has it, see [`Gpu::has_f16`].
    pub fn use_images(&mut self, images: Dtype) {
        if self.images != images {
            self.images = images;
            self.forget();
        }
    }

    /// The type of the images between the kernels.
    pub fn images(&self) -> Dtype {
        self.images
    }

    /// What is known about the convolutions; what was compiled before it was known does not make use of it.
    pub fn times(&self) -> &ConvTimes {
        &self.times
    }

    /// How many different convolutions of what was compiled were timed, and how many there are.
    pub fn timed(&self) -> [usize; 2] {
        let layers = self.convolutions();
        [layers.iter().filter(|layer| self.times.knows(layer)).count(), layers.len()]
    }

    /// Times the next convolution of what was compiled that was not timed yet; false if there is none, or `go_on` said no
    /// before it was done.
    pub async fn measure(&mut self, go_on: impl Fn() -> bool) -> Result<bool> {
        let next = self.convolutions().into_iter().find(|layer| !self.times.knows(layer));
        match next {
            Some(layer) => self.times.measure_layer(&self.gpu, &layer, go_on).await,
            None => Ok(false),
        }
    }

    fn convolutions(&self) -> Vec<ConvLayer> {
        ConvTimes::convolutions(self.executors.values().flat_map(Executor::work))
    }

    /// Forgets what was compiled, which gives its memory back.
    pub fn forget(&mut self) {
        self.executors.clear();
    }

    /// Forgets what was compiled for another model, or for other steps.
    fn turn_to(&mut self, model: &Model) {
        if self.compiled.0 != model.id() || self.compiled.1 != model.levels() {
            self.forget();
            self.compiled = (model.id(), model.levels().to_vec());
        }
    }

    /// The device; another one after a loss.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The number of images that are made at once, as far as is known.
    pub fn largest_batch(&self) -> usize {
        self.largest_batch
    }

    /// What was done to go on since the last call.
    pub fn take_recoveries(&mut self) -> Vec<Recovery> {
        std::mem::take(&mut self.recoveries)
    }

    /// Compiles what so many images need, which [`Self::sample`] would do too; false if it was there.
    pub async fn prepare(&mut self, model: &Model, images: usize) -> Result<bool> {
        self.turn_to(model);
        let mut losses = 0;
        loop {
            let batch = images.min(self.largest_batch);
            if self.executors.contains_key(&Task::Sample(batch)) {
                return Ok(losses > 0);
            }
            match self.executor(model, Task::Sample(batch)).await {
                Ok(_) => return Ok(true),
                Err(error) => self.recover(error, batch, &mut losses).await?,
            }
        }
    }

    /// Makes the images of these seeds or recipes in as few batches as fit. `finish` takes the results of a batch from its executor,
    /// whose run was submitted; it may be called again for a batch that has to be repeated. What it made of each batch, in
    /// order.
    pub async fn sample<R: Copy + Into<Recipe>, T>(
        &mut self,
        model: &Model,
        recipes: &[R],
        mut finish: impl AsyncFnMut(&Executor) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut results = Vec::new();
        let mut rest = recipes;
        let mut losses = 0;
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(rest.len().min(self.largest_batch));
            match self.attempt(model, batch, &mut finish).await {
                Ok(result) => {
                    results.push(result);
                    (rest, losses) = (after, 0);
                }
                Err(error) => self.recover(error, batch.len(), &mut losses).await?,
            }
        }
        Ok(results)
    }

    /// Makes the images of so many latents, one after the other, as [`Model::decode`] does.
    pub async fn decode(&mut self, model: &Model, latents: &[f32], count: usize) -> Result<Vec<f32>> {
        let mut losses = 0;
        loop {
            match self.attempt_decode(model, latents, count).await {
                Ok(images) => return Ok(images),
                Err(error) => self.recover(error, 1, &mut losses).await?,
            }
        }
    }

    async fn attempt_decode(&mut self, model: &Model, latents: &[f32], count: usize) -> Result<Vec<f32>> {
        let executor = self.executor(model, Task::Decode(count)).await?;
        executor.run([("latent", latents)])?;
        executor.read("image").await
    }

    async fn attempt<R: Copy + Into<Recipe>, T>(
        &mut self,
        model: &Model,
        recipes: &[R],
        finish: &mut impl AsyncFnMut(&Executor) -> Result<T>,
    ) -> Result<T> {
        let executor = self.executor(model, Task::Sample(recipes.len())).await?;
        let noise = model.draw(recipes);
        executor.run(noise.iter().map(|noise| (noise.name.as_str(), noise.values.as_slice())))?;
        finish(executor).await
    }

    async fn executor(&mut self, model: &Model, task: Task) -> Result<&Executor> {
        self.turn_to(model);
        if !self.executors.contains_key(&task) {
            let graph = match task {
                Task::Sample(count) => model.record(count)?,
                Task::Decode(count) => model.record_decode(count)?,
            };
            let convolutions = |layer: &ConvLayer| self.times.kernel(layer, &self.gpu);
            let options = Options { convolutions: &convolutions, images: self.images };
            let executor = Executor::with_options(&self.gpu, &graph, &options).await?;
            self.executors.insert(task, executor);
        }
        Ok(&self.executors[&task])
    }

    /// Makes another attempt at a batch possible, or gives the error back.
    async fn recover(&mut self, error: Error, batch: usize, losses: &mut usize) -> Result<()> {
        let remedy = remedy(&error, batch, *losses).ok_or_else(|| error.clone())?;
        self.forget();
        if remedy.reopen {
            *losses += 1;
            // Where it cannot be opened again, the loss is what matters.
            self.gpu = self.gpu.reopen().await.map_err(|_| error.clone())?;
            self.recoveries.push(Recovery::Reopened { reason: error.to_string() });
        }
        if remedy.batch < batch {
            self.largest_batch = remedy.batch;
            self.recoveries.push(Recovery::SmallerBatches { largest: remedy.batch, reason: error.to_string() });
        }
        Ok(())
    }
}

/// What may help after an error.
#[derive(Debug, PartialEq, Eq)]
struct Remedy {
    reopen: bool,
    batch: usize,
}

/// The remedy for an error of a batch, during which the device was already lost so many times; none if nothing helps.
fn remedy(error: &Error, batch: usize, losses: usize) -> Option<Remedy> {
    let smaller = batch.div_ceil(2);
    match error {
        // Drivers also take a device away that computes for too long at a time.
        Error::DeviceLost(_) if losses < LOSSES => {
            Some(Remedy { reopen: true, batch: if losses == 0 { batch } else { smaller } })
        }
        Error::LimitExceeded { .. } | Error::OutOfMemory if batch > 1 => Some(Remedy { reopen: false, batch: smaller }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_remedy() {
        let lost = Error::DeviceLost("unplugged".to_string());
        assert_eq!(remedy(&lost, 16, 0), Some(Remedy { reopen: true, batch: 16 }));
        assert_eq!(remedy(&lost, 16, 1), Some(Remedy { reopen: true, batch: 8 }));
        assert_eq!(remedy(&lost, 1, LOSSES - 1), Some(Remedy { reopen: true, batch: 1 }));
        assert_eq!(remedy(&lost, 1, LOSSES), None);
        assert_eq!(remedy(&Error::OutOfMemory, 5, 0), Some(Remedy { reopen: false, batch: 3 }));
        assert_eq!(remedy(&Error::OutOfMemory, 1, 0), None);
        assert_eq!(remedy(&Error::WebGpu("odd".to_string()), 16, 0), None);
    }
}
