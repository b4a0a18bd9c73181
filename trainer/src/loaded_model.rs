//! A model on a backend, which makes images from seeds.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use lddgan::{Model, ModelFile, Recipe, Sampler, Trajectory};
use pollster::block_on;

use crate::backend::{self, BackendName, Dtype, adapter, needs_wgpu, webgpu_compiler};
use crate::data::ImageSet;
use crate::eval::bar;
use crate::precision::Precision;
use crate::{memory, tuning, warn};

/// A model file's networks on the device of a backend.
pub struct LoadedModel {
    pub model: Model,
    backend: BackendName,
    place: Place,
    /// The largest batch that is known to fit into memory.
    fits: usize,
    /// The last one.
    batch: usize,
}

enum Place {
    Cpu(Box<Sampler<lddgan_cpu::Compiler>>),
    Candle { device: Device, precision: Precision },
    Wgpu(Box<Sampler<lddgan_webgpu::Compiler>>),
}

impl LoadedModel {
    /// The model of a file; `name` is the file's name in errors.
    pub fn new(file: &ModelFile, name: &str, backend: BackendName) -> Result<Self> {
        let device = backend::device(backend)?;
        let model = file.model(name, &device)?;
        let place = match backend {
            BackendName::Cpu => Place::Cpu(Box::new(Sampler::new(Default::default(), usize::MAX))),
            BackendName::Candle | BackendName::Cuda => Place::Candle { device, precision: Precision::F32 },
            BackendName::Wgpu => Place::Wgpu(Box::new(Sampler::new(webgpu_compiler()?, usize::MAX))),
        };
        Ok(Self { model, backend, place, fits: 0, batch: 0 })
    }

    /// The device, as a person should see it.
    pub fn device(&self) -> String {
        match &self.place {
            Place::Cpu(_) => format!("{:?}", Device::Cpu.location()),
            Place::Candle { device, .. } => format!("{:?}", device.location()),
            Place::Wgpu(sampler) => adapter(sampler.compiler().gpu()),
        }
    }

    /// The limits and features of the WebGPU adapter, if there is one.
    pub fn offer(&self) -> (BTreeMap<String, u64>, Vec<String>) {
        match &self.place {
            Place::Cpu(_) | Place::Candle { .. } => Default::default(),
            Place::Wgpu(sampler) => {
                let gpu = sampler.compiler().gpu();
                (gpu.limits(), gpu.features())
            }
        }
    }

    /// Takes the fastest WebGPU kernels for batches of so many images, which this finds out where no earlier run has.
    pub fn tune(&mut self, batch: usize) -> Result<()> {
        let Place::Wgpu(sampler) = &mut self.place else { bail!(needs_wgpu("--tune")) };
        let times = tuning::tuned(sampler.compiler().gpu(), &self.model.record(batch)?)?;
        sampler.compiler_mut().use_times(times);
        sampler.forget();
        Ok(())
    }

    /// Computes with these numbers from now on; f16 is for WebGPU alone.
    pub fn use_dtype(&mut self, dtype: Dtype) -> Result<()> {
        match &mut self.place {
            Place::Wgpu(sampler) => {
                sampler.compiler_mut().use_images(dtype.webgpu());
                sampler.forget();
            }
            Place::Cpu(_) | Place::Candle { .. } if dtype == Dtype::F32 => {}
            Place::Cpu(_) | Place::Candle { .. } => bail!(needs_wgpu("--dtype f16")),
        }
        Ok(())
    }

    /// Candle computes in this precision from now on; the other backends know f32 alone.
    pub fn use_precision(&mut self, chosen: Precision) -> Result<()> {
        chosen.set_to_sample(self.backend)?;
        if let Place::Candle { precision, .. } = &mut self.place {
            *precision = chosen;
        }
        Ok(())
    }

    /// The images of these seeds or recipes, (N, C, H, W).
    pub fn images<R: Copy + Into<Recipe>>(&mut self, recipes: &[R]) -> Result<Tensor> {
        self.check_memory(recipes.len())?;
        match &mut self.place {
            Place::Candle { device, precision } => {
                Ok(precision.sample(&self.model, self.model.inputs(recipes, device)?)?.image)
            }
            Place::Cpu(sampler) => Ok(block_on(sampler.images(&self.model, recipes))?),
            Place::Wgpu(sampler) => {
                let images = block_on(sampler.images(&self.model, recipes));
                tell_recoveries(sampler);
                Ok(images?)
            }
        }
    }

    /// Refuses batches that would exhaust the machine's memory, which ends a program without a word. A GPU's own memory is
    /// checked by its driver.
    fn check_memory(&mut self, batch: usize) -> Result<()> {
        let on_cpu = matches!(self.place, Place::Cpu(_) | Place::Candle { device: Device::Cpu, .. });
        if on_cpu && batch > self.fits {
            if let Some(available) = memory::available() {
                memory::check_batch(&self.model, self.backend, batch, available)?;
            }
            self.fits = batch;
        }
        // Two batches of other sizes would take more than what was checked.
        if let (Place::Cpu(sampler), true) = (&mut self.place, batch != self.batch) {
            sampler.forget();
        }
        self.batch = batch;
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
        match &mut self.place {
            Place::Candle { device, precision } => {
                Ok(precision.sample(&self.model, self.model.inputs(seeds, device)?)?)
            }
            Place::Cpu(sampler) => Ok(block_on(sampler.trajectory(&self.model, seeds))?),
            Place::Wgpu(sampler) => {
                let trajectory = block_on(sampler.trajectory(&self.model, seeds));
                tell_recoveries(sampler);
                Ok(trajectory?)
            }
        }
    }
}

/// What was done to go on after errors.
fn tell_recoveries(sampler: &mut Sampler<lddgan_webgpu::Compiler>) {
    for recovery in sampler.compiler_mut().take_recoveries() {
        warn!("warning: {recovery}");
    }
}
