//! Sums over processes through NCCL, between NVIDIA GPUs.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, ReduceOp, result::NcclError};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::rendezvous::{Place, Watch, meet};
use super::{DistributedError, Launch};

/// The GPUs of a run, one in each process.
pub struct Ring {
    comm: Mutex<Communicator>,
    /// Taken when the run ends.
    watch: Mutex<Option<Watch>>,
}

struct Communicator(Comm);

// SAFETY: NCCL lets any thread use a communicator, if one at a time does, which the mutex above sees to.
unsafe impl Send for Communicator {}

fn failed(error: NcclError) -> DistributedError {
    DistributedError::Start { engine: "NCCL", reason: format!("failed with {:?}", error.0) }
}

impl Ring {
    /// Meets the other processes, see [`Place::from_variables`]. From then on, this process ends when one of them does.
    pub fn start(launch: &Launch, device: &CudaDevice) -> std::result::Result<Self, DistributedError> {
        let place = Place::from_variables(|name| std::env::var(name).ok())?;
        let new_id = || Ok(Id::new().map_err(failed)?.internal().map(|byte| byte as u8));
        let (id, links) = meet(&place, launch, new_id)?;
        let watch = Watch::start(links, super::end_without)
            .map_err(|error| DistributedError::Start { engine: "NCCL", reason: error.to_string() })?;
        let id = Id::uninit(id.map(|byte| byte as std::ffi::c_char));
        let comm = Comm::from_rank(device.cuda_stream(), launch.rank, launch.size, id).map_err(failed)?;
        Ok(Self { comm: Mutex::new(Communicator(comm)), watch: Mutex::new(Some(watch)) })
    }

    /// The sum of the processes' tensors, which are vectors of one length.
    pub fn sum(&self, own: &Tensor) -> Result<Tensor> {
        let comm = self.comm.lock().unwrap_or_else(PoisonError::into_inner);
        own.apply_op1_no_bwd(&AllReduce(&comm.0))
    }

    /// Waits until every process is through.
    pub fn end(&self) {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watch) = watch {
            watch.end();
        }
    }
}

struct AllReduce<'a>(&'a Comm);

impl CustomOp1 for AllReduce<'_> {
    fn name(&self) -> &'static str {
        "all-reduce"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("NCCL adds up what is on GPUs, not on the CPU")
    }

    fn cuda_fwd(&self, own: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let device = own.device().clone();
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("NCCL needs contiguous tensors")
        };
        let own = own.as_cuda_slice::<f32>()?.slice(start..end);
        // SAFETY: NCCL writes every element.
        let mut sum = unsafe { device.alloc::<f32>(own.len())? };
        self.0.all_reduce(&own, &mut sum, &ReduceOp::Sum).map_err(|error| candle_core::Error::wrap(failed(error)))?;
        Ok((CudaStorage::wrap_cuda_slice(sum, device), layout.shape().clone()))
    }
}
