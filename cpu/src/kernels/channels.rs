//! Operations that move numbers to other channels, or meet all channels.

use bytemuck::Zeroable;

use super::Kernel;
use lddgan::backend::{MINIBATCH_GROUP, SQUARES_EPSILON};
use lddgan_kernels::layout::{BLOCK, Block, Shape};
use lddgan_kernels::workers::Workers;

/// Two images' channels, those of one behind those of the other.
#[derive(Debug, Clone, Copy)]
pub struct Concat {
    pub parts: [Shape; 2],
}

impl Kernel for Concat {
    fn run(&self, _: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let [first, second] = self.parts;
        let (start, rest) = y.split_at_mut(first.size());
        start.copy_from_slice(reads[0]);
        if first.channels.is_multiple_of(BLOCK) {
            return rest.copy_from_slice(reads[1]);
        }
        rest.fill(Block::zeroed());
        let plane = first.plane();
        for c in 0..second.channels {
            let (from, to) = (&reads[1][c / BLOCK * plane..], first.channels + c);
            for (x, y) in from.iter().zip(&mut y[to / BLOCK * plane..][..plane]) {
                y.0[to % BLOCK] = x.0[c % BLOCK];
            }
        }
    }
}

/// One more channel, see [`lddgan::Backend::minibatch_stddev`].
#[derive(Debug, Clone, Copy)]
pub struct MinibatchStddev {
    pub x: Shape,
}

impl Kernel for MinibatchStddev {
    fn run(&self, _: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let (x, shape) = (reads[0], self.x);
        y[..x.len()].copy_from_slice(x);
        y[x.len()..].fill(Block::zeroed());
        let group = shape.batch.min(MINIBATCH_GROUP);
        let distance = shape.batch / group;
        let (block, lane) = (shape.channels / BLOCK, shape.channels % BLOCK);
        for first in 0..distance {
            let mut sum = 0.0;
            for c in 0..shape.channels {
                for pixel in 0..shape.pixels() {
                    let number = |i: usize| {
                        let sample = first + i * distance;
                        f64::from(x[(c / BLOCK * shape.batch + sample) * shape.pixels() + pixel].0[c % BLOCK])
                    };
                    let mean = (0..group).map(number).sum::<f64>() / group as f64;
                    let variance = (0..group).map(|i| (number(i) - mean).powi(2)).sum::<f64>() / group as f64;
                    sum += (variance + SQUARES_EPSILON).sqrt();
                }
            }
            let stddev = (sum / (shape.channels * shape.pixels()) as f64) as f32;
            for sample in (first..shape.batch).step_by(distance) {
                let plane = (block * shape.batch + sample) * shape.pixels();
                y[plane..][..shape.pixels()].iter_mut().for_each(|y| y.0[lane] = stddev);
            }
        }
    }
}

/// Vectors by the root of their mean square.
#[derive(Debug, Clone, Copy)]
pub struct PixelNorm {
    pub shape: Shape,
}

impl Kernel for PixelNorm {
    fn run(&self, _: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let rows = self.shape.batch;
        for row in 0..rows {
            let squares = reads[0][row..].iter().step_by(rows).flat_map(|x| x.0).map(|x| f64::from(x).powi(2));
            let scale = (squares.sum::<f64>() / self.shape.channels as f64 + SQUARES_EPSILON).sqrt().recip() as f32;
            for (x, y) in reads[0][row..].iter().zip(&mut y[row..]).step_by(rows) {
                y.0 = x.0.map(|x| x * scale);
            }
        }
    }
}

/// The sum of each channel's pixels.
#[derive(Debug, Clone, Copy)]
pub struct SumPixels {
    pub x: Shape,
}

impl Kernel for SumPixels {
    fn run(&self, _: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        for (plane, y) in reads[0].chunks_exact(self.x.pixels()).zip(y) {
            let sums = plane.iter().fold([0.0; BLOCK], |sums: [f64; BLOCK], x| {
                std::array::from_fn(|lane| sums[lane] + f64::from(x.0[lane]))
            });
            y.0 = sums.map(|sum| sum as f32);
        }
    }
}
