//! Makes faces on the CPU.

use candle_core::Tensor;
use lddgan::{Error, Model, Recipe, Sampler, Trajectory};
use lddgan_cpu::{Compiler, Executor};

use super::Speed;
use crate::format::size;
use crate::time::{now, pause};

/// The most that a page's program can address.
const MEMORY: u64 = 1 << 32;

pub struct Cpu {
    sampler: Sampler<Compiler>,
    /// [`Model::id`] of the model that there is memory for.
    fits: Option<u64>,
}

impl Cpu {
    pub fn new() -> Self {
        Self { sampler: Sampler::new(Compiler::default(), 1), fits: None }
    }

    /// The values of the images.
    pub async fn sample(&mut self, model: &Model, recipes: &[Recipe], speed: &mut Speed) -> Result<Vec<f32>, String> {
        self.check_memory(model)?;
        let start = now();
        let compiled = self.sampler.prepare(model, recipes.len()).await.map_err(failed)?;
        speed.compile = compiled.then(|| now() - start).or(speed.compile);
        let start = now();
        let images = self.sampler.images(model, recipes).await.map_err(failed)?;
        speed.sampling = now() - start;
        values(&images)
    }

    /// Shows the values of the images that the decoder makes of each latent on the way to a face.
    pub async fn develop(
        &mut self,
        model: &Model,
        recipe: Recipe,
        mut show: impl FnMut(Vec<f32>),
    ) -> Result<(), String> {
        self.check_memory(model)?;
        let latents = self.sampler.latents(model, recipe).await.map_err(failed)?;
        for latent in latents.chunks(latents.len() / model.levels().len()) {
            show(self.sampler.decode(model, latent, 1).await.map_err(failed)?);
            pause(0).await;
        }
        Ok(())
    }

    /// Everything that comes about on the way to the faces of these seeds.
    pub async fn trajectory(&mut self, model: &Model, seeds: &[u64]) -> Result<Trajectory<Tensor>, String> {
        self.check_memory(model)?;
        self.sampler.trajectory(model, seeds).await.map_err(failed)
    }

    /// Gives the memory back.
    pub fn forget(&mut self) {
        self.sampler.forget();
    }

    /// An error if a face of this model needs more memory than there can be.
    fn check_memory(&mut self, model: &Model) -> Result<(), String> {
        if self.fits == Some(model.id()) {
            return Ok(());
        }
        let needed = memory(model)?;
        if needed > MEMORY {
            let (needed, memory) = (size(needed), size(MEMORY));
            return Err(format!(
                "This model needs {needed} of memory or more for a face, and a page has {memory} at most."
            ));
        }
        self.fits = Some(model.id());
        Ok(())
    }
}

/// Bytes that a face takes.
pub fn memory(model: &Model) -> Result<u64, String> {
    Executor::bytes_of(&model.record(1).map_err(failed)?).map_err(failed)
}

fn values(images: &Tensor) -> Result<Vec<f32>, String> {
    let values = images.flatten_all().and_then(|images| images.to_vec1());
    values.map_err(|error| failed(error.into()))
}

fn failed(error: Error) -> String {
    format!("The CPU cannot make a face: {error}.")
}
