//! Attention, and the projections before it.

use candle_core::Tensor;
use lddgan::graph::NodeId;
use lddgan::graph::fusion::{FusedConv, ProjectedAttention};
use lddgan::layers::{Conv2d, ConvGeometry};

use super::super::conv::THREADS;
use super::super::layout::Shape;
use super::super::params;
use super::super::program::{Kernel, Layer, Operand, ValueId};
use super::{Dispatch, Lowering};
use crate::error::Result;

/// Positions that one workgroup of attention.wgsl computes, and the most blocks of channels.
const QUERIES: usize = 8;
const CHUNK: usize = 64;

impl Lowering<'_> {
    /// One convolution for query, key and value, then the attention.
    pub fn projected_attention(&mut self, id: NodeId, attention: &ProjectedAttention) -> Result<ValueId> {
        let ProjectedAttention { input, projections, nodes } = attention;
        let conv = self.together(projections)?;
        let y = self.shape(id)?;
        let projected = Shape { channels: 3 * y.channels, ..y };
        self.layer = Layer { y: projected, flops: self.flops(nodes.iter()), ..self.layer(nodes[0], nodes[0])? };
        let value = self.conv(projected, &FusedConv::plain(&conv, nodes[0], *input))?;
        self.layer = self.layer(id, id)?;
        Ok(self.attention([Operand::Value(value); 3], [y.blocks(), 2 * y.blocks()], y))
    }

    /// The three projections as one, the same one at every step.
    fn together(&mut self, projections: &[&Conv2d; 3]) -> Result<Conv2d> {
        let biases: Vec<&Tensor> = projections.iter().filter_map(|conv| conv.bias.as_ref()).collect();
        Ok(Conv2d {
            weight: self.constants.joined(&projections.map(|conv| &conv.weight))?,
            bias: Some(self.constants.joined(&biases)?),
            geometry: ConvGeometry::same(1),
        })
    }

    /// Attention of query, key and value, which may share one image: where the groups of four channels of key and value start.
    pub fn attention(&mut self, reads: [Operand; 3], [first_k, first_v]: [usize; 2], y: Shape) -> ValueId {
        let chunks = y.blocks().div_ceil(CHUNK);
        // As even as whole blocks for each of a query's threads allow.
        let chunk = y.blocks().div_ceil(chunks).next_multiple_of(THREADS / QUERIES);
        let params = params::Attention {
            batch: y.batch as u32,
            blocks: y.blocks() as u32,
            positions: y.pixels() as u32,
            first_k: first_k as u32,
            first_v: first_v as u32,
            scale: (y.channels as f32).sqrt().recip(),
        };
        let dispatch = Dispatch {
            kernel: Kernel { constants: vec![("CHUNK", chunk as u32)], ..kernel!("attention") },
            reads: reads.to_vec(),
            workgroups: y.batch * y.pixels().div_ceil(QUERIES) * chunks,
            vectors: y.vectors(),
            numbers: self.numbers,
        };
        self.emit(dispatch, params)
    }
}
