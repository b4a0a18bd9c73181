//! The pixels that the kernel sees at each place are gathered, tap by tap, and multiplied with the weights.

use std::ops::Range;

use bytemuck::Zeroable;
use pulp::{Simd, WithSimd};

use super::{ConvLayer, Division, Task};
use crate::layout::{BLOCK, Block};
use crate::product::Product;
use crate::simd::dispatch;
use crate::workers::Workers;

/// Blocks that gathered pixels should take at most, so that they stay in the cache.
const GATHERED: usize = 4096;

/// Pixels that are computed at a time, whole tiles of products if possible.
fn limit(layer: &ConvLayer) -> usize {
    (GATHERED / depth(layer)).clamp(14, 168) / 14 * 14
}

/// Blocks of channels that are summed over.
fn depth(layer: &ConvLayer) -> usize {
    layer.x.blocks() * layer.geometry.kernel.pow(2)
}

/// Whether pixels are multiplied where they lie.
fn is_in_place(layer: &ConvLayer) -> bool {
    let geometry = layer.geometry;
    layer.upsample == 1 && (geometry.kernel, geometry.stride) == (1, 1) && layer.x.plane() == layer.y.plane()
}

pub fn memory(layer: &ConvLayer) -> usize {
    limit(layer) * (depth(layer) + layer.y.blocks())
}

pub fn compute(task: Task, workers: &mut Workers) {
    let (arch, layer) = (workers.arch, task.layer);
    let panels = layer.y.blocks();
    let flops = 2 * (layer.y.plane() * panels * BLOCK * depth(layer) * BLOCK) as u64;
    let division = Division::new(layer.y.plane(), limit(layer), panels, flops);
    workers.run(division.parts(), |i, memory| {
        let (rows, panels) = division.part(i);
        let (gathered, sums) = memory.split_at_mut(rows.len() * depth(layer));
        let size = depth(layer) * BLOCK;
        let (pixels, stride) = if is_in_place(layer) {
            (&task.x[rows.start..], layer.x.plane())
        } else {
            dispatch(arch, Gather { task: &task, rows: rows.clone(), gathered });
            (&*gathered, rows.len())
        };
        let weights = &task.weights[panels.start * size..panels.end * size];
        let product = Product { pixels, stride, rows: rows.len(), depth: depth(layer), weights };
        product.write(arch, sums, rows.len());
        dispatch(arch, Finish { task: &task, rows, panels, sums });
    });
}

/// Copies what the kernel sees at some places of y, as (taps, blocks of channels, places).
struct Gather<'a> {
    task: &'a Task<'a>,
    rows: Range<usize>,
    gathered: &'a mut [Block],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let ConvLayer { x, y, geometry, upsample } = *self.task.layer;
        let mut parts = self.gathered.chunks_exact_mut(self.rows.len());
        for tap in 0..geometry.kernel.pow(2) {
            for block in 0..x.blocks() {
                let plane = &self.task.x[block * x.plane()..][..x.plane()];
                let Some(part) = parts.next() else { return };
                let (mut n, mut row, mut column) =
                    (self.rows.start / y.pixels(), self.rows.start / y.width % y.height, self.rows.start % y.width);
                for pixel in part {
                    // Outside the image these are huge, because a negative number is.
                    let at =
                        |place: usize, tap: usize| (place * geometry.stride + tap).wrapping_sub(geometry.pad_before);
                    let (i, j) = (at(row, tap / geometry.kernel), at(column, tap % geometry.kernel));
                    *pixel = if i < x.height * upsample && j < x.width * upsample {
                        let (i, j) = if upsample == 1 { (i, j) } else { (i / upsample, j / upsample) };
                        plane[(n * x.height + i) * x.width + j]
                    } else {
                        Block::zeroed()
                    };
                    column += 1;
                    if column == y.width {
                        (row, column) = (row + 1, 0);
                        if row == y.height {
                            (n, row) = (n + 1, 0);
                        }
                    }
                }
            }
        }
    }
}

/// Finishes the sums of some places and blocks of channels.
struct Finish<'a> {
    task: &'a Task<'a>,
    rows: Range<usize>,
    panels: Range<usize>,
    sums: &'a [Block],
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let shape = &self.task.layer.y;
        let first = self.rows.start;
        for (block, sums) in self.panels.zip(self.sums.chunks_exact(self.rows.len())) {
            let start = block * shape.plane() + first;
            // SAFETY: no other part has these places of this block of channels.
            let y = unsafe { self.task.y.get(start..start + self.rows.len()) };
            self.task.epilogue.finish_all(simd, shape, block, first, sums, y);
        }
    }
}
