//! Vector quantisation.

use bytemuck::Zeroable;

use super::Kernel;
use lddgan_kernels::layout::{BLOCK, Block, Shape, pack_weights, packed_weights};
use lddgan_kernels::product::Product;
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

/// The codes (codes, C) times -2, as weights; their squared lengths; and themselves.
pub fn pack_codebook(codebook: &[f32], codes: usize, channels: usize) -> Vec<Block> {
    let doubled: Vec<f32> = codebook.iter().map(|value| -2.0 * value).collect();
    let mut packed = pack_weights(&doubled, codes, channels, 1);
    let rows = || codebook.chunks_exact(channels);
    let squares: Vec<f32> = rows().map(|code| code.iter().map(|value| value * value).sum()).collect();
    let block = |values: &[f32]| {
        let mut block = Block::zeroed();
        block.0[..values.len()].copy_from_slice(values);
        block
    };
    packed.extend(squares.chunks(BLOCK).map(block));
    packed.extend(rows().flat_map(|code| code.chunks(BLOCK).map(block)));
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
            for (row, place) in range.enumerate() {
                let distance = |code: usize| {
                    memory[code / BLOCK * rows + row].0[code % BLOCK] + squares[code / BLOCK].0[code % BLOCK]
                };
                let nearer = |best: (usize, f32), code: usize| {
                    let distance = distance(code);
                    if distance < best.1 { (code, distance) } else { best }
                };
                let (nearest, _) = (1..self.codes).fold((0, distance(0)), nearer);
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
