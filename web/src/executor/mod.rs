//! Executes recorded networks with WebGPU.

mod executable;

pub use executable::Executor;
