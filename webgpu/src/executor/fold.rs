//! Computes, at compile time, what does not depend on any input.

use candle_core::Tensor;
use lddgan::backend::{Backend, CandleBackend, Graph, Op};

use crate::error::Result;

/// The values of all nodes that depend on no input.
pub fn constants(graph: &Graph) -> Result<Vec<Option<Tensor>>> {
    let mut values: Vec<Option<Tensor>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let inputs: Option<Vec<&Tensor>> = node.inputs.iter().map(|&input| values[input].as_ref()).collect();
        let value = inputs.map(|inputs| evaluate(&node.op, &inputs)).transpose()?;
        values.push(value.flatten());
    }
    Ok(values)
}

/// The result of an operation; `None` for an input of the graph.
fn evaluate(op: &Op, inputs: &[&Tensor]) -> Result<Option<Tensor>> {
    let b = &mut CandleBackend;
    let value = match (op, inputs) {
        (Op::Constant(tensor), []) => tensor.clone(),
        (Op::Conv2d(conv), [x]) => b.conv2d(x, conv)?,
        (Op::Linear(linear, activation), [x]) => b.linear(x, linear, *activation)?,
        (Op::GroupNorm(norm, activation), [x]) => b.group_norm(x, norm, *activation)?,
        (Op::AdaptiveGroupNorm { groups, activation }, [x, style]) => {
            b.adaptive_group_norm(x, style, *groups, *activation)?
        }
        (Op::Activate(activation), [x]) => b.activate(x, *activation)?,
        (Op::PixelNorm, [x]) => b.pixel_norm(x)?,
        (Op::Fir(mode), [x]) => b.fir(x, *mode)?,
        (Op::UpsampleNearest(factor), [x]) => b.upsample_nearest(x, *factor)?,
        (Op::DepthToSpace(factor), [x]) => b.depth_to_space(x, *factor)?,
        (Op::Pool(weights), [x]) => b.pool(x, *weights)?,
        (Op::InverseHaar, [ll, lh, hl, hh]) => b.inverse_haar([ll, lh, hl, hh])?,
        (Op::Concat, [x, y]) => b.concat(x, y)?,
        (Op::AddPerChannel, [x, bias]) => b.add_per_channel(x, bias)?,
        (Op::Multiply, [x, y]) => b.multiply(x, y)?,
        (Op::WeightedSum(factors), inputs) => {
            let terms: Vec<_> = factors.iter().copied().zip(inputs.iter().copied()).collect();
            b.weighted_sum(&terms)?
        }
        (Op::Attention, [q, k, v]) => b.attention(q, k, v)?,
        (Op::Quantize(codebook), [x]) => b.quantize(x, codebook)?,
        (Op::MinibatchStddev, [x]) => b.minibatch_stddev(x)?,
        (Op::SumPixels, [x]) => b.sum_pixels(x)?,
        _ => return Ok(None),
    };
    Ok(Some(value))
}
