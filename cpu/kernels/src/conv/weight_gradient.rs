//! The gradient in the weights of a 3x3 convolution by Winograd's minimal filtering: of a tile, it is Gᵀ ((A y Aᵀ) · (Bᵀ x B)) G,
//! the adjoint of how a tile of y comes from x and g. What is between the brackets is summed over all tiles first, which is
//! a matrix product for each of a tile's places.

// Loops over constant ranges become straight code on registers.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use bytemuck::Zeroable;
use pulp::{Simd, WithSimd};

use super::ConvLayer;
use super::winograd::{F2, F4, Pixels, Transform, corner, tiles};
use crate::layout::{BLOCK, Block};
use crate::simd::{dispatch, of, of_mut, vectors};
use crate::workers::{Parts, Workers, share};

/// Blocks that the transformed tiles of one chunk may take.
const TRANSFORMED: usize = 131_072;

/// The adjoints of [`Transform`].
pub trait Adjoint<const MADE: usize, const SEEN: usize>: Transform<MADE, SEEN> {
    /// A y, the adjoint of [`Transform::results`]
    fn gradients<S: Simd>(self, simd: S, y: [S::f32s; MADE]) -> [S::f32s; SEEN];

    /// Gᵀ w, the adjoint of [`Transform::weights`]
    #[inline(always)]
    fn weight_gradients<S: Simd>(self, simd: S, w: [S::f32s; SEEN]) -> [S::f32s; 3] {
        let mut sums = [simd.splat_f32s(0.0); 3];
        for i in 0..SEEN {
            for j in 0..3 {
                sums[j] = simd.mul_add_e_f32s(simd.splat_f32s(Self::WEIGHTS[i][j]), w[i], sums[j]);
            }
        }
        sums
    }
}

impl Adjoint<2, 4> for F2 {
    #[inline(always)]
    fn gradients<S: Simd>(self, s: S, [a, b]: [S::f32s; 2]) -> [S::f32s; 4] {
        [a, s.add_f32s(a, b), s.sub_f32s(a, b), s.neg_f32s(b)]
    }
}

impl Adjoint<4, 6> for F4 {
    #[inline(always)]
    fn gradients<S: Simd>(self, s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 6] {
        let [two, four, eight] = [2.0, 4.0, 8.0].map(|value| s.splat_f32s(value));
        let (even, odd) = (s.add_f32s(a, c), s.add_f32s(b, d));
        let (wide, far) = (s.mul_add_e_f32s(c, four, a), s.mul_add_e_f32s(d, eight, s.mul_f32s(b, two)));
        [a, s.add_f32s(even, odd), s.sub_f32s(even, odd), s.add_f32s(wide, far), s.sub_f32s(wide, far), d]
    }
}

/// The gradient (out, in, 3, 3), of `x` and of the gradient in y.
pub fn weight_gradient<T: Adjoint<MADE, SEEN>, const MADE: usize, const SEEN: usize>(
    transform: T,
    layer: &ConvLayer,
    x: &[Block],
    y: &[Block],
    workers: &mut Workers,
) -> Vec<f32> {
    let (arch, places) = (workers.arch, SEEN * SEEN);
    let (inputs, outputs) = (layer.x.blocks(), layer.y.blocks());
    let tiles = tiles::<MADE>(layer).0;
    let limit = (TRANSFORMED / (places * (inputs + outputs)).max(1)).clamp(16, 256).min(tiles.max(1));
    let mut pixels = vec![Block::zeroed(); places * inputs * limit];
    let mut gradients = vec![Block::zeroed(); places * outputs * limit];
    // (places, outputs, blocks of inputs)
    let size = outputs * BLOCK * inputs;
    let mut sums = vec![Block::zeroed(); places * size];
    for first in (0..tiles).step_by(limit) {
        let count = limit.min(tiles - first);
        let parts = Workers::parts((count * places * (inputs + outputs) * BLOCK * 8) as u64, count);
        let (all_pixels, all_gradients) = (Parts::new(&mut pixels), Parts::new(&mut gradients));
        workers.run(parts, |part, _| {
            let own = share(count, parts, part);
            let tiles = first + own.start..first + own.end;
            // SAFETY: each tile is in one part.
            let out = unsafe { all_pixels.get(of_part(&own, places * inputs)) };
            dispatch(arch, Pixels { transform, layer, x, tiles: tiles.clone(), out });
            // SAFETY: as above.
            let out = unsafe { all_gradients.get(of_part(&own, places * outputs)) };
            dispatch(arch, Gradients { transform, layer, y, tiles, out });
        });
        let all_sums = Parts::new(&mut sums);
        let shares = Workers::parts((2 * count * places * size * BLOCK) as u64, places);
        workers.run(shares, |i, _| {
            for place in share(places, shares, i) {
                // SAFETY: each place is in one share.
                let sums = unsafe { all_sums.get(place * size..(place + 1) * size) };
                for own in (0..parts).map(|part| share(count, parts, part)) {
                    let pixels = &pixels[of_part(&own, places * inputs)][place * inputs * own.len()..];
                    let gradients = &gradients[of_part(&own, places * outputs)][place * outputs * own.len()..];
                    dispatch(arch, Outer { pixels, gradients, count: own.len(), inputs, outputs, sums });
                }
            }
        });
    }
    let mut weights = vec![0.0; layer.y.channels * layer.x.channels * 9];
    dispatch(arch, Weights { transform, layer, sums: &sums, weights: &mut weights });
    weights
}

