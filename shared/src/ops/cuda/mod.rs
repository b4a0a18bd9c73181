//! The operations of this folder on CUDA devices: convolution by cuDNN, the others from `kernels.cu`, which is compiled
//! at first use.

mod adam;
mod conv;
mod graph;
#[cfg(test)]
mod tests;

pub use adam::{FusedAdam, MovingAverages, Slot, Step};
pub use conv::{Problem, convolve};
pub use graph::{KeptParameters, Replay};

use std::sync::OnceLock;

use candle_core::cuda_backend::cudarc::cudnn::CudnnDataType;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaView, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg, ValidAsZeroBits, result, sys,
};
use candle_core::cuda_backend::cudarc::nvrtc;
use candle_core::cuda_backend::{CudaDType, CudaDevice};
use candle_core::{CudaStorage, Device, Error, Layout, Result, WithDType};
use half::bf16;

/// Makes allocations cheap on a device whose work is all on one stream: no events for each of them, and memory that was
/// freed is kept for the next one instead of going back to the driver at every wait.
pub fn keep_memory(device: &Device) -> Result<()> {
    let Device::Cuda(device) = device else { return Ok(()) };
    // SAFETY: `lddgan` uses a device by the one stream that it was made with.
    unsafe { device.disable_event_tracking() };
    let number = device.cuda_stream().context().cu_device();
    let mut threshold = u64::MAX;
    // SAFETY: the attribute is a number of 64 bits, and the pool is that of the device.
    unsafe {
        let pool = result::device::get_default_mem_pool(number).map_err(Error::wrap)?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast()).map_err(Error::wrap)
    }
}

/// A type that the kernels are there for.
pub trait Element: CudaDType + WithDType + DeviceRepr + ValidAsZeroBits + CudnnDataType {
    /// The suffix of its kernels.
    const NAME: &'static str;
    /// What cuDNN computes in.
    type Compute: CudnnDataType + 'static;
}

impl Element for f32 {
    const NAME: &'static str = "float";
    type Compute = f32;
}

impl Element for f64 {
    const NAME: &'static str = "double";
    type Compute = f64;
}

impl Element for bf16 {
    const NAME: &'static str = "bf16";
    type Compute = f32;
}

/// Evaluates `$body` with `$T` as the type of the storage's values.
macro_rules! with_element {
    ($storage:expr, $T:ident => $body:expr) => {{
        use candle_core::backend::BackendStorage;
        match $storage.dtype() {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            candle_core::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            other => candle_core::bail!("no CUDA kernel for {other:?}; use f32, f64 or bf16"),
        }
    }};
}
pub(crate) use with_element;

/// The values of a contiguous tensor.
pub fn view<'a, T: Element>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, T>> {
    let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op: "lddgan" })?;
    Ok(storage.as_cuda_slice::<T>()?.slice(start..end))
}

/// Memory for `count` values, not initialised: kernels write all of their outputs.
pub fn allocate<T: Element>(device: &CudaDevice, count: usize) -> Result<CudaSlice<T>> {
    // SAFETY: see above.
    unsafe { device.alloc::<T>(count) }
}

/// The compiled kernels.
fn ptx() -> Result<&'static str> {
    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let compile = || nvrtc::compile_ptx(include_str!("kernels.cu")).map(|ptx| ptx.to_src());
    PTX.get_or_init(|| compile().map_err(|error| format!("kernels.cu cannot be compiled: {error:?}")))
        .as_deref()
        .map_err(|error| Error::msg(error).bt())
}

/// Threads of a block where each has one value.
const THREADS: u32 = 256;

/// One thread for each of `count` values.
pub fn per_value(count: usize) -> LaunchConfig {
    let blocks = (count as u32).div_ceil(THREADS).max(1);
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// `blocks` blocks that each go over `values` values.
pub fn per_block(blocks: usize, values: usize) -> LaunchConfig {
    let threads = (values / 4).next_power_of_two().clamp(32, 512) as u32;
    LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// A number that a kernel takes.
pub trait Scalar {
    fn push<'a>(&'a self, arguments: &mut LaunchArgs<'a>);
}

macro_rules! scalar {
    ($($T:ty),*) => {
        $(impl Scalar for $T {
            fn push<'a>(&'a self, arguments: &mut LaunchArgs<'a>) {
                arguments.arg(self);
            }
        })*
    };
}
scalar!(i32, usize, f64);

/// Runs the kernel `name` for values of type `T`, which takes `inputs`, an output of `count` values, and `scalars`, in
/// this order.
pub fn run<T: Element>(
    device: &CudaDevice,
    name: &str,
    config: LaunchConfig,
    count: usize,
    inputs: &[&CudaView<T>],
    scalars: &[&dyn Scalar],
) -> Result<CudaStorage> {
    let mut output = allocate::<T>(device, count)?;
    let function = device.get_or_load_custom_func(&format!("{name}_{}", T::NAME), "lddgan", ptx()?)?;
    let mut arguments = function.builder();
    for input in inputs {
        arguments.arg(*input);
    }
    arguments.arg(&mut output);
    scalars.iter().for_each(|scalar| scalar.push(&mut arguments));
    if config.grid_dim.0 > 0 {
        // SAFETY: each operation gives its kernel the arguments that the kernel declares, and their sizes.
        unsafe { arguments.launch(config) }.map_err(Error::wrap)?;
    }
    Ok(CudaStorage::wrap_cuda_slice(output, device.clone()))
}
