//! Operations that compute a number from those at the same place.

use std::ops::Range;

use lddgan::Activation;
use pulp::{Simd, WithSimd};

use super::Kernel;
use lddgan_kernels::layout::{Block, Shape};
use lddgan_kernels::simd::{activate, dispatch, of, of_mut};
use lddgan_kernels::workers::{Parts, Workers, share};

/// Operations that a block of numbers counts as, most of which are waiting for memory.
const BLOCK_FLOPS: u64 = 256;

/// Calls `f` with ranges of blocks, and what is to be written there.
fn in_ranges(workers: &mut Workers, y: &mut [Block], f: impl Fn(Range<usize>, &mut [Block]) + Sync) {
    let (count, y) = (y.len(), Parts::new(y));
    let parts = Workers::parts(count as u64 * BLOCK_FLOPS, count);
    workers.run(parts, |i, _| {
        let range = share(count, parts, i);
        // SAFETY: the parts' ranges are disjoint.
        f(range.clone(), unsafe { y.get(range) });
    });
}

/// activation(the sum of all that is read, each times its factor)
#[derive(Debug, Clone)]
pub struct WeightedSum {
    pub factors: Vec<f32>,
    pub activation: Activation,
}

impl Kernel for WeightedSum {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let arch = workers.arch;
        in_ranges(workers, y, |range, y| dispatch(arch, Sum { sum: self, reads, range, y }));
    }
}

struct Sum<'a> {
    sum: &'a WeightedSum,
    reads: &'a [&'a [Block]],
    range: Range<usize>,
    y: &'a mut [Block],
}

impl WithSimd for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (place, y) in self.range.zip(self.y) {
            for (v, y) in of_mut::<S>(y).iter_mut().enumerate() {
                let mut sum = simd.splat_f32s(0.0);
                for (factor, x) in self.sum.factors.iter().zip(self.reads) {
                    sum = simd.mul_add_e_f32s(of::<S>(&x[place])[v], simd.splat_f32s(*factor), sum);
                }
                *y = activate(simd, self.sum.activation, sum);
            }
        }
    }
}

/// Two values' product and, if a third is read, the sum of it and that: images like them, or vectors for all pixels.
#[derive(Debug, Clone, Copy)]
pub struct Multiply {
    pub shape: Shape,
}

impl Kernel for Multiply {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let bias = |place: usize| match reads.get(2) {
            Some(bias) if bias.len() == self.shape.size() => bias[place],
            Some(bias) => bias[place / self.shape.pixels()],
            None => Block::default(),
        };
        in_ranges(workers, y, |range, y| {
            for (place, y) in range.zip(y) {
                let (a, b, bias) = (&reads[0][place].0, &reads[1][place].0, bias(place).0);
                y.0 = std::array::from_fn(|c| a[c] * b[c] + bias[c]);
            }
        });
    }
}

/// Images plus a vector for all their pixels.
#[derive(Debug, Clone, Copy)]
pub struct AddPerChannel {
    pub shape: Shape,
}

impl Kernel for AddPerChannel {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        in_ranges(workers, y, |range, y| {
            for (place, y) in range.zip(y) {
                let (x, bias) = (&reads[0][place].0, &reads[1][place / self.shape.pixels()].0);
                y.0 = std::array::from_fn(|c| x[c] + bias[c]);
            }
        });
    }
}
