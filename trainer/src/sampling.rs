//! Making images from seeds with any backend.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use lddgan::{Model, ModelFile, Recipe, Trajectory};
use lddgan_webgpu::{Gpu, GpuSampler};

use crate::backend::{self, BackendName, Dtype, needs_wgpu};
use crate::data::ImageSet;
use crate::eval::bar;
use crate::{memory, tuning, warn};

/// A model on a backend.
pub struct Sampler {
    pub model: Model,
    place: Place,
    /// The largest batch that is known to fit into memory.
    fits: usize,
}

enum Place {
    Cpu(Option<Box<Compiled>>),
    Candle(Device),
    Wgpu(Box<GpuSampler>),
}

/// A model's sampling, compiled for this machine.
struct Compiled {
    batch: usize,
    levels: Vec<usize>,
    executor: lddgan_cpu::Executor,
}

impl Sampler {
    /// The model of a file; `name` is the file's name in errors.
    pub fn new(file: &ModelFile, name: &str, backend: BackendName) -> Result<Self> {
        let device = backend::device(backend)?;
        let model = file.model(name, &device)?;
        let place = match backend {
            BackendName::Cpu => Place::Cpu(None),
            BackendName::Candle | BackendName::Cuda => Place::Candle(device),
            BackendName::Wgpu => Place::Wgpu(Box::new(GpuSampler::new(pollster::block_on(Gpu::new())?, usize::MAX))),
        };
        Ok(Self { model, place, fits: 0 })
    }

    /// The device, as a person should see it.
    pub fn device(&self) -> String {
        match &self.place {
            Place::Cpu(_) => format!("{:?}", Device::Cpu.location()),
            Place::Candle(device) => format!("{:?}", device.location()),
            Place::Wgpu(sampler) => {
                let gpu = sampler.gpu();
                format!("{}{}", gpu.name(), if gpu.is_software() { " (a software adapter)" } else { "" })
            }
        }
    }

    /// The limits and features of the WebGPU adapter, if there is one.
    pub fn offer(&self) -> (BTreeMap<String, u64>, Vec<String>) {
        match &self.place {
            Place::Cpu(_) | Place::Candle(_) => Default::default(),
            Place::Wgpu(sampler) => (sampler.gpu().limits(), sampler.gpu().features()),
        }
    }

    /// Takes the fastest WebGPU kernels for batches of so many images, which this finds out where no earlier run has.
    pub fn tune(&mut self, batch: usize) -> Result<()> {
        let Place::Wgpu(sampler) = &mut self.place else { bail!(needs_wgpu("--tune")) };
        let times = tuning::tuned(sampler.gpu(), &self.model.record(batch)?)?;
        sampler.use_times(times);
        Ok(())
    }

    /// Computes with these numbers from now on; f16 is for WebGPU alone.
    pub fn use_dtype(&mut self, dtype: Dtype) -> Result<()> {
        match &mut self.place {
            Place::Wgpu(sampler) => sampler.use_images(dtype.webgpu()),
            Place::Cpu(_) | Place::Candle(_) if dtype == Dtype::F32 => {}
            Place::Cpu(_) | Place::Candle(_) => bail!(needs_wgpu("--dtype f16")),
        }
        Ok(())
    }

    /// The images of these seeds or recipes, (N, C, H, W).
    pub fn images<R: Copy + Into<Recipe>>(&mut self, recipes: &[R]) -> Result<Tensor> {
        self.check_memory(recipes.len())?;
        let image = || ["image".to_string()];
        let outputs = match &mut self.place {
            Place::Candle(device) => return Ok(self.model.sample_seeds(recipes, device)?.image),
            Place::Cpu(compiled) => on_cpu(compiled, &self.model, recipes, &image())?,
            Place::Wgpu(sampler) => on_gpu(sampler, &self.model, recipes, &image())?,
        };
        outputs.into_iter().next().context("the model made no image")
    }

