//! What computes, as the command line names it, and the devices of Candle that belong to it.

use anyhow::{Context, Result, anyhow, bail};
use candle_core::{DType, Device};
use lddgan_webgpu::{Gpu, executor as webgpu};

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendName {
    /// This machine's cores; the networks are compiled for them, except in training, which computes with Candle
    Cpu,
    /// This machine's cores, with Candle, operation by operation: the reference
    Candle,
    /// An NVIDIA GPU, in programs built with `--features cuda`
    Cuda,
    /// WebGPU, on a graphics card or a software adapter
    Wgpu,
}

impl BackendName {
    /// Whether the machine's cores and its memory are used.
    pub fn is_cpu(self) -> bool {
        matches!(self, Self::Cpu | Self::Candle)
    }
}

/// The error for an option that other backends than WebGPU do not have.
pub fn needs_wgpu(option: &str) -> anyhow::Error {
    anyhow!("`{option}` needs `--backend wgpu`")
}

/// The numbers that something is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    F32,
    /// Half the memory; for devices with f16 arithmetic
    F16,
}

impl Dtype {
    pub fn candle(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }

    pub fn webgpu(self) -> webgpu::Dtype {
        match self {
            Self::F32 => webgpu::Dtype::F32,
            Self::F16 => webgpu::Dtype::F16,
        }
    }
}

impl std::fmt::Display for BackendName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Candle => "candle",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        })
    }
}

/// Where Candle keeps a network for this backend.
pub fn device(backend: BackendName) -> Result<Device> {
    numbered_device(backend, 0)
}

/// As [`device`], on the GPU of this number, counted round where fewer are visible: SLURM may show each process its own alone.
pub fn numbered_device(backend: BackendName, number: usize) -> Result<Device> {
    match backend {
        BackendName::Cpu | BackendName::Candle | BackendName::Wgpu => Ok(Device::Cpu),
        BackendName::Cuda if !candle_core::utils::cuda_is_available() => {
            bail!("this program was built without CUDA: build it with `--features cuda`")
        }
        // On a stream of its own: the default one is another for each thread.
        BackendName::Cuda => {
            let number = number % visible_gpus();
            let device = Device::new_cuda_with_stream(number);
            let device = device.with_context(|| format!("CUDA device {number} cannot be used"))?;
            #[cfg(feature = "cuda")]
            lddgan::keep_memory(&device)?;
            Ok(device)
        }
    }
}

/// What compiles for WebGPU, on the adapter of this machine.
pub fn webgpu_compiler() -> Result<lddgan_webgpu::Compiler> {
    Ok(lddgan_webgpu::Compiler::new(pollster::block_on(Gpu::new())?))
}

/// The adapter's name, marked if it computes on the CPU.
pub fn adapter(gpu: &Gpu) -> String {
    format!("{}{}", gpu.name(), if gpu.is_software() { " (a software adapter)" } else { "" })
}

/// How many NVIDIA GPUs this process sees, at least 1.
fn visible_gpus() -> usize {
    #[cfg(feature = "cuda")]
    if let Ok(count) = candle_core::cuda_backend::cudarc::driver::CudaContext::device_count() {
        return count.max(1) as usize;
    }
    1
}