/// Where the blocks of some tiles lie, of which each has so many.
fn of_part(tiles: &Range<usize>, blocks: usize) -> Range<usize> {
    tiles.start * blocks..tiles.end * blocks
}

/// A y Aᵀ of some tiles, as (places of a tile, blocks of channels, tiles).
struct Gradients<'a, T, const MADE: usize, const SEEN: usize> {
    transform: T,
    layer: &'a ConvLayer,
    y: &'a [Block],
    tiles: Range<usize>,
    out: &'a mut [Block],
}

impl<T: Adjoint<MADE, SEEN>, const MADE: usize, const SEEN: usize> WithSimd for Gradients<'_, T, MADE, SEEN> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (y, zero) = (self.layer.y, simd.splat_f32s(0.0));
        let (stride, count) = (y.blocks() * self.tiles.len(), self.tiles.len());
        for (t, tile) in self.tiles.enumerate() {
            let (n, row, column) = corner::<MADE>(self.layer, tile);
            let (height, width) = (MADE.min(y.height - row), MADE.min(y.width - column));
            for block in 0..y.blocks() {
                let tile = &self.y[block * y.plane() + (n * y.height + row) * y.width + column..];
                let out = &mut self.out[block * count + t..];
                for v in 0..vectors::<S>() {
                    let mut half = [[zero; SEEN]; MADE];
                    for i in 0..height {
                        let mut line = [zero; MADE];
                        for j in 0..width {
                            line[j] = of::<S>(&tile[i * y.width + j])[v];
                        }
                        half[i] = self.transform.gradients(simd, line);
                    }
                    for j in 0..SEEN {
                        let mut line = [zero; MADE];
                        for i in 0..MADE {
                            line[i] = half[i][j];
                        }
                        let line = self.transform.gradients(simd, line);
                        for i in 0..SEEN {
                            of_mut::<S>(&mut out[(i * SEEN + j) * stride])[v] = line[i];
                        }
                    }
                }
            }
        }
    }
}

/// Adds to the sums (outputs, blocks of inputs) of one place the products of all gradients and all pixels of each tile.
struct Outer<'a> {
    /// (blocks of inputs, tiles)
    pixels: &'a [Block],
    /// (blocks of outputs, tiles)
    gradients: &'a [Block],
    /// Tiles.
    count: usize,
    inputs: usize,
    outputs: usize,
    sums: &'a mut [Block],
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // As many sums at a time as fit into registers.
        if S::F32_LANES == BLOCK || cfg!(target_arch = "aarch64") {
            self.add::<S, 8>(simd);
        } else {
            self.add::<S, 4>(simd);
        }
    }
}

