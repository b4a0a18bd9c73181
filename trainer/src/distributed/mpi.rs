//! Sums over processes through MPI, in main memory.

use candle_core::{Result, Tensor};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

use super::{DistributedError, Launch};

/// The processes that `mpirun` or `srun` started. Ends MPI when it is dropped, for which every process waits.
pub struct World(#[expect(dead_code, reason = "held for its drop")] Universe);

impl World {
    /// Starts MPI. Fails if it knows of other processes than the environment, as when the program is started by the
    /// `mpirun` of another MPI than it was built with.
    pub fn start(launch: &Launch) -> std::result::Result<Self, DistributedError> {
        let lost = |reason: String| DistributedError::Start { engine: "MPI", reason };
        let (universe, _) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| lost("was started before".to_string()))?;
        let world = SimpleCommunicator::world();
        match (world.rank(), world.size()) {
            (rank, size) if (rank as usize, size as usize) == (launch.rank, launch.size) => Ok(Self(universe)),
            (rank, size) => Err(lost(format!(
                "takes this for rank {rank} of {size}, the environment for rank {} of {}; start the program with the \
                 mpirun of the MPI that it was built with",
                launch.rank, launch.size
            ))),
        }
    }

    /// The sum of the processes' tensors, which are vectors of one length.
    pub fn sum(&self, own: &Tensor) -> Result<Tensor> {
        let own = own.to_vec1::<f32>()?;
        let mut sum = vec![0f32; own.len()];
        SimpleCommunicator::world().all_reduce_into(&own, &mut sum, SystemOperation::sum());
        let length = sum.len();
        Tensor::from_vec(sum, length, &candle_core::Device::Cpu)
    }

    /// Ends every process of the run at once.
    pub fn abort(&self) -> ! {
        SimpleCommunicator::world().abort(1)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The others wait for this process: without this, it would now wait for them.
        if std::thread::panicking() {
            self.abort();
        }
    }
}
