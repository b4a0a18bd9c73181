//! The matrix product of pixels and packed weights: what convolutions, linear layers and attention come down to.

// Loops over constant ranges become straight code on registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Arch, Simd, WithSimd};

use crate::layout::{BLOCK, Block};
use crate::simd::dispatch;

/// Two matrices to multiply.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// (k blocks, rows): `stride` blocks from one block of channels to the next.
    pub pixels: &'a [Block],
    /// See `pixels`.
    pub stride: usize,
    /// How many pixels.
    pub rows: usize,
    /// Blocks of channels that are summed over.
    pub depth: usize,
    /// One panel of `BLOCK * depth` rows for each block of outputs.
    pub weights: &'a [Block],
}

impl Product<'_> {
    /// Writes the product as (panels, rows): `stride` blocks from one panel's result to the next.
    pub fn write(self, arch: Arch, out: &mut [Block], stride: usize) {
        let Self { pixels, rows, depth, weights, .. } = self;
        let panels = weights.len() / (BLOCK * depth).max(1);
        if rows == 0 || panels == 0 {
            return;
        }
        assert!(depth > 0 && pixels.len() >= (depth - 1) * self.stride + rows, "pixels end early");
        assert!(weights.len() == panels * BLOCK * depth, "a panel is incomplete");
        assert!(out.len() >= (panels - 1) * stride + rows, "the result has no place");
        dispatch(arch, Tiles { product: self, panels, out: out.as_mut_ptr().cast(), out_stride: stride * BLOCK });
    }
}

/// A product that was checked.
struct Tiles<'a> {
    product: Product<'a>,
    panels: usize,
    out: *mut f32,
    /// In numbers.
    out_stride: usize,
}

/// Calls [`tile`] with as many rows as the constant that equals `$rows`.
macro_rules! tile {
    ($columns:literal, $rows:expr, $arguments:tt, $($constant:literal)*) => {
        match $rows {
            $($constant => tile!(@ $columns, $constant, $arguments),)*
            _ => unreachable!("more rows than a tile has"),
        }
    };
    (@ $columns:literal, $constant:literal, ($($argument:expr),*)) => {
        tile::<S, $constant, $columns>($($argument),*)
    };
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Vectors of all panels, and how many of them and how many rows a tile has: as many as fit into registers beside
        // a row of weights.
        let vectors = self.panels * (BLOCK / S::F32_LANES);
        let registers = if S::F32_LANES == 16 || cfg!(target_arch = "aarch64") { 32 } else { 16 };
        let narrow = self.product.rows <= 6;
        let mut first = 0;
        while first < vectors {
            let left = vectors - first;
            let columns = if registers == 32 && narrow && left >= 4 { 4 } else { left.min(2) };
            let limit = if registers == 16 || columns == 4 { 6 } else { 14 };
            // Tiles as equal as possible.
            let tiles = self.product.rows.div_ceil(limit);
            let mut row = 0;
            for i in 0..tiles {
                let rows = (self.product.rows - row).div_ceil(tiles - i);
                let arguments = self.tile(S::F32_LANES, first, columns, row);
                // SAFETY: Product::write checked that all rows of all panels lie inside the slices.
                unsafe {
                    match (registers, columns) {
                        (32, 4) => tile!(4, rows, (simd, arguments), 1 2 3 4 5 6),
                        (32, 2) => tile!(2, rows, (simd, arguments), 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                        (32, _) => tile!(1, rows, (simd, arguments), 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                        (_, 2) => tile!(2, rows, (simd, arguments), 1 2 3 4 5 6),
                        _ => tile!(1, rows, (simd, arguments), 1 2 3 4 5 6),
                    }
                }
                row += rows;
            }
            first += columns;
        }
    }
}

/// Where a tile's numbers lie.
#[derive(Clone, Copy)]
struct Tile {
    pixels: *const f32,
    pixel_stride: usize,
    depth: usize,
    weights: [*const f32; 4],
    out: [*mut f32; 4],
}

impl Tiles<'_> {
    /// The tile of so many vectors from `first` on.
    #[inline(always)]
    fn tile(&self, lanes: usize, first: usize, columns: usize, row: usize) -> Tile {
        let Product { pixels, stride, depth, weights, .. } = self.product;
        let mut tile = Tile {
            pixels: pixels[row..].as_ptr().cast(),
            pixel_stride: stride * BLOCK,
            depth,
            weights: [std::ptr::null(); 4],
            out: [std::ptr::null_mut(); 4],
        };
        for i in 0..columns {
            let number = (first + i) * lanes;
            let (panel, lane) = (number / BLOCK, number % BLOCK);
            tile.weights[i] = weights[panel * BLOCK * depth].0[lane..].as_ptr();
            tile.out[i] = self.out.wrapping_add(panel * self.out_stride + row * BLOCK + lane);
        }
        tile
    }
}

/// `ROWS` pixels times `COLUMNS` vectors of outputs.
///
/// # Safety
/// `pixels` must have `ROWS` blocks at each of `depth` places; `weights` that many panel rows; `out` `ROWS` blocks.
#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const COLUMNS: usize>(simd: S, tile: Tile) {
    let mut sums = [[simd.splat_f32s(0.0); COLUMNS]; ROWS];
    let mut pixels = tile.pixels;
    let mut offset = 0;
    for _ in 0..tile.depth {
        for c in 0..BLOCK {
            let mut weights = [simd.splat_f32s(0.0); COLUMNS];
            for column in 0..COLUMNS {
                // SAFETY: within the panel, which has BLOCK rows for each of `depth`.
                weights[column] = unsafe { tile.weights[column].add(offset).cast::<S::f32s>().read_unaligned() };
            }
            for row in 0..ROWS {
                // SAFETY: within the row's block.
                let pixel = simd.splat_f32s(unsafe { *pixels.add(row * BLOCK + c) });
                for column in 0..COLUMNS {
                    sums[row][column] = simd.mul_add_e_f32s(pixel, weights[column], sums[row][column]);
                }
            }
            offset += BLOCK;
        }
        pixels = pixels.wrapping_add(tile.pixel_stride);
    }
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            // SAFETY: within the row's block of the result.
            unsafe { tile.out[column].add(row * BLOCK).cast::<S::f32s>().write_unaligned(sums[row][column]) };
        }
    }
}
