//! Images of other sizes: FIR filters, nearest neighbours, and channels that become pixels.

use lddgan::FirMode;
use lddgan::graph::Node;

use super::super::layout::Shape;
use super::super::params::{self, fir_code};
use super::super::program::{Kernel, ValueId};
use super::Lowering;
use crate::error::Result;

impl Lowering<'_> {
    pub fn fir(&mut self, node: &Node, y: Shape, mode: FirMode) -> Result<ValueId> {
        let [x] = node.inputs()?;
        let shape = self.shape(x)?;
        let params = params::Fir {
            count: y.vectors() as u32,
            in_height: shape.height as u32,
            in_width: shape.width as u32,
            out_height: y.height as u32,
            out_width: y.width as u32,
        };
        let reads = vec![self.operand(x)?];
        Ok(self.emit(self.pointwise(kernel!("fir", MODE = fir_code(mode)), reads, y), params))
    }

    pub fn upsample_nearest(&mut self, node: &Node, y: Shape, factor: usize) -> Result<ValueId> {
        let [x] = node.inputs()?;
        let shape = self.shape(x)?;
        let params = params::UpsampleNearest {
            count: y.vectors() as u32,
            in_height: shape.height as u32,
            in_width: shape.width as u32,
            factor: factor as u32,
        };
        let reads = vec![self.operand(x)?];
        Ok(self.emit(self.pointwise(kernel!("upsample_nearest"), reads, y), params))
    }

    pub fn depth_to_space(&mut self, node: &Node, y: Shape, factor: usize) -> Result<ValueId> {
        let [x] = node.inputs()?;
        let shape = self.shape(x)?;
        let params = params::DepthToSpace {
            count: y.vectors() as u32,
            batch: y.batch as u32,
            in_height: shape.height as u32,
            in_width: shape.width as u32,
            out_channels: y.channels as u32,
            factor: factor as u32,
        };
        let reads = vec![self.operand(x)?];
        Ok(self.emit(self.pointwise(kernel!("depth_to_space"), reads, y), params))
    }
}
