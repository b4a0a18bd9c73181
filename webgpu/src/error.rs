//! The errors of this crate.

/// What can go wrong on the way from a graph to an image on a GPU.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// There is no WebGPU here, or no adapter for it.
    #[error(
        "no WebGPU adapter: {0}; a browser needs WebGPU switched on, a native program a Vulkan, Metal or DirectX 12 driver (on Debian without a GPU: `apt-get install mesa-vulkan-drivers`)"
    )]
    NoAdapter(String),
    /// The adapter gave no device.
    #[error("the adapter {adapter} gave no WebGPU device: {reason}")]
    NoDevice { adapter: String, reason: String },
    /// Nothing can be timed on this adapter.
    #[error("the adapter {0} has no timestamp queries, so single kernels cannot be timed")]
    NoTimestamps(String),
    /// f16 was asked for.
    #[error("the adapter {0} has no f16 numbers; use f32")]
    NoF16(String),
    /// Something is larger than the device allows; a smaller batch may fit.
    #[error("{what} needs {needed} {unit}, the limit of this device is {limit}; try a smaller batch")]
    LimitExceeded { what: String, unit: &'static str, needed: u64, limit: u64 },
    /// A kernel that the driver or browser did not accept.
    #[error("kernel `{kernel}` does not compile: {reason}")]
    Shader { kernel: String, reason: String },
    /// The device is gone (driver reset, unplugged, too long a computation); a new [`crate::Gpu`] may work.
    #[error("the WebGPU device was lost: {0}")]
    DeviceLost(String),
    /// The device has no memory left.
    #[error("the WebGPU device is out of memory; try a smaller batch")]
    OutOfMemory,
    /// WebGPU reported an error that has no kind of its own here.
    #[error("WebGPU: {0}")]
    WebGpu(String),
    /// A graph that cannot be executed, or an output that it does not have.
    #[error("graph: {0}")]
    Graph(String),
    /// An error of the networks' crate.
    #[error("{0}")]
    Model(String),
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl From<lddgan::Error> for Error {
    fn from(error: lddgan::Error) -> Self {
        Self::Model(error.to_string())
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.to_string())
    }
}

impl From<wgpu::Error> for Error {
    fn from(error: wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::OutOfMemory,
            error => Self::WebGpu(error.to_string()),
        }
    }
}
