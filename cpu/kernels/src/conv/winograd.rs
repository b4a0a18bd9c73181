//! 3x3 convolutions by Winograd's minimal filtering (Lavin & Gray 2016, arXiv 1509.09308): tiles of the image and kernels
//! are transformed, multiplied number by number (a matrix product for each of a tile's places) and transformed back.

// Loops over constant ranges become straight code on registers.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use bytemuck::Zeroable;
use pulp::{Arch, Simd, WithSimd};

use super::{ConvLayer, Division, Task};
use crate::layout::{BLOCK, Block, pack_weights};
use crate::product::Product;
use crate::simd::{dispatch, of, of_mut, vectors};
use crate::workers::Workers;

/// The transforms of one dimension, from `SEEN` pixels to `MADE` results.
pub trait Transform<const MADE: usize, const SEEN: usize>: Copy + Sync {
    /// Bᵀ x
    fn pixels<S: Simd>(self, simd: S, x: [S::f32s; SEEN]) -> [S::f32s; SEEN];
    /// Aᵀ x
    fn results<S: Simd>(self, simd: S, x: [S::f32s; SEEN]) -> [S::f32s; MADE];
    /// G
    const WEIGHTS: [[f32; 3]; SEEN];

    /// G g
    #[inline(always)]
    fn weights<S: Simd>(self, simd: S, g: [S::f32s; 3]) -> [S::f32s; SEEN] {
        // Closures would not be compiled for these vectors.
        let mut made = [simd.splat_f32s(0.0); SEEN];
        for i in 0..SEEN {
            for j in 0..3 {
                made[i] = simd.mul_add_e_f32s(simd.splat_f32s(Self::WEIGHTS[i][j]), g[j], made[i]);
            }
        }
        made
    }
}

/// F(2, 3), from the points 0, 1 and -1.
#[derive(Clone, Copy)]
pub struct F2;

impl Transform<2, 4> for F2 {
    #[inline(always)]
    fn pixels<S: Simd>(self, s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        [s.sub_f32s(a, c), s.add_f32s(b, c), s.sub_f32s(c, b), s.sub_f32s(b, d)]
    }

    #[inline(always)]
    fn results<S: Simd>(self, s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
        [s.add_f32s(a, s.add_f32s(b, c)), s.sub_f32s(s.sub_f32s(b, c), d)]
    }

    const WEIGHTS: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
}

/// F(4, 3), from the points 0, 1, -1, 2 and -2.
#[derive(Clone, Copy)]
pub struct F4;

impl Transform<4, 6> for F4 {
    #[inline(always)]
    fn pixels<S: Simd>(self, s: S, [a, b, c, d, e, f]: [S::f32s; 6]) -> [S::f32s; 6] {
        let [two, four, five] = [2.0, -4.0, -5.0].map(|value| s.splat_f32s(value));
        let (even, odd) = (s.mul_add_e_f32s(c, four, e), s.mul_add_e_f32s(b, four, d));
        let (wide, far) = (s.sub_f32s(e, c), s.mul_f32s(s.sub_f32s(d, b), two));
        [
            s.add_f32s(s.mul_add_e_f32s(c, five, e), s.neg_f32s(s.mul_f32s(a, four))),
            s.add_f32s(even, odd),
            s.sub_f32s(even, odd),
            s.add_f32s(wide, far),
            s.sub_f32s(wide, far),
            s.add_f32s(s.mul_add_e_f32s(d, five, f), s.neg_f32s(s.mul_f32s(b, four))),
        ]
    }

    #[inline(always)]
    fn results<S: Simd>(self, s: S, [a, b, c, d, e, f]: [S::f32s; 6]) -> [S::f32s; 4] {
        let [two, four, eight] = [2.0, 4.0, 8.0].map(|value| s.splat_f32s(value));
        let (near, near_odd) = (s.add_f32s(b, c), s.sub_f32s(b, c));
        let (far, far_odd) = (s.add_f32s(d, e), s.sub_f32s(d, e));
        [
            s.add_f32s(a, s.add_f32s(near, far)),
            s.mul_add_e_f32s(far_odd, two, near_odd),
            s.mul_add_e_f32s(far, four, near),
            s.add_f32s(s.mul_add_e_f32s(far_odd, eight, near_odd), f),
        ]
    }

    const WEIGHTS: [[f32; 3]; 6] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
}

