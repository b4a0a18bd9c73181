//! Vector quantisation.

use std::array::from_fn;

use pulp::{Simd, WithSimd};

use super::Kernel;
use lddgan_kernels::layout::{BLOCK, Block, Shape, pack_weights, packed_weights};
use lddgan_kernels::product::Product;
use lddgan_kernels::simd::{dispatch, of, vectors};
use lddgan_kernels::workers::{Parts, Workers, share};

/// Replaces each pixel by the nearest code. Reads images and what [`pack_codebook`] gives.
#[derive(Debug, Clone, Copy)]
pub struct Quantize {
    pub shape: Shape,
    pub codes: usize,
}

/// The blocks of [`pack_codebook`].
pub fn codebook_blocks(codes: usize, channels: usize) -> usize {
    packed_weights(codes, channels, 1) + codes.div_ceil(BLOCK) + codes * channels.div_ceil(BLOCK)
}

/// The codes (codes, C) times -2, as weights; their squared lengths, infinite where there is no code; and themselves.
pub fn pack_codebook(codebook: &[f32], codes: usize, channels: usize) -> Vec<Block> {
    let doubled: Vec<f32> = codebook.iter().map(|value| -2.0 * value).collect();
    let mut packed = pack_weights(&doubled, codes, channels, 1);
    let rows = || codebook.chunks_exact(channels);
    let squares: Vec<f32> = rows().map(|code| code.iter().map(|value| value * value).sum()).collect();
    let block = |values: &[f32], absent: f32| Block(from_fn(|i| values.get(i).copied().unwrap_or(absent)));
    packed.extend(squares.chunks(BLOCK).map(|squares| block(squares, f32::INFINITY)));
    packed.extend(rows().flat_map(|code| code.chunks(BLOCK).map(|part| block(part, 0.0))));
    packed
}

/// Pixels whose distances are computed at a time.
const ROWS: usize = 28;

impl Kernel for Quantize {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let arch = workers.arch;
        let (x, depth, plane) = (reads[0], self.shape.blocks(), self.shape.plane());
        let panels = self.codes.div_ceil(BLOCK);
        let (weights, rest) = reads[1].split_at(panels * depth * BLOCK);
        let (squares, codes) = rest.split_at(panels);
        let y = Parts::new(y);
        let chunks = plane.div_ceil(ROWS);
        workers.run(chunks, |i, memory| {
            let range = share(plane, chunks, i);
            let rows = range.len();
            let product = Product { pixels: &x[range.start..], stride: plane, rows, depth, weights };
            product.write(arch, memory, rows);
            let mut nearest = [0; ROWS];
            dispatch(arch, Nearest { products: &memory[..panels * rows], squares, nearest: &mut nearest[..rows] });
            for (place, nearest) in range.zip(nearest) {
                for (block, code) in codes[nearest * depth..][..depth].iter().enumerate() {
                    let place = block * plane + place;
                    // SAFETY: no other part has this place.
                    let y = unsafe { y.get(place..place + 1) };
                    y[0] = *code;
                }
            }
        });
    }

    fn memory(&self) -> usize {
        ROWS * self.codes.div_ceil(BLOCK)
    }
}

/// Finds the nearest code of each pixel, the first of equally near ones.
struct Nearest<'a> {
    /// For each block of codes the pixels' products with them.
    products: &'a [Block],
    squares: &'a [Block],
    /// The code of each pixel.
    nearest: &'a mut [usize],
}

impl WithSimd for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.nearest.len();
        for (row, nearest) in self.nearest.iter_mut().enumerate() {
            let mut best = (f32::INFINITY, 0);
            for v in 0..vectors::<S>() {
                // Of each lane the least distance so far, and the block that it is in.
                let mut least = [simd.splat_f32s(f32::INFINITY)];
                let mut blocks = [simd.splat_u32s(0)];
                for (block, squares) in self.squares.iter().enumerate() {
                    let product = of::<S>(&self.products[block * rows + row])[v];
                    let distance = simd.add_f32s(product, of::<S>(squares)[v]);
                    let nearer = simd.less_than_f32s(distance, least[0]);
                    least[0] = simd.select_f32s(nearer, distance, least[0]);
                    blocks[0] = simd.select_u32s(nearer, simd.splat_u32s(block as u32), blocks[0]);
                }
                let (least, blocks): (&[f32], &[u32]) = (bytemuck::cast_slice(&least), bytemuck::cast_slice(&blocks));
                for (lane, (&distance, &block)) in least.iter().zip(blocks).enumerate() {
                    let code = block as usize * BLOCK + v * S::F32_LANES + lane;
                    if distance < best.0 || distance == best.0 && code < best.1 {
                        best = (distance, code);
                    }
                }
            }
            *nearest = best.1;
        }
    }
}
