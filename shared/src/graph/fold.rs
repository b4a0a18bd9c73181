//! Computes, at compile time, what does not depend on any input.

use candle_core::Tensor;

use super::Graph;
use crate::backend::CandleBackend;
use crate::error::Result;

/// The values of all nodes that depend on no input.
pub fn constants(graph: &Graph) -> Result<Vec<Option<Tensor>>> {
    let mut values: Vec<Option<Tensor>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let inputs: Option<Vec<&Tensor>> = node.inputs.iter().map(|&input| values[input].as_ref()).collect();
        let value = inputs.map(|inputs| node.op.apply(&mut CandleBackend, &inputs)).transpose()?;
        values.push(value.flatten());
    }
    Ok(values)
}
