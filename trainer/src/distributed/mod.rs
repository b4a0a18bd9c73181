//! Training in several processes: each computes the gradients of its share of a batch, and all take the same step.
//!
//! The batch of a preset is that of all processes together, and random numbers belong to the samples, so the number of
//! processes changes how long a run takes and not, apart from rounding, what comes out of it.
//!
//! Sample n of a batch goes to the process n modulo their number. The discriminator's minibatch statistic compares the
//! samples whose n are equal modulo a quarter of the batch; these stay together in one process, as long as the
//! batch is a multiple of four times the processes.

mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
#[cfg(any(feature = "nccl", test))]
mod rendezvous;

use std::ops::Range;
#[cfg(any(feature = "mpi", feature = "nccl"))]
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor};
use lddgan::parameters::Parameters;
use sha2::{Digest, Sha256};

pub use launch::Launch;

use crate::warn;

/// What keeps processes from working together.
#[derive(Debug, thiserror::Error)]
pub enum DistributedError {
    #[error(
        "the environment variable {name} is `{value}`, which says nothing about this process; start it with \
             mpirun, srun or torchrun, or unset the variables of the one that did not start it"
    )]
    Variable { name: &'static str, value: String },
    #[error("this is one of {size} processes, for which this program must be built with `--features {feature}`")]
    NotBuilt { size: usize, feature: &'static str },
    #[error("{engine} {reason}")]
    Start { engine: &'static str, reason: String },
    #[error("the processes cannot meet at {host}:{port} (MASTER_ADDR, MASTER_PORT): {reason}")]
    Rendezvous { host: String, port: u16, reason: String },
    #[error("{field}: a batch of {batch} cannot be shared by {size} processes, it must be a multiple of {multiple}")]
    Batch { field: &'static str, batch: usize, size: usize, multiple: usize },
    #[error(
        "the processes differ in their options, data or checkpoints; all need the same program, arguments and files"
    )]
    Differ,
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The processes of a run, seen from one of them.
#[derive(Clone)]
pub struct Processes {
    rank: usize,
    size: usize,
    engine: Engine,
    /// Where tensors are for the engine.
    device: Device,
}

/// Who adds up what the processes have.
#[derive(Clone)]
enum Engine {
    /// There is one process.
    Alone,
    #[cfg(feature = "mpi")]
    Mpi(Arc<mpi::World>),
    #[cfg(feature = "nccl")]
    Nccl(Arc<nccl::Ring>),
}

impl Engine {
    /// MPI for processes that compute on the CPU, NCCL for GPUs.
    fn start(launch: &Launch, device: &Device) -> std::result::Result<Self, DistributedError> {
        match device {
            _ if launch.size == 1 => Ok(Self::Alone),
            #[cfg(feature = "mpi")]
            Device::Cpu => Ok(Self::Mpi(Arc::new(mpi::World::start(launch)?))),
            #[cfg(feature = "nccl")]
            Device::Cuda(device) => Ok(Self::Nccl(Arc::new(nccl::Ring::start(launch, device)?))),
            #[cfg(not(feature = "mpi"))]
            Device::Cpu => Err(DistributedError::NotBuilt { size: launch.size, feature: "mpi" }),
            _ => Err(DistributedError::NotBuilt { size: launch.size, feature: "nccl" }),
        }
    }

    fn sum(&self, own: &Tensor) -> Result<Tensor> {
        match self {
            Self::Alone => Ok(own.clone()),
            #[cfg(feature = "mpi")]
            Self::Mpi(world) => world.sum(own),
            #[cfg(feature = "nccl")]
            Self::Nccl(ring) => ring.sum(own),
        }
    }

    /// Waits until every process is through; MPI does so when it is dropped.
    fn end(&self) {
        match self {
            #[cfg(feature = "nccl")]
            Self::Nccl(ring) => ring.end(),
            _ => {}
        }
    }

    /// Ends this process and with it the others, which would wait for it.
    fn abort(&self) -> ! {
        match self {
            #[cfg(feature = "mpi")]
            Self::Mpi(world) => world.abort(),
            _ => std::process::exit(1),
        }
    }
}

/// Runs `body`, which gets to know the other processes of the run. Those that are not the first say nothing but
/// errors. An error in one of them ends all, and does not return if there are several.
pub fn run<T>(device: &Device, body: impl FnOnce(&Processes) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let launch = Launch::from_environment()?;
    let processes = Processes::start(&launch, device)?;
    if !processes.is_first() {
        silence_output();
    }
    match body(&processes) {
        Ok(value) => {
            processes.engine.end();
            Ok(value)
        }
        Err(error) if launch.size == 1 => Err(error),
        Err(error) => {
            warn!("error: rank {} of {} processes: {error:#}", launch.rank, launch.size);
            processes.engine.abort()
        }
    }
}

/// Sends what is written to standard output nowhere.
fn silence_output() {
    #[cfg(unix)]
    if let Ok(nowhere) = std::fs::File::create("/dev/null") {
        use std::os::fd::AsRawFd;
        // SAFETY: both descriptors are open; the copy outlives `nowhere`.
        unsafe { libc::dup2(nowhere.as_raw_fd(), libc::STDOUT_FILENO) };
    }
}

/// Ends this process because another one ended before its time.
#[cfg(feature = "nccl")]
fn end_without(rank: usize) {
    warn!("error: the process of rank {rank} is gone, so this one ends too");
    // SAFETY: ends the process without the cleaning up of the CUDA libraries, which may wait for the one that is gone.
    unsafe { libc::_exit(1) }
}

impl Processes {
    /// A run in this process alone.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, engine: Engine::Alone, device: Device::Cpu }
    }

    fn start(launch: &Launch, device: &Device) -> std::result::Result<Self, DistributedError> {
        let engine = Engine::start(launch, device)?;
        Ok(Self { rank: launch.rank, size: launch.size, engine, device: device.clone() })
    }

    /// Whether this is the process that writes files.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// What picks those of a batch's samples that are this process's.
    pub fn share(&self) -> impl Fn(Range<u64>) -> Vec<u64> + Send + use<> {
        let (rank, size) = (self.rank, self.size);
        move |batch| batch.skip(rank).step_by(size).collect()
    }

    /// Which of the processes this is.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Checks that the preset's `field`, a batch size, can be shared so that groups of `group` samples stay whole.
    pub fn check_batch(
        &self,
        field: &'static str,
        batch: usize,
        group: usize,
    ) -> std::result::Result<(), DistributedError> {
        let multiple = group * self.size;
        match self.size == 1 || batch.is_multiple_of(multiple) {
            true => Ok(()),
            false => Err(DistributedError::Batch { field, batch, size: self.size, multiple }),
        }
    }

    /// The gradients in `parameters` of the mean of the `loss` of all processes.
    pub fn backward(&self, loss: &Tensor, parameters: &Parameters) -> Result<GradStore> {
        let mut gradients = loss.backward()?;
        if self.size == 1 {
            return Ok(gradients);
        }
        let own = parameters.vars().into_iter();
        let own: Vec<_> = own.filter_map(|(_, var)| Some((gradients.get(&var)?.detach(), var))).collect();
        let sums = self.sum(&own.iter().map(|(gradient, _)| gradient).collect::<Vec<_>>())?;
        for ((_, var), sum) in own.iter().zip(sums) {
            gradients.insert(var, (sum / self.size as f64)?);
        }
        Ok(gradients)
    }

    /// The mean of a tensor over the processes.
    pub fn mean(&self, own: &Tensor) -> Result<Tensor> {
        if self.size == 1 { Ok(own.clone()) } else { &self.sum(&[own])?[0] / self.size as f64 }
    }

    /// The rows `places` of what the processes have together: rows (N, …) of the samples of their shares.
    pub fn rows(&self, own: &Tensor, places: &[usize]) -> Result<Tensor> {
        let row = |&place: &usize| match place % self.size == self.rank {
            true => own.get(place / self.size),
            false => own.get(0)?.zeros_like(),
        };
        let rows = Tensor::stack(&places.iter().map(row).collect::<Result<Vec<_>>>()?, 0)?;
        if self.size == 1 { Ok(rows) } else { Ok(self.sum(&[&rows])?.remove(0)) }
    }

    /// Replaces each value by its mean over the processes.
    pub fn average(&self, values: &mut [&mut f64]) -> Result<()> {
        if self.size == 1 {
            return Ok(());
        }
        let own: Vec<f32> = values.iter().map(|value| **value as f32).collect();
        let sums = self.engine.sum(&Tensor::new(own, &self.device)?)?.to_vec1::<f32>()?;
        values.iter_mut().zip(sums).for_each(|(value, sum)| **value = f64::from(sum) / self.size as f64);
        Ok(())
    }

    /// Which of the conditions hold in one process at least.
    pub fn any<const N: usize>(&self, conditions: [bool; N]) -> Result<[bool; N]> {
        let mut shares = conditions.map(|condition| f64::from(u8::from(condition)));
        self.average(&mut shares.each_mut())?;
        Ok(shares.map(|share| share > 0.0))
    }

    /// Gives all processes the parameters of the first.
    pub fn copy_first(&self, parameters: &Parameters) -> Result<()> {
        if self.size == 1 {
            return Ok(());
        }
        let vars = parameters.vars();
        let own = vars.iter().map(|(_, var)| if self.is_first() { Ok(var.detach()) } else { var.zeros_like() });
        let first = self.sum(&own.collect::<Result<Vec<_>>>()?.iter().collect::<Vec<_>>())?;
        vars.iter().zip(first).try_for_each(|((_, var), first)| var.set(&first))
    }

    /// Checks that `description` is the same in all processes.
    pub fn check_same(&self, description: &str) -> std::result::Result<(), DistributedError> {
        let own: Vec<f64> = Sha256::digest(description).into_iter().map(f64::from).collect();
        let mut mean = own.clone();
        self.average(&mut mean.iter_mut().collect::<Vec<_>>())?;
        match self.any([mean != own])? {
            [true] => Err(DistributedError::Differ),
            [false] => Ok(()),
        }
    }

    /// The sums of tensors over the processes, all in one message.
    fn sum(&self, own: &[&Tensor]) -> Result<Vec<Tensor>> {
        let flat = own.iter().map(|tensor| tensor.flatten_all()).collect::<Result<Vec<_>>>()?;
        let sum = self.engine.sum(&Tensor::cat(&flat, 0)?)?;
        let mut start = 0;
        let part = |tensor: &&Tensor| {
            let part = sum.narrow(0, start, tensor.elem_count())?.reshape(tensor.shape());
            start += tensor.elem_count();
            part
        };
        own.iter().map(part).collect()
    }
}
