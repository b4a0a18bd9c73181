//! Launches that are recorded once and then replayed as one (CUDA graphs): small kernels are over sooner than they are
//! launched one by one.

use std::any::Any;

use candle_core::cuda_backend::cudarc::driver::{CudaGraph, sys};
use candle_core::{Device, Error, Result};

/// Recorded launches.
pub struct Replay(CudaGraph);

impl Replay {
    /// Records what `launches` does on the device, which is not done yet. It must be something that was done before with
    /// tensors of the same shapes, must neither wait for the device nor copy from or to it, and may leave nothing behind but
    /// what it writes into tensors that were there before.
    pub fn record(device: &Device, launches: impl FnOnce() -> Result<()>) -> Result<Self> {
        let Device::Cuda(device) = device else { candle_core::bail!("only launches on a CUDA device can be recorded") };
        let stream = device.cuda_stream();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        stream.begin_capture(mode).map_err(Error::wrap)?;
        let launched = launches();
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags);
        launched?;
        match graph.map_err(Error::wrap)? {
            Some(graph) => Ok(Self(graph)),
            None => candle_core::bail!("nothing was recorded"),
        }
    }

    /// Does what was recorded.
    pub fn run(&self) -> Result<()> {
        self.0.launch().map_err(Error::wrap)
    }
}

/// While it lives, shapes and strides that this thread gives to kernels are uploaded once and kept, as recording needs it.
/// Candle's guard has no public name.
pub struct KeptParameters {
    _guard: Option<Box<dyn Any>>,
}

impl KeptParameters {
    /// On this device; nothing changes on others than CUDA's.
    pub fn on(device: &Device) -> Self {
        let Device::Cuda(device) = device else { return Self { _guard: None } };
        Self { _guard: Some(Box::new(device.enable_cuda_graph_htod_cache())) }
    }
}
