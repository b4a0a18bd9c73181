//! Norms, and the vectors that style them.

use lddgan::Activation;
use lddgan::graph::styles::Styles;
use lddgan::graph::{NodeId, Op};
use lddgan::layers::{GROUP_NORM_EPS, GroupNorm, Linear};

use super::super::layout::{Dtype, Shape};
use super::super::params::{self, activation_code};
use super::super::program::{Input, Kernel, Layer, Operand, ValueId};
use super::{Dispatch, Lowering};
use crate::error::{Error, Result};

/// Scales and shifts of a norm.
pub struct Style {
    /// (1 or N, 2 C)
    values: Operand,
    /// Where the first sample's lie, and the distance between two samples in f32: 0 if they share one.
    offset: usize,
    stride: usize,
    scale_offset: f32,
    /// Bytes of the value that belong to other norms.
    unread: u64,
}

/// The most vectors of four in a group that one workgroup normalises alone: more of them are shared between many.
const SMALL_GROUP: usize = 2048;
/// `SPAN` of channel_moments.wgsl.
const SPAN: usize = 1024;

impl Lowering<'_> {
    pub fn learned_norm(&mut self, x: NodeId, norm: &GroupNorm, activation: Activation) -> Result<ValueId> {
        let values = Operand::Constant(self.constants.style(&norm.weight, &norm.bias)?);
        self.norm(x, &Style { values, offset: 0, stride: 0, scale_offset: 0.0, unread: 0 }, norm.groups, activation)
    }

    pub fn adaptive_norm(
        &mut self,
        x: NodeId,
        style: NodeId,
        groups: usize,
        activation: Activation,
    ) -> Result<ValueId> {
        let style = match self.styles.get(&style) {
            Some(&(values, offset, stride)) => {
                let own = self.shape(style)?.elements() as u64 * 4;
                let unread = self.program.values[values].bytes.saturating_sub(own);
                Style { values: Operand::Value(values), offset, stride, scale_offset: 1.0, unread }
            }
            None => {
                let stride = 4 * self.shape(style)?.blocks();
                Style { values: self.operand(style)?, offset: 0, stride, scale_offset: 1.0, unread: 0 }
            }
        };
        self.norm(x, &style, groups, activation)
    }

    fn norm(&mut self, x: NodeId, style: &Style, groups: usize, activation: Activation) -> Result<ValueId> {
        let (shape, x) = (self.shape(x)?, self.operand(x)?);
        if groups == 0 || !shape.channels.is_multiple_of(groups) {
            return Err(Error::Graph(format!("a norm of {} channels in {groups} groups", shape.channels)));
        }
        let group_channels = shape.channels / groups;
        let small = group_channels / 4 * shape.pixels() <= SMALL_GROUP;
        if small && group_channels.is_multiple_of(4) {
            Ok(self.small_norm(x, shape, style, groups, activation))
        } else {
            Ok(self.large_norm(x, shape, style, groups, activation))
        }
    }

    /// One dispatch, a workgroup for each group.
    fn small_norm(
        &mut self,
        x: Operand,
        shape: Shape,
        style: &Style,
        groups: usize,
        activation: Activation,
    ) -> ValueId {
        let params = params::GroupNorm {
            batch: shape.batch as u32,
            groups: groups as u32,
            group_blocks: (shape.blocks() / groups) as u32,
            pixels: shape.pixels() as u32,
            style_offset: style.offset as u32,
            style_stride: style.stride as u32,
            scale_offset: style.scale_offset,
            epsilon: GROUP_NORM_EPS as f32,
        };
        let dispatch = Dispatch {
            kernel: Kernel { sums: true, ..kernel!("group_norm", ACTIVATION = activation_code(activation)) },
            reads: vec![x, style.values],
            workgroups: shape.batch * groups,
            vectors: shape.vectors(),
            numbers: self.numbers,
        };
        self.layer.unread = style.unread;
        self.emit(dispatch, params)
    }

    /// Three dispatches, each of which can fill an adapter: moments, factors, and their use.
    fn large_norm(
        &mut self,
        x: Operand,
        shape: Shape,
        style: &Style,
        groups: usize,
        activation: Activation,
    ) -> ValueId {
        let pixels = shape.pixels() as u32;
        let parts = shape.pixels().div_ceil(SPAN);
        let planes = shape.batch * shape.blocks();
        let dispatch = Dispatch {
            kernel: Kernel { sums: true, ..kernel!("channel_moments") },
            reads: vec![x],
            workgroups: planes * parts,
            vectors: 2 * planes * parts,
            numbers: Dtype::F32,
        };
        let moments =
            self.emit(dispatch, params::ChannelMoments { planes: planes as u32, pixels, parts: parts as u32 });
        let params = params::NormFactors {
            batch: shape.batch as u32,
            groups: groups as u32,
            group_channels: (shape.channels / groups) as u32,
            pixels,
            parts: parts as u32,
            span: SPAN as u32,
            style_offset: style.offset as u32,
            style_stride: style.stride as u32,
            scale_offset: style.scale_offset,
            epsilon: GROUP_NORM_EPS as f32,
        };
        let dispatch = Dispatch {
            kernel: Kernel { sums: true, ..kernel!("norm_factors") },
            reads: vec![Operand::Value(moments), style.values],
            workgroups: shape.batch * groups,
            vectors: 2 * planes,
            numbers: Dtype::F32,
        };
        self.layer.unread = style.unread;
        let factors = self.emit(dispatch, params);
        self.layer.unread = 0;
        let kernel = kernel!("scale_shift", ACTIVATION = activation_code(activation));
        let params = params::ScaleShift {
            count: shape.vectors() as u32,
            batch: shape.batch as u32,
            blocks: shape.blocks() as u32,
            pixels,
        };
        self.emit(self.pointwise(kernel, vec![x, Operand::Value(factors)], shape), params)
    }

    /// Computes all styles: one dispatch for each layer, one for all heads.
    pub fn compute_styles(&mut self, styles: &Styles) -> Result<()> {
        let rows = |shape: Shape| Shape { batch: styles.inputs.len() * shape.batch, ..shape };
        let one = self.shape(styles.inputs[0])?;
        let whole = self.value(rows(one).vectors(), Dtype::F32);
        for (i, &input) in styles.inputs.iter().enumerate() {
            let Op::Input(name) = &self.graph.nodes[input].op else { continue };
            let offset = i as u64 * one.vectors() as u64 * Dtype::F32.vector_bytes();
            self.add_input(name, Input { value: whole, offset, shape: one })?;
            // What others read of it.
            let part = self.value(one.vectors(), Dtype::F32);
            self.program.parts.insert(part, (whole, offset));
            self.values[input] = Some(part);
        }
        let (mut x, mut shape) = (whole, rows(one));
        for nodes in &styles.layers {
            let y = rows(self.shape(nodes[0])?);
            self.layer = Layer { x: shape, y, flops: self.flops(nodes.iter()), unread: 0, conv: None };
            x = match &self.graph.nodes[nodes[0]].op {
                Op::Linear(linear, activation) => self.linear(Operand::Value(x), shape, y, linear, *activation)?,
                _ => self.pixel_norm(Operand::Value(x), y),
            };
            shape = y;
        }
        let heads = || styles.heads.iter().map(|(head, _)| head);
        let weight = self.constants.joined(&heads().map(|head| &head.weight).collect::<Vec<_>>())?;
        let bias = self.constants.joined(&heads().map(|head| &head.bias).collect::<Vec<_>>())?;
        let heads = Linear { weight, bias };
        let y = Shape { channels: heads.bias.elem_count(), ..shape };
        self.layer = Layer { x: shape, y, flops: self.flops(styles.places.keys()), unread: 0, conv: None };
        let values = self.linear(Operand::Value(x), shape, y, &heads, Activation::Identity)?;
        let widths = styles.heads.iter().map(|(head, _)| head.bias.elem_count());
        let starts: Vec<usize> = widths.scan(0, |end, width| Some(std::mem::replace(end, *end + width))).collect();
        let stride = 4 * y.blocks();
        for (&style, &(input, head)) in &styles.places {
            self.styles.insert(style, (values, input * one.batch * stride + starts[head], stride));
        }
        Ok(())
    }
}