    /// Refuses batches that would exhaust the machine's memory, which ends a program without a word. A GPU's own memory is
    /// checked by its driver.
    fn check_memory(&mut self, batch: usize) -> Result<()> {
        let on_cpu = matches!(self.place, Place::Cpu(_) | Place::Candle(Device::Cpu));
        if on_cpu && batch > self.fits {
            memory::available().map_or(Ok(()), |available| memory::check_batch(&self.model, batch, available))?;
            self.fits = batch;
        }
        Ok(())
    }

    /// The images of `count` seeds from `first` on, `batch` at a time, rounded to 8 bits.
    pub fn image_set(&mut self, first: u64, count: u64, batch: u64, truncation: Option<f32>) -> Result<ImageSet> {
        let end = first.checked_add(count).context("--seed and --count together are too large")?;
        let mut images = ImageSet::new(self.model.config.autoencoder.image_size);
        let progress = bar(count, "images");
        let mut next = first;
        while next < end {
            let seeds: Vec<u64> = (next..next.saturating_add(batch.max(1)).min(end)).collect();
            let recipes: Vec<Recipe> = seeds.iter().map(|&seed| Recipe { truncation, ..seed.into() }).collect();
            images.append(&self.images(&recipes)?)?;
            progress.inc(seeds.len() as u64);
            next += seeds.len() as u64;
        }
        progress.finish_and_clear();
        Ok(images)
    }

    /// All that comes about on the way to the images.
    pub fn trajectory(&mut self, seeds: &[u64]) -> Result<Trajectory<Tensor>> {
        self.check_memory(seeds.len())?;
        let latents = self.model.levels().iter().map(|t| format!("latent/{t}"));
        let names: Vec<String> = latents.chain(["image".to_string()]).collect();
        let mut outputs = match &mut self.place {
            Place::Candle(device) => return Ok(self.model.sample_seeds(seeds, device)?),
            Place::Cpu(compiled) => on_cpu(compiled, &self.model, seeds, &names)?,
            Place::Wgpu(sampler) => on_gpu(sampler, &self.model, seeds, &names)?,
        };
        let image = outputs.pop().context("the model made no image")?;
        Ok(Trajectory { latents: outputs, image })
    }
}

/// The outputs of these names. What is compiled is kept for batches of the same size.
fn on_cpu<R: Copy + Into<Recipe>>(
    compiled: &mut Option<Box<Compiled>>,
    model: &Model,
    recipes: &[R],
    names: &[String],
) -> Result<Vec<Tensor>> {
    let (batch, levels) = (recipes.len(), model.levels());
    let Compiled { executor, .. } =
        &mut **match compiled.take().filter(|known| known.batch == batch && known.levels == levels) {
            Some(known) => compiled.insert(known),
            None => {
                let executor = lddgan_cpu::Executor::new(&model.record(batch)?)?;
                compiled.insert(Box::new(Compiled { batch, levels: levels.to_vec(), executor }))
            }
        };
    let noise = model.draw(recipes);
    executor.run(noise.iter().map(|noise| (noise.name.as_str(), noise.values.as_slice())))?;
    let read = |name: &String| Ok(Tensor::from_vec(executor.read(name)?, executor.shape(name)?, &Device::Cpu)?);
    names.iter().map(read).collect()
}

/// The outputs of these names, whole whatever batches they were made in.
fn on_gpu<R: Copy + Into<Recipe>>(
    sampler: &mut GpuSampler,
    model: &Model,
    recipes: &[R],
    names: &[String],
) -> Result<Vec<Tensor>> {
    let batches = pollster::block_on(sampler.sample(model, recipes, async |executor| {
        let mut outputs = Vec::new();
        for name in names {
            outputs.push((executor.read(name).await?, executor.shape(name)?.to_vec()));
        }
        Ok(outputs)
    }));
    for recovery in sampler.take_recoveries() {
        warn!("warning: {recovery}");
    }
    let batches = batches?;
    let whole = |i: usize| {
        let parts = batches.iter().map(|outputs| {
            let (values, shape) = &outputs[i];
            Tensor::from_slice(values, shape.as_slice(), &Device::Cpu)
        });
        Ok(Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    };
    (0..names.len()).map(whole).collect()
}
