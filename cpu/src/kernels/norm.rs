//! Group norm, learned and adaptive.

use std::ops::Range;

use bytemuck::Zeroable;
use lddgan::Activation;
use lddgan::layers::GROUP_NORM_EPS;
use pulp::{Simd, WithSimd};

use super::Kernel;
use lddgan_kernels::layout::{BLOCK, Block, Shape};
use lddgan_kernels::simd::{activate, dispatch, of, of_mut, vectors};
use lddgan_kernels::workers::{Parts, Workers};

/// Group norm, then a factor and a term for each channel, then the activation. Reads images and vectors with factors
/// and terms.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    pub shape: Shape,
    pub groups: usize,
    pub affine: Affine,
    pub activation: Activation,
}

/// Where the factors and terms are: a row of features, or one for each sample.
#[derive(Debug, Clone, Copy)]
pub struct Affine {
    /// Rows of the vectors.
    pub rows: usize,
    /// The row of the first sample.
    pub row: usize,
    /// 1 if each sample has its row, 0 if all have the same one.
    pub step: usize,
    /// The feature of the first factor; the terms follow the factors.
    pub feature: usize,
    /// Added to the factors.
    pub offset: f32,
}

impl Affine {
    fn feature(&self, vectors: &[Block], sample: usize, feature: usize) -> f32 {
        let (feature, row) = (self.feature + feature, self.row + sample * self.step);
        vectors[feature / BLOCK * self.rows + row].0[feature % BLOCK]
    }
}

/// Operations that a block counts as.
const BLOCK_FLOPS: u64 = 512;

impl Kernel for Norm {
    fn run(&self, workers: &mut Workers, reads: &[&[Block]], y: &mut [Block]) {
        let (arch, x, vectors) = (workers.arch, reads[0], reads[1]);
        let (planes, pixels) = (self.shape.blocks() * self.shape.batch, self.shape.pixels());
        let parts = Workers::parts(x.len() as u64 * BLOCK_FLOPS, planes);
        let planes_of = |i: usize| lddgan_kernels::workers::share(planes, parts, i);
        // Mean and sum of squared differences of each plane's channels.
        let mut moments = vec![[Block::zeroed(); 2]; planes];
        let places = Parts::new(bytemuck::cast_slice_mut(&mut moments));
        workers.run(parts, |i, _| {
            for plane in planes_of(i) {
                // SAFETY: each plane belongs to one part.
                let out = unsafe { places.get(2 * plane..2 * plane + 2) };
                dispatch(arch, Moments { x: &x[plane * pixels..][..pixels], out });
            }
        });
        let y = Parts::new(y);
        workers.run(parts, |i, _| {
            for plane in planes_of(i) {
                let range = plane * pixels..(plane + 1) * pixels;
                // SAFETY: each plane belongs to one part.
                let y = unsafe { y.get(range.clone()) };
                let factors = self.factors(vectors, plane, &moments);
                dispatch(arch, Apply { x: &x[range], factors: &factors, activation: self.activation, y });
            }
        });
    }
}

impl Norm {
    /// What the channels of a plane are multiplied with, and what is added; zeros for absent channels.
    fn factors(&self, vectors: &[Block], plane: usize, moments: &[[Block; 2]]) -> [Block; 2] {
        let (batch, count) = (self.shape.batch, self.shape.channels / self.groups);
        let (block, sample) = (plane / batch, plane % batch);
        let present = block * BLOCK..self.shape.channels.min((block + 1) * BLOCK);
        let mut factors = [Block::zeroed(); 2];
        for group in present.start / count..present.end.div_ceil(count) {
            let channels = group * count..(group + 1) * count;
            let (mean, scale) = self.mean_and_scale(sample, channels.clone(), moments);
            for c in channels.start.max(present.start)..channels.end.min(present.end) {
                let factor = f64::from(self.affine.feature(vectors, sample, c) + self.affine.offset) * scale;
                let term = f64::from(self.affine.feature(vectors, sample, self.shape.channels + c)) - mean * factor;
                (factors[0].0[c % BLOCK], factors[1].0[c % BLOCK]) = (factor as f32, term as f32);
            }
        }
        factors
    }

    /// The mean of a group of channels, and one over its standard deviation.
    fn mean_and_scale(&self, sample: usize, channels: Range<usize>, moments: &[[Block; 2]]) -> (f64, f64) {
        let moment =
            |c: usize, which: usize| f64::from(moments[c / BLOCK * self.shape.batch + sample][which].0[c % BLOCK]);
        let (count, pixels) = (channels.len() as f64, self.shape.pixels() as f64);
        let mean = channels.clone().map(|c| moment(c, 0)).sum::<f64>() / count;
        let square = |c: usize| moment(c, 1) + pixels * (moment(c, 0) - mean).powi(2);
        let variance = channels.map(square).sum::<f64>() / (count * pixels);
        (mean, 1.0 / (variance + GROUP_NORM_EPS).sqrt())
    }
}

struct Moments<'a> {
    x: &'a [Block],
    out: &'a mut [Block],
}

impl WithSimd for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        let share = simd.splat_f32s(1.0 / self.x.len() as f32);
        for v in 0..vectors::<S>() {
            // Four sums at a time, so that none waits for the one before.
            let mut sums = [zero; 4];
            for (i, x) in self.x.iter().enumerate() {
                sums[i % 4] = simd.add_f32s(sums[i % 4], of::<S>(x)[v]);
            }
            let mean = simd.mul_f32s(total(simd, sums), share);
            let mut sums = [zero; 4];
            for (i, x) in self.x.iter().enumerate() {
                let difference = simd.sub_f32s(of::<S>(x)[v], mean);
                sums[i % 4] = simd.mul_add_e_f32s(difference, difference, sums[i % 4]);
            }
            of_mut::<S>(&mut self.out[0])[v] = mean;
            of_mut::<S>(&mut self.out[1])[v] = total(simd, sums);
        }
    }
}

#[inline(always)]
fn total<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> S::f32s {
    simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d))
}

struct Apply<'a> {
    x: &'a [Block],
    factors: &'a [Block; 2],
    activation: Activation,
    y: &'a mut [Block],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for v in 0..vectors::<S>() {
            let (factor, term) = (of::<S>(&self.factors[0])[v], of::<S>(&self.factors[1])[v]);
            for (x, y) in self.x.iter().zip(&mut *self.y) {
                let x = simd.mul_add_e_f32s(of::<S>(x)[v], factor, term);
                of_mut::<S>(y)[v] = activate(simd, self.activation, x);
            }
        }
    }
}
