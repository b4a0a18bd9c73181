//! 3x3 convolutions and their derivatives on values as training has them: (N, C, H, W), with weights (out, in, 3, 3) that
//! differ from step to step. Every number is the sum of the same products in the same order on any number of threads.

use std::cell::Cell;

use bytemuck::Zeroable;
use pulp::Arch;
use rayon::prelude::*;

use super::weight_gradient::weight_gradient;
use super::winograd::{F2, F4};
use super::{Algorithm, ConvLayer, Epilogue, Task};
use crate::layout::{BLOCK, Block, Shape, pack_planes, unpack_planes};
use crate::workers::{Parts, Workers};
use crate::{Activation, ConvGeometry};

/// A convolution with a 3x3 kernel, stride 1 and a margin of one pixel of zeros: results are as large as images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// N
    pub batch: usize,
    /// Channels of x.
    pub inputs: usize,
    /// Channels of y.
    pub outputs: usize,
    /// H
    pub height: usize,
    /// W
    pub width: usize,
}

/// Weights are packed at every step, which takes as long as multiplying each with this many pixels.
const PACKING: f64 = 26.0;

thread_local! {
    /// Memory of the last convolution, which the next one takes up.
    static WORKERS: Cell<Workers> = Cell::default();
}

impl Convolution {
    /// y of x and weights.
    pub fn forward(&self, x: &[f32], weights: &[f32]) -> Vec<f32> {
        let layer = self.layer();
        let algorithm = Algorithm::cheapest(&layer, PACKING);
        let weights = algorithm.pack(weights, self.outputs, self.inputs, layer.geometry);
        let bias = vec![Block::zeroed(); layer.y.blocks()];
        let epilogue = Epilogue { bias: &bias, scale: 1.0, residual: None, activation: Activation::Identity };
        let x = pack(&layer.x, x);
        let mut y = vec![Block::zeroed(); layer.y.size()];
        with_workers(algorithm.memory(&layer), |workers| {
            let y = Parts::new(&mut y);
            algorithm.compute(Task { layer: &layer, x: &x, weights: &weights, epilogue: &epilogue, y }, workers);
        });
        unpack(&layer.y, &y)
    }

    /// The gradient in x, of that in y and the weights: a convolution with kernels turned by half a turn.
    pub fn input_gradient(&self, y: &[f32], weights: &[f32]) -> Vec<f32> {
        let mut turned = vec![0.0; weights.len()];
        turned.par_chunks_mut((9 * self.outputs).max(1)).enumerate().for_each(|(input, turned)| {
            for (output, turned) in turned.as_chunks_mut::<9>().0.iter_mut().enumerate() {
                turned.copy_from_slice(&weights[9 * (output * self.inputs + input)..][..9]);
                turned.reverse();
            }
        });
        Self { inputs: self.outputs, outputs: self.inputs, ..*self }.forward(y, &turned)
    }

    /// The gradient in the weights, of x and the gradient in y.
    pub fn weight_gradient(&self, x: &[f32], y: &[f32]) -> Vec<f32> {
        let layer = self.layer();
        let (x, y) = (pack(&layer.x, x), pack(&layer.y, y));
        with_workers(0, |workers| match Algorithm::cheapest(&layer, PACKING) {
            Algorithm::Winograd4 => weight_gradient(F4, &layer, &x, &y, workers),
            _ => weight_gradient(F2, &layer, &x, &y, workers),
        })
    }

    fn layer(&self) -> ConvLayer {
        let shape = |channels| Shape { batch: self.batch, channels, height: self.height, width: self.width };
        ConvLayer { x: shape(self.inputs), y: shape(self.outputs), geometry: ConvGeometry::same(3), upsample: 1 }
    }
}

fn with_workers<R>(blocks: usize, f: impl FnOnce(&mut Workers) -> R) -> R {
    // Another convolution, which this thread may be given while it waits, finds none and makes its own.
    let mut workers = WORKERS.take();
    workers.arch = Arch::new();
    workers.grow(blocks);
    let result = f(&mut workers);
    WORKERS.set(workers);
    result
}

