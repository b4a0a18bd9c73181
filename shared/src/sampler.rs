//! Any number of images of a model, in batches, through an executor.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use candle_core::{Device, Tensor};

use crate::error::Error;
use crate::executor::{Attempt, Compiler, Executor};
use crate::model::{LATENT, Model, NamedNoise, Trajectory};
use crate::recipe::Recipe;
use crate::stage::Stage;

/// What an executor is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    /// So many images.
    Sample(usize),
    /// The images of so many latents.
    Decode(usize),
}

/// Samples models. What is compiled is kept; it belongs to the model, and its steps, that were asked for last.
#[derive(Debug)]
pub struct Sampler<C: Compiler> {
    compiler: C,
    /// [`Model::id`] and [`Model::levels`] of what is compiled.
    compiled: (u64, Vec<usize>),
    executors: BTreeMap<Task, C::Executor>,
    largest_batch: usize,
}

impl<C: Compiler> Sampler<C> {
    /// `largest_batch` images are made at once, or fewer where they do not fit.
    pub fn new(compiler: C, largest_batch: usize) -> Self {
        let largest_batch = largest_batch.max(1);
        Self { compiler, compiled: Default::default(), executors: BTreeMap::new(), largest_batch }
    }

    /// The compiler.
    pub fn compiler(&self) -> &C {
        &self.compiler
    }

    /// The compiler, to change its settings. What is compiled stays as it is until [`Self::forget`].
    pub fn compiler_mut(&mut self) -> &mut C {
        &mut self.compiler
    }

    /// What is compiled.
    pub fn executors(&self) -> impl Iterator<Item = &C::Executor> {
        self.executors.values()
    }

    /// Forgets what was compiled, which gives its memory back.
    pub fn forget(&mut self) {
        self.executors.clear();
    }

    /// The number of images that are made at once, as far as is known.
    pub fn largest_batch(&self) -> usize {
        self.largest_batch
    }

    /// Compiles what so many images need, which [`Self::sample`] would do too; false if it was there.
    pub async fn prepare(&mut self, model: &Model, images: usize) -> Result<bool, C::Error> {
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

    /// Makes the images of these seeds or recipes in as few batches as fit. `finish` takes the results of a batch from its
    /// executor, whose run was begun; it may be called again for a batch that has to be repeated. What it made of each
    /// batch, in order.
    pub async fn sample<R: Copy + Into<Recipe>, T>(
        &mut self,
        model: &Model,
        recipes: &[R],
        mut finish: impl AsyncFnMut(&C::Executor) -> Result<T, C::Error>,
    ) -> Result<Vec<T>, C::Error> {
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

    /// These stages of the images of at least one seed or recipe, whole whatever batches they were made in.
    pub async fn stages<R: Copy + Into<Recipe>>(
        &mut self,
        model: &Model,
        recipes: &[R],
        stages: &[Stage],
    ) -> Result<Vec<Tensor>, C::Error> {
        let read = async |executor: &C::Executor| {
            let mut tensors = Vec::new();
            for stage in stages.iter().map(Stage::to_string) {
                let values = executor.read(&stage).await?;
                tensors.push(Tensor::from_vec(values, executor.shape(&stage)?, &Device::Cpu).map_err(Error::from)?);
            }
            Ok(tensors)
        };
        let batches = self.sample(model, recipes, read).await?;
        let whole = |i: usize| {
            let parts: Vec<&Tensor> = batches.iter().map(|tensors| &tensors[i]).collect();
            Ok(Tensor::cat(&parts, 0).map_err(Error::from)?)
        };
        (0..stages.len()).map(whole).collect()
    }

    /// The images of these seeds or recipes, (N, C, H, W).
    pub async fn images<R: Copy + Into<Recipe>>(&mut self, model: &Model, recipes: &[R]) -> Result<Tensor, C::Error> {
        Ok(self.stages(model, recipes, &[Stage::Image]).await?.remove(0))
    }

    /// All that comes about on the way to the images.
    pub async fn trajectory<R: Copy + Into<Recipe>>(
        &mut self,
        model: &Model,
        recipes: &[R],
    ) -> Result<Trajectory<Tensor>, C::Error> {
        let latents = model.levels().iter().map(|&t| Stage::Latent(t));
        let stages: Vec<Stage> = [Stage::Image].into_iter().chain(latents).collect();
        let mut latents = self.stages(model, recipes, &stages).await?;
        let image = latents.remove(0);
        Ok(Trajectory { latents, image })
    }

    /// The latents of [`Model::levels`] on the way to an image, one behind the other, as [`Self::decode`] takes them.
    pub async fn latents(&mut self, model: &Model, recipe: impl Copy + Into<Recipe>) -> Result<Vec<f32>, C::Error> {
        let read = async |executor: &C::Executor| {
            let mut latents = Vec::new();
            for &t in model.levels() {
                latents.extend(executor.read(&Stage::Latent(t).to_string()).await?);
            }
            Ok(latents)
        };
        Ok(self.sample(model, &[recipe], read).await?.concat())
    }

    /// Makes the images of so many latents, one after the other, as [`Model::decode`] does.
    pub async fn decode(&mut self, model: &Model, latents: &[f32], count: usize) -> Result<Vec<f32>, C::Error> {
        let mut losses = 0;
        loop {
            match self.attempt_decode(model, latents, count).await {
                Ok(images) => return Ok(images),
                Err(error) => self.recover(error, 1, &mut losses).await?,
            }
        }
    }

    async fn attempt_decode(&mut self, model: &Model, latents: &[f32], count: usize) -> Result<Vec<f32>, C::Error> {
        let executor = self.executor(model, Task::Decode(count)).await?;
        executor.run([(LATENT, latents)])?;
        executor.read(&Stage::Image.to_string()).await
    }

    async fn attempt<R: Copy + Into<Recipe>, T>(
        &mut self,
        model: &Model,
        recipes: &[R],
        finish: &mut impl AsyncFnMut(&C::Executor) -> Result<T, C::Error>,
    ) -> Result<T, C::Error> {
        let executor = self.executor(model, Task::Sample(recipes.len())).await?;
        executor.run(model.draw(recipes).iter().map(NamedNoise::as_input))?;
        finish(executor).await
    }

    async fn executor(&mut self, model: &Model, task: Task) -> Result<&mut C::Executor, C::Error> {
        self.turn_to(model);
        let vacant = match self.executors.entry(task) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(vacant) => vacant,
        };
        let graph = match task {
            Task::Sample(count) => model.record(count)?,
            Task::Decode(count) => model.record_decode(count)?,
        };
        Ok(vacant.insert(self.compiler.compile(&graph).await?))
    }

    /// Forgets what was compiled for another model, or for other steps.
    fn turn_to(&mut self, model: &Model) {
        if self.compiled.0 != model.id() || self.compiled.1 != model.levels() {
            self.forget();
            self.compiled = (model.id(), model.levels().to_vec());
        }
    }

    /// Makes another attempt at a batch possible, or gives the error back.
    async fn recover(&mut self, error: C::Error, batch: usize, losses: &mut usize) -> Result<(), C::Error> {
        let mut attempt = Attempt { batch, losses: *losses };
        self.compiler.recover(error, &mut attempt).await?;
        self.forget();
        *losses = attempt.losses;
        if attempt.batch < batch {
            self.largest_batch = attempt.batch;
        }
        Ok(())
    }
}
