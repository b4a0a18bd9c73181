//! Adam and the moving average of parameters, over all tensors of a network in one launch each: with many small tensors,
//! launches take longer than what they compute.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::{DType, Error, Result, Storage, Tensor};

use super::{THREADS, ptx, view};

/// A parameter with its moments and its gradient, all f32 of one size on one CUDA device, contiguous but for the gradient.
/// All but the gradient are changed in place.
pub struct Slot<'a> {
    pub value: &'a Tensor,
    pub first: &'a Tensor,
    pub second: &'a Tensor,
    pub gradient: &'a Tensor,
}

/// The numbers of a step; see `Adam` of the trainer.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The learning rate, corrected for the first moment's start at zero.
    pub rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    /// What the second moment is divided by for its start at zero.
    pub correct2: f64,
    pub epsilon: f64,
    /// Largest norm of all gradients together.
    pub clip: Option<f64>,
}

/// Blocks that share a tensor.
const PORTIONS: u32 = 32;

/// Takes a step of Adam with all parameters; nothing changes if the norm of all gradients is no finite number. Returns
/// that norm, of rank 0.
pub fn adam_step(slots: &[Slot], step: &Step) -> Result<Tensor> {
    let Some(first) = slots.first() else { candle_core::bail!("adam: no parameters") };
    let norm = Tensor::zeros((), DType::F32, first.value.device())?;
    let gradients = slots.iter().map(|slot| slot.gradient.contiguous()).collect::<Result<Vec<_>>>()?;
    let rows = slots.iter().zip(&gradients);
    let rows = rows.map(|(slot, gradient)| vec![slot.value, slot.first, slot.second, gradient]).collect::<Vec<_>>();
    let (device, table) = table(&rows)?;
    let sums = device.alloc_zeros::<f64>(slots.len() * PORTIONS as usize)?;
    let config = per_tensor(slots.len());

    let squares = device.get_or_load_custom_func("squares", "lddgan", ptx()?)?;
    let mut arguments = squares.builder();
    arguments.arg(&table).arg(&sums);
    // SAFETY: the table has a row of four tensors of one size for each slot, and `sums` a number for each block.
    unsafe { arguments.launch(config) }.map_err(Error::wrap)?;

    let count = sums.len() as i32;
    let norm_address = address(&norm)?.0;
    let total = device.get_or_load_custom_func("norm", "lddgan", ptx()?)?;
    let mut arguments = total.builder();
    arguments.arg(&sums).arg(&count).arg(&norm_address);
    // SAFETY: `count` is the length of `sums`, `norm` is one float.
    unsafe { arguments.launch(LaunchConfig { grid_dim: (1, 1, 1), ..config }) }.map_err(Error::wrap)?;

    let clip = step.clip.unwrap_or(f64::INFINITY);
    let Step { rate, beta1, beta2, correct2, epsilon, .. } = step;
    let adam = device.get_or_load_custom_func("adam", "lddgan", ptx()?)?;
    let mut arguments = adam.builder();
    arguments.arg(&table).arg(&norm_address).arg(rate).arg(beta1).arg(beta2).arg(correct2).arg(epsilon).arg(&clip);
    // SAFETY: as above; values and moments are written in place, and nothing else reads them meanwhile: all work of the
    // device is on one stream.
    unsafe { arguments.launch(config) }.map_err(Error::wrap)?;
    Ok(norm)
}

/// Moves each average (first of a pair) to `decay` times itself plus `1 - decay` times the value (second), in place.
pub fn move_averages(pairs: &[(&Tensor, &Tensor)], decay: f64) -> Result<()> {
    if pairs.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<&Tensor>> = pairs.iter().map(|&(average, value)| vec![average, value]).collect();
    let (device, table) = table(&rows)?;
    let average = device.get_or_load_custom_func("move_average", "lddgan", ptx()?)?;
    let mut arguments = average.builder();
    arguments.arg(&table).arg(&decay);
    // SAFETY: the table has a row of two tensors of one size for each pair.
    unsafe { arguments.launch(per_tensor(pairs.len())) }.map_err(Error::wrap)?;
    Ok(())
}

fn per_tensor(tensors: usize) -> LaunchConfig {
    LaunchConfig { grid_dim: (PORTIONS, tensors as u32, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// On the device: for each row the addresses of its tensors, and how many numbers each of them has.
fn table(rows: &[Vec<&Tensor>]) -> Result<(CudaDevice, CudaSlice<u64>)> {
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
