//! Compiles graphs for a WebGPU device, and goes on after what can happen to one: a lost device is opened again, a batch
//! that is too large is made in smaller ones.

use std::fmt;

use lddgan::Graph;
use lddgan::executor::Attempt;

use crate::error::{Error, Result};
use crate::executor::{ConvLayer, ConvTimes, Dtype, Executor, Options, Shared};
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

/// Makes executors on a WebGPU device.
#[derive(Debug)]
pub struct Compiler {
    gpu: Gpu,
    constants: Shared,
    /// From which each convolution gets its kernel.
    times: ConvTimes,
    /// The type of images between the kernels.
    images: Dtype,
    recoveries: Vec<Recovery>,
}

impl Compiler {
    /// With the kernels that should be fast, in f32.
    pub fn new(gpu: Gpu) -> Self {
        let (constants, times) = Default::default();
        Self { gpu, constants, times, images: Dtype::F32, recoveries: Vec::new() }
    }

    /// From now on each convolution gets the kernel that was the fastest.
    pub fn use_times(&mut self, times: ConvTimes) {
        self.times = times;
    }

    /// From now on images between the kernels are of this type. f16 needs an adapter that has it, see [`Gpu::has_f16`].
    pub fn use_images(&mut self, images: Dtype) {
        self.images = images;
    }

    /// The type of the images between the kernels.
    pub fn images(&self) -> Dtype {
        self.images
    }

    /// What is known about the convolutions; what was compiled before it was known does not make use of it.
    pub fn times(&self) -> &ConvTimes {
        &self.times
    }

    /// How many of these convolutions were timed.
    pub fn timed(&self, layers: &[ConvLayer]) -> usize {
        layers.iter().filter(|layer| self.times.knows(layer)).count()
    }

    /// Times the next of these convolutions that was not timed yet; false if there is none, or `go_on` said no before it
    /// was done.
    pub async fn measure(&mut self, layers: &[ConvLayer], go_on: impl Fn() -> bool) -> Result<bool> {
        match layers.iter().find(|layer| !self.times.knows(layer)) {
            Some(layer) => self.times.measure_layer(&self.gpu, layer, go_on).await,
            None => Ok(false),
        }
    }

    /// The device; another one after a loss.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// What was done to go on since the last call.
    pub fn take_recoveries(&mut self) -> Vec<Recovery> {
        std::mem::take(&mut self.recoveries)
    }

    /// Bytes of the weights of all its executors, each once.
    pub fn weight_bytes(&self) -> u64 {
        self.constants.all().map(|constant| constant.region.bytes).sum()
    }
}

impl lddgan::Compiler for Compiler {
    type Executor = Executor;
    type Error = Error;

    async fn compile(&mut self, graph: &Graph) -> Result<Executor> {
        let convolutions = |layer: &ConvLayer| self.times.kernel(layer, &self.gpu);
        let options = Options { convolutions: &convolutions, images: self.images };
        Executor::sharing(&self.gpu, graph, &options, &mut self.constants).await
    }

    async fn recover(&mut self, error: Error, attempt: &mut Attempt) -> Result<()> {
        let remedy = remedy(&error, attempt.batch, attempt.losses).ok_or_else(|| error.clone())?;
        if remedy.reopen {
            attempt.losses += 1;
            self.constants = Shared::default();
            // Where it cannot be opened again, the loss is what matters.
            self.gpu = self.gpu.reopen().await.map_err(|_| error.clone())?;
            self.recoveries.push(Recovery::Reopened { reason: error.to_string() });
        }
        if remedy.batch < attempt.batch {
            attempt.batch = remedy.batch;
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