/// As [`Shape::pack`], on all threads.
fn pack(shape: &Shape, values: &[f32]) -> Vec<Block> {
    let mut packed = vec![Block::zeroed(); shape.size()];
    let images = packed.par_chunks_exact_mut(shape.pixels().max(1)).enumerate();
    images.for_each(|(i, packed)| pack_planes(&values[shape.planes(i)], packed));
    packed
}

/// As [`Shape::unpack`], on all threads.
fn unpack(shape: &Shape, packed: &[Block]) -> Vec<f32> {
    let pixels = shape.pixels();
    let mut values = vec![0.0; shape.elements()];
    values.par_chunks_mut((shape.channels * pixels).max(1)).enumerate().for_each(|(n, sample)| {
        for (block, planes) in sample.chunks_mut(BLOCK * pixels).enumerate() {
            unpack_planes(&packed[(block * shape.batch + n) * pixels..][..pixels], planes);
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from -1 to 1, without a pattern.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Calls back with the indices of a number of y, of one of x and of the weight that they share.
    fn each(c: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
        let (h, w) = (c.height, c.width);
        for n in 0..c.batch {
            for (o, i) in (0..c.outputs).flat_map(|o| (0..c.inputs).map(move |i| (o, i))) {
                for (row, column) in (0..h).flat_map(|row| (0..w).map(move |column| (row, column))) {
                    for tap in 0..9 {
                        let (y, x) = (row + tap / 3, column + tap % 3);
                        if (1..=h).contains(&y) && (1..=w).contains(&x) {
                            let x = ((n * c.inputs + i) * h + y - 1) * w + x - 1;
                            visit(((n * c.outputs + o) * h + row) * w + column, x, (o * c.inputs + i) * 9 + tap);
                        }
                    }
                }
            }
        }
    }

    fn assert_close(what: &str, found: &[f32], exact: &[f64]) {
        assert_eq!(found.len(), exact.len(), "{what}");
        let largest = exact.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        let error = found.iter().zip(exact).fold(0f64, |error, (a, b)| error.max((f64::from(*a) - b).abs()));
        assert!(error < 1e-5 * largest, "{what}: {error:e} of {largest}");
    }

    /// Against sums in f64: sizes that fill tiles and blocks, and sizes that do not.
    #[test]
    fn results_and_gradients_are_those_of_the_definition() {
        for (batch, inputs, outputs, height, width) in [
            (2, 32, 48, 8, 8),
            (1, 5, 3, 7, 9),
            (3, 16, 16, 4, 4),
            (1, 17, 33, 13, 2),
            (9, 64, 16, 16, 16),
            (2, 3, 4, 1, 1),
        ] {
            let c = Convolution { batch, inputs, outputs, height, width };
            let pixels = height * width;
            let x = numbers(batch * inputs * pixels, 1);
            let y = numbers(batch * outputs * pixels, 2);
            let weights = numbers(outputs * inputs * 9, 3);
            let zeros = |values: &[f32]| vec![0f64; values.len()];
            let (mut exact_y, mut exact_x, mut exact_weights) = (zeros(&y), zeros(&x), zeros(&weights));
            each(&c, |iy, ix, iw| {
                exact_y[iy] += f64::from(x[ix]) * f64::from(weights[iw]);
                exact_x[ix] += f64::from(y[iy]) * f64::from(weights[iw]);
                exact_weights[iw] += f64::from(y[iy]) * f64::from(x[ix]);
            });
            assert_close(&format!("{c:?}, y"), &c.forward(&x, &weights), &exact_y);
            assert_close(&format!("{c:?}, x"), &c.input_gradient(&y, &weights), &exact_x);
            assert_close(&format!("{c:?}, weights"), &c.weight_gradient(&x, &y), &exact_weights);
        }
    }

    #[test]
    fn threads_do_not_change_results() {
        let c = Convolution { batch: 6, inputs: 48, outputs: 32, height: 16, width: 16 };
        let (x, y) = (numbers(6 * 48 * 256, 1), numbers(6 * 32 * 256, 2));
        let weights = numbers(32 * 48 * 9, 3);
        let all = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| [c.forward(&x, &weights), c.input_gradient(&y, &weights), c.weight_gradient(&x, &y)])
        };
        assert_eq!(all(1), all(3));
    }
}
