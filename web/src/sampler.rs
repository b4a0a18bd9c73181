//! Makes batches of images on a WebGPU device, and goes on after what can happen to one: a lost device is opened again,
//! a batch that is too large is made in smaller ones.

use std::collections::BTreeMap;
use std::fmt;

use lddgan::Model;

use crate::error::{Error, Result};
use crate::executor::{ConvLayer, ConvTimes, Executor, NumberType, Options};
use crate::gpu::Gpu;

/// How often the device may be lost before a batch is done.
const LOSSES: usize = 3;

/// What a sampler did to go on after an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// The device was lost and opened again.
    Reopened { reason: String },
    /// From now on batches are smaller.
    SmallerBatches { largest: usize, reason: String },
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reopened { reason } => write!(f, "{reason}; it was opened again and the batch is repeated"),
            Self::SmallerBatches { largest, reason } => write!(f, "{reason}; batches are of {largest} now"),
        }
    }
}

/// Samples a model on a WebGPU device.
#[derive(Debug)]
pub struct GpuSampler {
    gpu: Gpu,
    /// Compiled for these numbers of images.
    executors: BTreeMap<usize, Executor>,
    largest_batch: usize,
    /// From which each convolution gets its kernel.
    times: ConvTimes,
    recoveries: Vec<Recovery>,
}

impl GpuSampler {
    /// `largest_batch` images are made at once, or fewer where they do not fit.
    pub fn new(gpu: Gpu, largest_batch: usize) -> Self {
        Self {
            gpu,
            executors: BTreeMap::new(),
            largest_batch: largest_batch.max(1),
            times: ConvTimes::default(),
            recoveries: Vec::new(),
        }
    }

    /// From now on each convolution gets the kernel that was the fastest.
    pub fn use_times(&mut self, times: ConvTimes) {
        self.times = times;
        self.executors.clear();
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

    /// Compiles what so many seeds need, which [`Self::sample`] would do too.
    pub async fn prepare(&mut self, model: &Model, seeds: usize) -> Result<()> {
        let mut losses = 0;
        loop {
            let batch = seeds.min(self.largest_batch);
            match self.executor(model, batch).await {
                Ok(_) => return Ok(()),
                Err(error) => self.recover(error, batch, &mut losses).await?,
            }
        }
    }

    /// Makes the images of these seeds in as few batches as fit. `finish` takes the results of a batch from its executor,
    /// whose run was submitted; it may be called again for a batch that has to be repeated. What it made of each batch, in
    /// order.
    pub async fn sample<T>(
        &mut self,
        model: &Model,
        seeds: &[u64],
        mut finish: impl AsyncFnMut(&Executor) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut results = Vec::new();
        let mut rest = seeds;
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

    async fn attempt<T>(
        &mut self,
        model: &Model,
        seeds: &[u64],
        finish: &mut impl AsyncFnMut(&Executor) -> Result<T>,
    ) -> Result<T> {
        let executor = self.executor(model, seeds.len()).await?;
        let noise = model.draw(seeds);
        executor.run(noise.iter().map(|noise| (noise.name.as_str(), noise.values.as_slice())))?;
        finish(executor).await
    }

    async fn executor(&mut self, model: &Model, batch: usize) -> Result<&Executor> {
        if !self.executors.contains_key(&batch) {
            let convolutions = |layer: &ConvLayer| self.times.kernel(layer, &self.gpu);
            let options = Options { convolutions: &convolutions, images: NumberType::F32 };
            let executor = Executor::with_options(&self.gpu, &model.record(batch)?, &options).await?;
            self.executors.insert(batch, executor);
        }
        Ok(&self.executors[&batch])
    }

    /// Makes another attempt at a batch possible, or gives the error back.
    async fn recover(&mut self, error: Error, batch: usize, losses: &mut usize) -> Result<()> {
        let remedy = remedy(&error, batch, *losses).ok_or_else(|| error.clone())?;
        self.executors.clear();
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
