//! Making images from seeds with any backend.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use lddgan::{Model, ModelFile, Trajectory};
use lddgan_web::{Executor, Gpu};

use crate::data::ImageSet;
use crate::eval::bar;
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

    /// The images of these seeds, (N, C, H, W).
    pub fn images(&mut self, seeds: &[u64]) -> Result<Tensor> {
        match &mut self.place {
            Place::Candle(device) => Ok(self.model.sample_seeds(seeds, device)?.image),
            Place::Wgpu(gpu, executors) => read(run(&self.model, gpu, executors, seeds)?, "image"),
        }
    }

    /// The images of `count` seeds from `first` on, `batch` at a time, rounded to 8 bits.
    pub fn image_set(&mut self, first: u64, count: u64, batch: u64) -> Result<ImageSet> {
        let end = first.checked_add(count).context("--seed and --count together are too large")?;
        let mut images = ImageSet::new(self.model.config.autoencoder.image_size);
        let progress = bar(count, "images");
        let mut next = first;
        while next < end {
            let seeds: Vec<u64> = (next..next.saturating_add(batch.max(1)).min(end)).collect();
            images.append(&self.images(&seeds)?)?;
            progress.inc(seeds.len() as u64);
            next += seeds.len() as u64;
        }
        progress.finish_and_clear();
        Ok(images)
    }

    /// All that comes about on the way to the images.
    pub fn trajectory(&mut self, seeds: &[u64]) -> Result<Trajectory<Tensor>> {
        match &mut self.place {
            Place::Candle(device) => Ok(self.model.sample_seeds(seeds, device)?),
            Place::Wgpu(gpu, executors) => {
                let executor = run(&self.model, gpu, executors, seeds)?;
                let latents = (0..=self.model.schedule.steps()).rev();
                let latents = latents.map(|t| read(executor, &format!("latent/{t}"))).collect::<Result<_>>()?;
                Ok(Trajectory { latents, image: read(executor, "image")? })
            }
        }
    }
}

/// Runs the executor for so many images, which is compiled at first.
fn run<'a>(
    model: &Model,
    gpu: &Gpu,
    executors: &'a mut BTreeMap<usize, Executor>,
    seeds: &[u64],
) -> Result<&'a Executor> {
    let executor = match executors.entry(seeds.len()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(pollster::block_on(Executor::new(gpu, &model.record(seeds.len())?))?),
    };
    let noise = model.draw(seeds);
    executor.run(noise.iter().map(|noise| (noise.name.as_str(), noise.values.as_slice())))?;
    Ok(executor)
}

fn read(executor: &Executor, output: &str) -> Result<Tensor> {
    let values = pollster::block_on(executor.read(output))?;
    Ok(Tensor::from_vec(values, executor.shape(output)?, &Device::Cpu)?)
}
