//! Attention over all positions.

use std::ops::Range;

use bytemuck::Zeroable;
use pulp::{Simd, WithSimd};

use super::Kernel;
use lddgan_kernels::layout::{BLOCK, Block, Shape};
use lddgan_kernels::product::Product;
use lddgan_kernels::simd::{dispatch, exp, of, of_mut};
use lddgan_kernels::workers::{Parts, Workers, share};

/// softmax(qᵀk / sqrt(C)) v. Reads q, k and v.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    pub shape: Shape,
}

/// Blocks that weights of positions should take at most.
const WEIGHTS: usize = 4096;

impl Attention {
    /// Blocks of positions of an image.
    fn positions(&self) -> usize {
        self.shape.pixels().div_ceil(BLOCK)
    }

    /// Queries that are answered at a time.
    fn queries(&self) -> usize {
        (WEIGHTS / self.positions()).clamp(14, 56).min(self.shape.pixels())
    }

    /// The keys of an image as weights of a product, with a row of positions for each channel.
    fn keys(&self, k: &[Block], sample: usize, packed: &mut [Block]) {
        let Shape { batch, .. } = self.shape;
        let (pixels, depth) = (self.shape.pixels(), self.shape.blocks());
        packed.fill(Block::zeroed());
        for block in 0..depth {
            let plane = &k[(block * batch + sample) * pixels..][..pixels];
            for (position, key) in plane.iter().enumerate() {
                let rows = (position / BLOCK * depth + block) * BLOCK;
                for (c, value) in key.0.iter().enumerate() {
                    packed[rows + c].0[position % BLOCK] = *value;
                }
            }
        }
    }

    /// The values of an image as weights of a product: they lie so already, but for absent positions.
    fn values(&self, v: &[Block], sample: usize, packed: &mut [Block]) {
        let pixels = self.shape.pixels();
        for (block, packed) in packed.chunks_exact_mut(self.positions() * BLOCK).enumerate() {
            let (values, absent) = packed.split_at_mut(pixels);
            values.copy_from_slice(&v[(block * self.shape.batch + sample) * pixels..][..pixels]);
            absent.fill(Block::zeroed());
        }
    }
}

impl Kernel for Attention {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let arch = workers.arch;
        let [q, k, v] = [reads[0], reads[1], reads[2]];
        let Shape { batch, channels, .. } = self.shape;
        let (pixels, depth, positions) = (self.shape.pixels(), self.shape.blocks(), self.positions());
        let flops = (batch * pixels * pixels * channels * 4) as u64;
        let splits = Workers::parts(flops, batch * pixels).div_ceil(batch).min(pixels);
        let y = Parts::new(y);
        workers.run(batch * splits, |i, memory| {
            let (sample, all) = (i / splits, share(pixels, splits, i % splits));
            let (keys, memory) = memory.split_at_mut(positions * depth * BLOCK);
            let (values, memory) = memory.split_at_mut(positions * depth * BLOCK);
            self.keys(k, sample, keys);
            self.values(v, sample, values);
            let chunks = all.len().div_ceil(self.queries());
            for queries in (0..chunks).map(|chunk| {
                let Range { start, end } = share(all.len(), chunks, chunk);
                all.start + start..all.start + end
            }) {
                let rows = queries.len();
                let (weights, sums) = memory.split_at_mut(positions * rows);
                let query = &q[sample * pixels + queries.start..];
                let product = Product { pixels: query, stride: batch * pixels, rows, depth, weights: keys };
                product.write(arch, weights, rows);
                dispatch(arch, Softmax { weights, rows, positions: pixels, scale: (channels as f32).powf(-0.5) });
                let product = Product { pixels: weights, stride: rows, rows, depth: positions, weights: values };
                product.write(arch, sums, rows);
                for (block, sums) in sums.chunks_exact(rows).take(depth).enumerate() {
                    let first = (block * batch + sample) * pixels + queries.start;
                    // SAFETY: no other part has these queries.
                    unsafe { y.get(first..first + rows) }.copy_from_slice(sums);
                }
            }
        });
    }

    fn memory(&self) -> usize {
        let (depth, positions) = (self.shape.blocks(), self.positions());
        2 * positions * depth * BLOCK + self.queries() * (positions + depth)
    }
}

/// Makes weights of (blocks of positions, rows) products.
struct Softmax<'a> {
    weights: &'a mut [Block],
    rows: usize,
    positions: usize,
    scale: f32,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rest = self.positions % BLOCK;
        for row in 0..self.rows {
            if rest > 0
                && let Some(last) = self.weights[row..].iter_mut().step_by(self.rows).last()
            {
                // Nothing of absent positions.
                last.0[rest..].fill(f32::NEG_INFINITY);
            }
            let blocks = || self.weights[row..].iter().step_by(self.rows);
            let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
            for block in blocks() {
                for x in of::<S>(block) {
                    largest = simd.max_f32s(largest, *x);
                }
            }
            let largest = simd.splat_f32s(simd.reduce_max_f32s(largest));
            let scale = simd.splat_f32s(self.scale);
            let mut sum = simd.splat_f32s(0.0);
            for block in self.weights[row..].iter_mut().step_by(self.rows) {
                for x in of_mut::<S>(block) {
                    *x = exp(simd, simd.mul_f32s(simd.sub_f32s(*x, largest), scale));
                    sum = simd.add_f32s(sum, *x);
                }
            }
            let share = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
            for block in self.weights[row..].iter_mut().step_by(self.rows) {
                for x in of_mut::<S>(block) {
                    *x = simd.mul_f32s(*x, share);
                }
            }
        }
    }
}