/// G g Gᵀ of each kernel g, (out, in, 3, 3), as panels for each place of a tile.
pub fn pack<T: Transform<MADE, SEEN>, const MADE: usize, const SEEN: usize>(
    transform: T,
    weights: &[f32],
    outputs: usize,
    inputs: usize,
) -> Vec<Block> {
    let kernels = pack_weights(weights, outputs, inputs, 9);
    let mut out = vec![Block::zeroed(); kernels.len() / 9 * SEEN * SEEN];
    let rows = inputs.next_multiple_of(BLOCK);
    dispatch(Arch::new(), Kernels { transform, kernels: &kernels, rows, out: &mut out });
    out
}

/// Transforms kernels, which are rows by tap and input for each panel, as (places of a tile, panels, inputs).
struct Kernels<'a, T, const MADE: usize, const SEEN: usize> {
    transform: T,
    kernels: &'a [Block],
    /// Inputs, in whole blocks.
    rows: usize,
    out: &'a mut [Block],
}

impl<T: Transform<MADE, SEEN>, const MADE: usize, const SEEN: usize> WithSimd for Kernels<'_, T, MADE, SEEN> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { transform, kernels, rows, out } = self;
        let stride = kernels.len() / 9;
        for (panel, kernels) in kernels.chunks_exact((9 * rows).max(1)).enumerate() {
            for row in 0..rows {
                for v in 0..vectors::<S>() {
                    let mut half = [[simd.splat_f32s(0.0); 3]; SEEN];
                    for column in 0..3 {
                        let mut kernel = [simd.splat_f32s(0.0); 3];
                        for i in 0..3 {
                            kernel[i] = of::<S>(&kernels[(3 * i + column) * rows + row])[v];
                        }
                        let made = transform.weights(simd, kernel);
                        for i in 0..SEEN {
                            half[i][column] = made[i];
                        }
                    }
                    for i in 0..SEEN {
                        let made = transform.weights(simd, half[i]);
                        for j in 0..SEEN {
                            of_mut::<S>(&mut out[(i * SEEN + j) * stride + panel * rows + row])[v] = made[j];
                        }
                    }
                }
            }
        }
    }
}

/// Blocks that transformed tiles should take at most, so that they stay in the cache.
const TRANSFORMED: usize = 16384;

/// Tiles that are computed at a time, whole tiles of products if possible.
fn limit<const SEEN: usize>(layer: &ConvLayer) -> usize {
    let fitting = TRANSFORMED / (SEEN * SEEN * (layer.x.blocks() + layer.y.blocks()));
    fitting.clamp(14, 112) / 14 * 14
}

pub fn memory<const MADE: usize, const SEEN: usize>(layer: &ConvLayer) -> usize {
    limit::<SEEN>(layer).min(tiles::<MADE>(layer).0) * SEEN * SEEN * (layer.x.blocks() + layer.y.blocks())
}

/// Tiles of the batch, and tiles of a column and of a row of one image.
pub fn tiles<const MADE: usize>(layer: &ConvLayer) -> (usize, usize, usize) {
    let (rows, columns) = (layer.y.height.div_ceil(MADE), layer.y.width.div_ceil(MADE));
    (layer.y.batch * rows * columns, rows, columns)
}

pub fn compute<T: Transform<MADE, SEEN>, const MADE: usize, const SEEN: usize>(
    transform: T,
    task: Task,
    workers: &mut Workers,
) {
    let (arch, layer) = (workers.arch, task.layer);
    let (depth, panels) = (layer.x.blocks(), layer.y.blocks());
    let tiles = tiles::<MADE>(layer).0;
    let flops = 2 * (tiles * SEEN * SEEN * depth * BLOCK * panels * BLOCK) as u64;
    let division = Division::new(tiles, limit::<SEEN>(layer), panels, flops);
    workers.run(division.parts(), |i, memory| {
        let (tiles, range) = division.part(i);
        let (pixels, sums) = memory.split_at_mut(SEEN * SEEN * depth * tiles.len());
        dispatch(arch, Pixels { transform, layer, x: task.x, tiles: tiles.clone(), out: pixels });
        for (place, pixels) in pixels.chunks_exact(depth * tiles.len()).enumerate() {
            let weights = &task.weights[(place * panels + range.start) * depth * BLOCK..];
            let weights = &weights[..range.len() * depth * BLOCK];
            let product = Product { pixels, stride: tiles.len(), rows: tiles.len(), depth, weights };
            product.write(arch, &mut sums[place * range.len() * tiles.len()..], tiles.len());
        }
        dispatch(arch, Results { transform, task: &task, tiles, panels: range, sums });
    });
}

/// Where a tile lies: the sample, the first row and the first column of its results.
pub fn corner<const MADE: usize>(layer: &ConvLayer, tile: usize) -> (usize, usize, usize) {
    let (_, rows, columns) = tiles::<MADE>(layer);
    (tile / (rows * columns), tile / columns % rows * MADE, tile % columns * MADE)
}

