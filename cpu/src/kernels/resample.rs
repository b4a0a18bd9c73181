//! Operations that change the size of images.

use bytemuck::Zeroable;
use lddgan::FirMode;
use pulp::{Simd, WithSimd};

use super::Kernel;
use lddgan_kernels::layout::{BLOCK, Block, Shape};
use lddgan_kernels::simd::{dispatch, of, of_mut};
use lddgan_kernels::workers::{Parts, Workers, share};

/// Operations that a block counts as.
const BLOCK_FLOPS: u64 = 256;

/// Calls `f` with the number of each plane of so many, what is to be written there, and a thread's memory.
fn in_planes(
    workers: &mut Workers,
    y: &mut [Block],
    planes: usize,
    f: impl Fn(usize, &mut [Block], &mut [Block]) + Sync,
) {
    let (size, count) = (y.len() / planes.max(1), y.len());
    let y = Parts::new(y);
    let parts = Workers::parts(count as u64 * BLOCK_FLOPS, planes);
    workers.run(parts, |i, memory| {
        for plane in share(planes, parts, i) {
            // SAFETY: each plane belongs to one part.
            f(plane, unsafe { y.get(plane * size..(plane + 1) * size) }, memory);
        }
    });
}

/// Resampling with the kernel of [`FirMode`].
#[derive(Debug, Clone, Copy)]
pub struct Fir {
    pub mode: FirMode,
    pub x: Shape,
}

impl Kernel for Fir {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let (arch, pixels) = (workers.arch, self.x.pixels());
        in_planes(workers, y, self.x.blocks() * self.x.batch, |plane, y, memory| {
            let row = &mut memory[..self.x.width];
            dispatch(arch, FirPlane { fir: self, x: &reads[0][plane * pixels..][..pixels], row, y });
        });
    }

    fn memory(&self) -> usize {
        self.x.width
    }
}

struct FirPlane<'a> {
    fir: &'a Fir,
    x: &'a [Block],
    row: &'a mut [Block],
    y: &'a mut [Block],
}

impl WithSimd for FirPlane<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Shape { height, width, .. } = self.fir.x;
        for (i, y) in self.y.chunks_exact_mut(self.fir.mode.output(width)).enumerate() {
            let (first, weights) = self.fir.mode.taps(i);
            self.row.fill(Block::zeroed());
            for (i, weight) in (first..).zip(weights).filter(|(i, _)| (0..height as isize).contains(i)) {
                for (sum, x) in self.row.iter_mut().zip(&self.x[i as usize * width..]) {
                    add(simd, sum, x, *weight);
                }
            }
            for (j, y) in y.iter_mut().enumerate() {
                let (first, weights) = self.fir.mode.taps(j);
                *y = Block::zeroed();
                for (j, weight) in (first..).zip(weights).filter(|(j, _)| (0..width as isize).contains(j)) {
                    add(simd, y, &self.row[j as usize], *weight);
                }
            }
        }
    }
}

/// Adds a block times its weight.
#[inline(always)]
fn add<S: Simd>(simd: S, sum: &mut Block, x: &Block, weight: f32) {
    for (sum, x) in of_mut::<S>(sum).iter_mut().zip(of::<S>(x)) {
        *sum = simd.mul_add_e_f32s(*x, simd.splat_f32s(weight), *sum);
    }
}

/// Every pixel becomes `factor` x `factor` equal ones.
#[derive(Debug, Clone, Copy)]
pub struct UpsampleNearest {
    pub factor: usize,
    pub x: Shape,
}

impl Kernel for UpsampleNearest {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let Self { factor, x } = *self;
        in_planes(workers, y, x.blocks() * x.batch, |plane, y, _| {
            for (i, y) in y.chunks_exact_mut(x.width * factor).enumerate() {
                let x = &reads[0][plane * x.pixels() + i / factor * x.width..][..x.width];
                y.chunks_exact_mut(factor).zip(x).for_each(|(y, x)| y.fill(*x));
            }
        });
    }
}

/// The weighted sum of each block of 2x2 pixels.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    pub weights: [f32; 4],
    pub y: Shape,
}

impl Kernel for Pool {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let Shape { width, .. } = self.y;
        let [a, b, c, d] = self.weights;
        in_planes(workers, y, self.y.blocks() * self.y.batch, |plane, y, _| {
            let x = &reads[0][plane * 4 * self.y.pixels()..];
            for (i, y) in y.iter_mut().enumerate() {
                let (upper, lower) = (&x[i / width * 4 * width + i % width * 2..], 2 * width);
                y.0 = std::array::from_fn(|lane| {
                    let pixel = |place: usize| upper[place].0[lane];
                    a * pixel(0) + b * pixel(1) + c * pixel(lower) + d * pixel(lower + 1)
                });
            }
        });
    }
}

/// Blocks of 2x2 pixels from the four bands.
#[derive(Debug, Clone, Copy)]
pub struct InverseHaar {
    pub x: Shape,
}

impl Kernel for InverseHaar {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let x = self.x;
        in_planes(workers, y, x.blocks() * x.batch, |plane, y, _| {
            for i in 0..x.pixels() {
                let corner = i / x.width * 4 * x.width + i % x.width * 2;
                for lane in 0..BLOCK {
                    let [ll, lh, hl, hh] = [0, 1, 2, 3].map(|band| reads[band][plane * x.pixels() + i].0[lane]);
                    let (upper, lower, upper_detail, lower_detail) = (ll + hl, ll - hl, lh + hh, lh - hh);
                    y[corner].0[lane] = upper + upper_detail;
                    y[corner + 1].0[lane] = upper - upper_detail;
                    y[corner + 2 * x.width].0[lane] = lower + lower_detail;
                    y[corner + 2 * x.width + 1].0[lane] = lower - lower_detail;
                }
            }
        });
    }
}

/// Channels of each pixel become a block of `factor` x `factor` pixels.
#[derive(Debug, Clone, Copy)]
pub struct DepthToSpace {
    pub factor: usize,
    pub x: Shape,
}

impl Kernel for DepthToSpace {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let Self { factor, x } = *self;
        let (width, channels) = (x.width * factor, x.channels / factor.pow(2));
        // Of each block of channels, the rows of all images.
        let rows = x.batch * x.height * factor;
        in_planes(workers, y, channels.div_ceil(BLOCK) * rows, |plane, y, _| {
            let (first, row) = (plane / rows * BLOCK, plane % rows);
            let x_row = &reads[0][row / factor * x.width..];
            for (column, y) in y.iter_mut().enumerate().take(width) {
                *y = Block::zeroed();
                let inner = row % factor * factor + column % factor;
                for (c, y) in (first..channels).zip(&mut y.0) {
                    let from = c * factor.pow(2) + inner;
                    *y = x_row[from / BLOCK * x.plane() + column / factor].0[from % BLOCK];
                }
            }
        });
    }
}
