//! Random numbers that are the same on every platform, named by (seed, index, draw).
//!
//! Every draw has its own ChaCha8 stream, keyed by the SHA-256 of its name, so draws can be made in any order, and
//! a training run needs no generator state to resume. Normal values go through `libm`, never through the
//! platform's mathematics, so that a seed names the same face everywhere.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A stream of random numbers.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of the draw called `draw` for item `index` (an image, a training step) of `seed`.
    pub fn new(seed: u64, index: u64, draw: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update(index.to_le_bytes())
            .chain_update(draw.as_bytes())
            .finalize();
        Self(ChaCha8Rng::from_seed(hash.into()))
    }

    /// Uniform in (0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Uniform in 0..`limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        // The bias of the multiplication is below 2^-32 for the limits used here (steps, image indices).
        ((u64::from(limit) * u64::from(self.0.next_u32())) >> 32) as u32
    }

    /// `count` standard normal values (Box-Muller in double precision, rounded to f32).
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let radius = (-2.0 * libm::log(self.uniform())).sqrt();
            let (sine, cosine) = libm::sincos(2.0 * std::f64::consts::PI * self.uniform());
            values.extend([(radius * cosine) as f32, (radius * sine) as f32]);
        }
        values.truncate(count);
        values
    }

    /// The numbers 0..`count` in random order (Fisher-Yates).
    pub fn permutation(&mut self, count: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count).collect();
        for i in (1..count).rev() {
            order.swap(i as usize, self.below(i + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by `tests/fixtures/noise.py`, which has a ChaCha8 of its own.
    #[test]
    fn normals_are_these_bits_on_every_platform() {
        let values = Stream::new(1, 2, "x").normals(5);
        let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, GOLDEN);
    }

    const GOLDEN: [u32; 5] = [0x3ffc841f, 0xbee4647d, 0xbfa12648, 0xbee707ea, 0xbf7c55e5];

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let values = Stream::new(7, 0, "moments").normals(100_000);
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / values.len() as f64;
        // Five standard errors: 1/sqrt(n) for the mean, sqrt(2/n) for the variance.
        assert!(mean.abs() < 5.0 * 0.00316, "mean {mean}");
        assert!((variance - 1.0).abs() < 5.0 * 0.00447, "variance {variance}");
    }

    #[test]
    fn draws_differ_by_seed_index_and_name() {
        let first = |seed, index, draw| Stream::new(seed, index, draw).normals(1)[0];
        let base = first(0, 0, "x");
        assert_eq!(base, first(0, 0, "x"));
        for other in [first(1, 0, "x"), first(0, 1, "x"), first(0, 0, "z/0")] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn permutations_hold_every_number_once() {
        let mut order = Stream::new(3, 0, "order").permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
