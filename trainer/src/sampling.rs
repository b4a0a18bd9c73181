//! Making images from seeds with any backend.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::Result;
use candle_core::{Device, Tensor};
use lddgan::{Model, ModelFile, Recipe, Trajectory};
use lddgan_web::{Executor, Gpu};

use crate::network::{self, BackendName};

/// A model on a backend.
pub struct Sampler {
    pub model: Model,
    place: Place,
}

enum Place {
    Candle(Device),
    /// An executor for each size of batch so far.
    Wgpu(Box<Gpu>, BTreeMap<usize, Executor>),
}

impl Sampler {
    /// The model of a file; `name` is the file's name in errors.
    pub fn new(file: &ModelFile, name: &str, backend: BackendName) -> Result<Self> {
        let device = network::device(backend)?;
        let model = file.model(name, &device)?;
        let place = match backend {
            BackendName::Cpu | BackendName::Cuda => Place::Candle(device),
            BackendName::Wgpu => Place::Wgpu(Box::new(pollster::block_on(Gpu::new())?), BTreeMap::new()),
        };
        Ok(Self { model, place })
    }

    /// The device, as a person should see it.
    pub fn device(&self) -> String {
        match &self.place {
            Place::Candle(device) => format!("{:?}", device.location()),
            Place::Wgpu(gpu, _) => {
                format!("{}{}", gpu.name(), if gpu.is_software() { " (a software adapter)" } else { "" })
            }
        }
    }

    /// The limits and features of the WebGPU adapter, if there is one.
    pub fn offer(&self) -> (BTreeMap<String, u64>, Vec<String>) {
        match &self.place {
            Place::Candle(_) => Default::default(),
            Place::Wgpu(gpu, _) => (gpu.limits(), gpu.features()),
        }
    }

    /// The images of these seeds or recipes, (N, C, H, W).
    pub fn images<R: Copy + Into<Recipe>>(&mut self, recipes: &[R]) -> Result<Tensor> {
        match &mut self.place {
            Place::Candle(device) => Ok(self.model.sample_seeds(recipes, device)?.image),
            Place::Wgpu(gpu, executors) => read(run(&self.model, gpu, executors, recipes)?, "image"),
        }
    }

    /// All that comes about on the way to the images.
    pub fn trajectory(&mut self, seeds: &[u64]) -> Result<Trajectory<Tensor>> {
        match &mut self.place {
            Place::Candle(device) => Ok(self.model.sample_seeds(seeds, device)?),
            Place::Wgpu(gpu, executors) => {
                let executor = run(&self.model, gpu, executors, seeds)?;
                let latents = self.model.levels().iter();
                let latents = latents.map(|t| read(executor, &format!("latent/{t}"))).collect::<Result<_>>()?;
                Ok(Trajectory { latents, image: read(executor, "image")? })
            }
        }
    }
}

/// Runs the executor for so many images, which is compiled at first.
fn run<'a, R: Copy + Into<Recipe>>(
    model: &Model,
    gpu: &Gpu,
    executors: &'a mut BTreeMap<usize, Executor>,
    recipes: &[R],
) -> Result<&'a Executor> {
    let executor = match executors.entry(recipes.len()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(pollster::block_on(Executor::new(gpu, &model.record(recipes.len())?))?),
    };
    let noise = model.draw(recipes);
    executor.run(noise.iter().map(|noise| (noise.name.as_str(), noise.values.as_slice())))?;
    Ok(executor)
}

fn read(executor: &Executor, output: &str) -> Result<Tensor> {
    let values = pollster::block_on(executor.read(output))?;
    Ok(Tensor::from_vec(values, executor.shape(output)?, &Device::Cpu)?)
}
