//! Group norm, learned and adaptive.

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
        // Mean and sum of squared differences of each plane's channels; then what they are multiplied with and what is
        // added.
        let mut moments = vec![[Block::zeroed(); 2]; planes];
        let places = Parts::new(bytemuck::cast_slice_mut(&mut moments));
        workers.run(parts, |i, _| {
            for plane in planes_of(i) {
                // SAFETY: each plane belongs to one part.
                let out = unsafe { places.get(2 * plane..2 * plane + 2) };
                dispatch(arch, Moments { x: &x[plane * pixels..][..pixels], out });
            }
        });
        (0..self.shape.batch).for_each(|sample| self.factors(vectors, sample, &mut moments));
        let y = Parts::new(y);
        workers.run(parts, |i, _| {
            for plane in planes_of(i) {
                let range = plane * pixels..(plane + 1) * pixels;
                // SAFETY: each plane belongs to one part.
                let y = unsafe { y.get(range.clone()) };
                dispatch(arch, Apply { x: &x[range], factors: &moments[plane], activation: self.activation, y });
            }
        });
    }
}

impl Norm {
    /// Replaces the moments of a sample's channels by factors and terms.
    fn factors(&self, vectors: &[Block], sample: usize, moments: &mut [[Block; 2]]) {
        let (batch, count) = (self.shape.batch, self.shape.channels / self.groups);
        let place = |c: usize| (c / BLOCK * batch + sample, c % BLOCK);
        for group in 0..self.groups {
            let channels = group * count..(group + 1) * count;
            let moment = |c: usize, which: usize| f64::from(moments[place(c).0][which].0[place(c).1]);
            let mean = channels.clone().map(|c| moment(c, 0)).sum::<f64>() / count as f64;
            let pixels = self.shape.pixels() as f64;
            let square = |c: usize| moment(c, 1) + pixels * (moment(c, 0) - mean).powi(2);
            let variance = channels.clone().map(square).sum::<f64>() / (count as f64 * pixels);
            let scale = 1.0 / (variance + GROUP_NORM_EPS).sqrt();
            for c in channels {
                let factor = f64::from(self.affine.feature(vectors, sample, c) + self.affine.offset) * scale;
                let term = f64::from(self.affine.feature(vectors, sample, self.shape.channels + c)) - mean * factor;
                let (plane, lane) = place(c);
                (moments[plane][0].0[lane], moments[plane][1].0[lane]) = (factor as f32, term as f32);
            }
        }
        // Absent channels stay zero, because theirs are.
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
