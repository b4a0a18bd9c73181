//! Adam and the moving average of parameters, over all tensors of a network in one launch each: with many small tensors,
//! launches take longer than what they compute.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::{DType, Error, Result, Storage, Tensor};

use super::{THREADS, ptx, view};

/// A parameter with its moments and its gradient, all f32 of one size on one CUDA device, contiguous. All but the gradient
/// are changed in place.
pub struct Slot<'a> {
    /// The parameter.
    pub value: &'a Tensor,
    /// The moving average of its gradients.
    pub first: &'a Tensor,
    /// That of their squares.
    pub second: &'a Tensor,
    /// Of the loss in the parameter.
    pub gradient: &'a Tensor,
}

/// The numbers of a step; see `Adam` of the trainer.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The learning rate, corrected for the first moment's start at zero.
    pub rate: f64,
    /// What the first moment keeps of itself.
    pub beta1: f64,
    /// What the second moment keeps of itself.
    pub beta2: f64,
    /// What the second moment is divided by for its start at zero.
    pub correct2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Largest norm of all gradients together.
    pub clip: Option<f64>,
}

/// Blocks that share a tensor.
const PORTIONS: u32 = 32;

/// Adam for tensors that stay where they are. What a step needs is on the device, so that it can be recorded.
pub struct FusedAdam {
    device: CudaDevice,
    /// Addresses of the slots' tensors.
    table: CudaSlice<u64>,
    slots: usize,
    /// A [`Step`].
    numbers: CudaSlice<f64>,
    /// Of the squares of each block's part of a gradient.
    sums: CudaSlice<f64>,
    norm: Tensor,
    /// Keeps the memory that the table names.
    _tensors: Vec<Tensor>,
}

impl FusedAdam {
    /// For these parameters, one at least.
    pub fn new(slots: &[Slot]) -> Result<Self> {
        let row = |slot: &Slot| [slot.value, slot.first, slot.second, slot.gradient].map(Tensor::clone).to_vec();
        let rows: Vec<Vec<Tensor>> = slots.iter().map(row).collect();
        let (device, table) = table(&rows)?;
        let norm = Tensor::zeros((), DType::F32, rows[0][0].device())?;
        Ok(Self {
            table,
            slots: slots.len(),
            numbers: device.alloc_zeros(6)?,
            sums: device.alloc_zeros(slots.len() * PORTIONS as usize)?,
            norm,
            _tensors: rows.concat(),
            device,
        })
    }

    /// Takes the numbers of the next step.
    pub fn set(&mut self, step: &Step) -> Result<()> {
        let clip = step.clip.unwrap_or(f64::INFINITY);
        let numbers = [step.rate, step.beta1, step.beta2, step.correct2, step.epsilon, clip];
        self.device.cuda_stream().memcpy_htod(&numbers, &mut self.numbers).map_err(Error::wrap)
    }

    /// Takes the step. Nothing changes if the norm of all gradients together is no finite number.
    pub fn launch(&self) -> Result<()> {
        let config = per_tensor(self.slots);
        let squares = self.device.get_or_load_custom_func("gradient_squares", "lddgan", ptx()?)?;
        let mut arguments = squares.builder();
        arguments.arg(&self.table).arg(&self.sums);
        // SAFETY: the table has a row of four tensors of one size for each slot, `sums` a number for each block.
        unsafe { arguments.launch(config) }.map_err(Error::wrap)?;

        let (count, norm) = (self.sums.len() as i32, address(&self.norm)?.0);
        let total = self.device.get_or_load_custom_func("gradient_norm", "lddgan", ptx()?)?;
        let mut arguments = total.builder();
        arguments.arg(&self.sums).arg(&count).arg(&norm);
        // SAFETY: `count` is the length of `sums`, `norm` is one float.
        unsafe { arguments.launch(LaunchConfig { grid_dim: (1, 1, 1), ..config }) }.map_err(Error::wrap)?;

        let update = self.device.get_or_load_custom_func("adam_update", "lddgan", ptx()?)?;
        let mut arguments = update.builder();
        arguments.arg(&self.table).arg(&norm).arg(&self.numbers);
        // SAFETY: as above; values and moments are written in place, and nothing else reads them meanwhile: all work of
        // the device is on one stream.
        unsafe { arguments.launch(config) }.map_err(Error::wrap)?;
        Ok(())
    }

    /// The norm of the gradients of the last step, of rank 0.
    pub fn norm(&self) -> &Tensor {
        &self.norm
    }
}

/// Moving averages of tensors that stay where they are.
pub struct MovingAverages {
    device: CudaDevice,
    table: CudaSlice<u64>,
    pairs: usize,
    /// Keeps the memory that the table names.
    _tensors: Vec<Tensor>,
}

impl MovingAverages {
    /// Of pairs of an average and the value that it follows, f32 of one size, contiguous.
    pub fn new(pairs: &[(Tensor, Tensor)]) -> Result<Self> {
        let rows: Vec<Vec<Tensor>> =
            pairs.iter().map(|(average, value)| vec![average.clone(), value.clone()]).collect();
        let (device, table) = table(&rows)?;
        Ok(Self { device, table, pairs: pairs.len(), _tensors: rows.concat() })
    }

    /// Each average becomes `decay` times itself plus `1 - decay` times the value, unless `norm` (of rank 0) is no finite
    /// number.
    pub fn launch(&self, decay: f64, norm: &Tensor) -> Result<()> {
        let norm = address(norm)?.0;
        let average = self.device.get_or_load_custom_func("move_average", "lddgan", ptx()?)?;
        let mut arguments = average.builder();
        arguments.arg(&self.table).arg(&norm).arg(&decay);
        // SAFETY: the table has a row of two tensors of one size for each pair.
        unsafe { arguments.launch(per_tensor(self.pairs)) }.map_err(Error::wrap)?;
        Ok(())
    }
}

fn per_tensor(tensors: usize) -> LaunchConfig {
    LaunchConfig { grid_dim: (PORTIONS, tensors as u32, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// On the device: for each row the addresses of its tensors, and how many numbers each of them has.
fn table(rows: &[Vec<Tensor>]) -> Result<(CudaDevice, CudaSlice<u64>)> {
    let mut numbers = Vec::new();
    let mut device = None;
    for row in rows {
        let count = row.first().map_or(0, |tensor| tensor.elem_count());
        for tensor in row {
            if tensor.elem_count() != count {
                candle_core::bail!("adam: tensors of {count} and of {} numbers", tensor.elem_count());
            }
            let (address, on) = address(tensor)?;
            numbers.push(address);
            device = Some(on);
        }
        numbers.push(count as u64);
    }
    let Some(device) = device else { candle_core::bail!("adam: no tensors") };
    let table = device.clone_htod(&numbers)?;
    Ok((device, table))
}

/// Where the values of a contiguous f32 tensor are.
fn address(tensor: &Tensor) -> Result<(u64, CudaDevice)> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { candle_core::bail!("adam: a tensor is not on a CUDA device") };
    let device = storage.device().clone();
    let stream = device.cuda_stream();
    let values = view::<f32>(storage, layout)?;
    let (address, _) = values.device_ptr(&stream);
    Ok((address, device))
}