impl Outer<'_> {
    /// `ROWS` outputs and two vectors of inputs at a time.
    #[inline(always)]
    fn add<S: Simd, const ROWS: usize>(&mut self, simd: S) {
        let vectors = self.inputs * vectors::<S>();
        for row in (0..self.outputs * BLOCK).step_by(ROWS) {
            for vector in (0..vectors).step_by(2) {
                if vector + 1 < vectors {
                    self.add_tile::<S, ROWS, 2>(simd, row, vector);
                } else {
                    self.add_tile::<S, ROWS, 1>(simd, row, vector);
                }
            }
        }
    }

    #[inline(always)]
    fn add_tile<S: Simd, const ROWS: usize, const COLUMNS: usize>(&mut self, simd: S, row: usize, vector: usize) {
        let (count, inputs) = (self.count, self.inputs);
        // The block of inputs and the vector in it of each column.
        let columns: [_; COLUMNS] =
            std::array::from_fn(|column| ((vector + column) / vectors::<S>(), (vector + column) % vectors::<S>()));
        let pixels = columns.map(|(block, _)| &self.pixels[block * count..][..count]);
        let gradients = &self.gradients[row / BLOCK * count..][..count];
        let mut sums = [[simd.splat_f32s(0.0); COLUMNS]; ROWS];
        for r in 0..ROWS {
            for (c, (block, v)) in columns.into_iter().enumerate() {
                sums[r][c] = of::<S>(&self.sums[(row + r) * inputs + block])[v];
            }
        }
        for t in 0..count {
            let gradients: &[f32; ROWS] = gradients[t].0[row % BLOCK..].first_chunk().expect("a part of a block");
            let mut x = [simd.splat_f32s(0.0); COLUMNS];
            for c in 0..COLUMNS {
                x[c] = of::<S>(&pixels[c][t])[columns[c].1];
            }
            for r in 0..ROWS {
                let gradient = simd.splat_f32s(gradients[r]);
                for c in 0..COLUMNS {
                    sums[r][c] = simd.mul_add_e_f32s(gradient, x[c], sums[r][c]);
                }
            }
        }
        for r in 0..ROWS {
            for (c, (block, v)) in columns.into_iter().enumerate() {
                of_mut::<S>(&mut self.sums[(row + r) * inputs + block])[v] = sums[r][c];
            }
        }
    }
}

/// Gᵀ of all sums G, as weights (out, in, 3, 3).
struct Weights<'a, T, const MADE: usize, const SEEN: usize> {
    transform: T,
    layer: &'a ConvLayer,
    sums: &'a [Block],
    weights: &'a mut [f32],
}

impl<T: Adjoint<MADE, SEEN>, const MADE: usize, const SEEN: usize> WithSimd for Weights<'_, T, MADE, SEEN> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { transform, layer, sums, weights } = self;
        let (inputs, channels) = (layer.x.blocks(), layer.x.channels);
        let stride = layer.y.blocks() * BLOCK * inputs;
        for output in 0..layer.y.channels {
            for block in 0..inputs {
                let sums = &sums[output * inputs + block..];
                let mut kernels = [Block::zeroed(); 9];
                for v in 0..vectors::<S>() {
                    let mut half = [[simd.splat_f32s(0.0); SEEN]; 3];
                    for j in 0..SEEN {
                        let mut column = [simd.splat_f32s(0.0); SEEN];
                        for i in 0..SEEN {
                            column[i] = of::<S>(&sums[(i * SEEN + j) * stride])[v];
                        }
                        let made = transform.weight_gradients(simd, column);
                        for i in 0..3 {
                            half[i][j] = made[i];
                        }
                    }
                    for i in 0..3 {
                        let made = transform.weight_gradients(simd, half[i]);
                        for j in 0..3 {
                            of_mut::<S>(&mut kernels[3 * i + j])[v] = made[j];
                        }
                    }
                }
                let first = output * channels + block * BLOCK;
                let weights = weights[9 * first..].as_chunks_mut::<9>().0;
                for (c, weights) in weights[..BLOCK.min(channels - block * BLOCK)].iter_mut().enumerate() {
                    *weights = std::array::from_fn(|tap| kernels[tap].0[c]);
                }
            }
        }
    }
}
