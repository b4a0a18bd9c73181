//! A compiled graph on a device.

use lddgan::Graph;

use crate::error::{Error, Result};
use crate::gpu::Gpu;

/// A graph that was compiled for a device, with its weights and buffers there.
pub struct Executor {}

impl Executor {
    /// Compiles a graph: pipelines, weights and buffers are made here, once.
    pub async fn new(gpu: &Gpu, graph: &Graph) -> Result<Self> {
        Err(Error::Graph("not compiled yet".into()))
    }

    /// Writes the inputs (name, values in the order of the graph's shapes) and submits the whole graph as one command
    /// buffer; does not wait. Every input of the graph must be given.
    pub fn run<'a>(&self, inputs: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<()> {
        Err(Error::Graph("not compiled yet".into()))
    }

    /// Waits for the last run and reads an output, in the order of its shape.
    pub async fn read(&self, output: &str) -> Result<Vec<f32>> {
        Err(Error::Graph("not compiled yet".into()))
    }

    /// The shape of an output, batch first.
    pub fn shape(&self, output: &str) -> Result<&[usize]> {
        Err(Error::Graph("not compiled yet".into()))
    }

    /// Bytes of all buffers that hold values between dispatches.
    pub fn activation_bytes(&self) -> u64 {
        0
    }

    /// Bytes of weights and other constants.
    pub fn weight_bytes(&self) -> u64 {
        0
    }

    /// Dispatches of one run.
    pub fn dispatches(&self) -> usize {
        0
    }
}