/// Transforms the pixels that some tiles see, as (places of a tile, blocks of channels, tiles).
pub struct Pixels<'a, T, const MADE: usize, const SEEN: usize> {
    pub transform: T,
    pub layer: &'a ConvLayer,
    pub x: &'a [Block],
    pub tiles: Range<usize>,
    pub out: &'a mut [Block],
}

impl<T: Transform<MADE, SEEN>, const MADE: usize, const SEEN: usize> WithSimd for Pixels<'_, T, MADE, SEEN> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let layer = self.layer;
        let (x, zero) = (layer.x, simd.splat_f32s(0.0));
        let (stride, count) = (x.blocks() * self.tiles.len(), self.tiles.len());
        let outside = Block::zeroed();
        // The pixel at a row and column, of so many.
        let pixel = |place: usize, first: usize, size: usize| {
            let place = (first + place).wrapping_sub(layer.geometry.pad_before);
            if place < size * layer.upsample { place / layer.upsample } else { usize::MAX }
        };
        for (t, tile) in self.tiles.enumerate() {
            let (n, row, column) = corner::<MADE>(layer, tile);
            let (mut rows, mut columns) = ([0; SEEN], [0; SEEN]);
            for i in 0..SEEN {
                (rows[i], columns[i]) = (pixel(i, row, x.height), pixel(i, column, x.width));
            }
            for block in 0..x.blocks() {
                let image = &self.x[block * x.plane() + n * x.pixels()..][..x.pixels()];
                let out = &mut self.out[block * count + t..];
                for v in 0..vectors::<S>() {
                    let mut seen = [[zero; SEEN]; SEEN];
                    for i in 0..SEEN {
                        for j in 0..SEEN {
                            let inside = rows[i] != usize::MAX && columns[j] != usize::MAX;
                            let block = if inside { &image[rows[i] * x.width + columns[j]] } else { &outside };
                            seen[i][j] = of::<S>(block)[v];
                        }
                        seen[i] = self.transform.pixels(simd, seen[i]);
                    }
                    for j in 0..SEEN {
                        let mut line = [zero; SEEN];
                        for i in 0..SEEN {
                            line[i] = seen[i][j];
                        }
                        let line = self.transform.pixels(simd, line);
                        for i in 0..SEEN {
                            of_mut::<S>(&mut out[(i * SEEN + j) * stride])[v] = line[i];
                        }
                    }
                }
            }
        }
    }
}

/// Transforms the sums of some tiles and blocks of channels back, and finishes them.
struct Results<'a, T, const MADE: usize, const SEEN: usize> {
    transform: T,
    task: &'a Task<'a>,
    tiles: Range<usize>,
    panels: Range<usize>,
    sums: &'a [Block],
}

impl<T: Transform<MADE, SEEN>, const MADE: usize, const SEEN: usize> WithSimd for Results<'_, T, MADE, SEEN> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task { layer, epilogue, y: out, .. } = self.task;
        let (y, zero) = (layer.y, simd.splat_f32s(0.0));
        let (stride, count) = (self.panels.len() * self.tiles.len(), self.tiles.len());
        for (p, block) in self.panels.enumerate() {
            for (t, tile) in self.tiles.clone().enumerate() {
                let (n, row, column) = corner::<MADE>(layer, tile);
                let bias = epilogue.bias(&y, block, n);
                let sums = &self.sums[p * count + t..];
                let first = block * y.plane() + (n * y.height + row) * y.width + column;
                let (height, width) = (MADE.min(y.height - row), MADE.min(y.width - column));
                for v in 0..vectors::<S>() {
                    let mut made = [[zero; MADE]; SEEN];
                    for i in 0..SEEN {
                        let mut line = [zero; SEEN];
                        for j in 0..SEEN {
                            line[j] = of::<S>(&sums[(i * SEEN + j) * stride])[v];
                        }
                        made[i] = self.transform.results(simd, line);
                    }
                    for j in 0..MADE {
                        let mut line = [zero; SEEN];
                        for i in 0..SEEN {
                            line[i] = made[i][j];
                        }
                        let line = self.transform.results(simd, line);
                        for i in 0..MADE {
                            if i < height && j < width {
                                let place = first + i * y.width + j;
                                // SAFETY: no other part has this tile of this block of channels.
                                let y = &mut unsafe { out.get(place..place + 1) }[0];
                                of_mut::<S>(y)[v] = epilogue.finish(simd, line[i], bias, place, v);
                            }
                        }
                    }
                }
            }
        }
    }
}
