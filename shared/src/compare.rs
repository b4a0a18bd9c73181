//! How much two lists of values differ: what every check and test of one executor against another rests on.

use crate::error::{Error, Result};

/// What [`psnr`] gives for equal images, which have none.
pub const EQUAL_PSNR: f64 = 999.0;

/// The differences between the values that were found and those that were expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The largest, infinite where one is not a number.
    pub max: f64,
    /// Where it is.
    pub index: usize,
    /// Of all; not a number where one is not.
    pub mean: f64,
    /// Of their squares; not a number where one is not.
    pub mean_squared: f64,
    /// The largest of the expected values, without its sign.
    pub largest: f64,
}

impl Difference {
    /// Between as many values. An error if their numbers differ or there are none.
    pub fn between<T: Copy + Into<f64>>(found: &[T], expected: &[T]) -> Result<Self> {
        if found.len() != expected.len() || found.is_empty() {
            let reason = format!("{} values cannot be compared with {}", found.len(), expected.len());
            return Err(Error::shape("compare", reason));
        }
        let (mut max, mut index, mut sum, mut squares, mut largest) = (0.0, 0, 0.0, 0.0, 0f64);
        for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let expected: f64 = expected.into();
            let difference = (found.into() - expected).abs();
            // `max` would pass over what is not a number.
            let worst = if difference.is_nan() { f64::INFINITY } else { difference };
            if worst > max {
                (max, index) = (worst, i);
            }
            sum += difference;
            squares += difference * difference;
            largest = largest.max(expected.abs());
        }
        let count = found.len() as f64;
        Ok(Self { max, index, mean: sum / count, mean_squared: squares / count, largest })
    }

    /// The largest difference as a share of the largest expected value.
    pub fn relative(&self) -> f64 {
        self.max / self.largest.max(f64::from(f32::MIN_POSITIVE))
    }
}

/// Peak signal-to-noise ratio in dB of a mean squared error between images whose values span `peak`; [`EQUAL_PSNR`] at most,
/// and not a number where the error is not.
pub fn psnr(mean_squared_error: f64, peak: f64) -> f64 {
    (10.0 * (peak * peak / mean_squared_error).log10()).clamp(f64::NEG_INFINITY, EQUAL_PSNR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_value_is_named_and_nothing_passes_for_a_number() {
        let difference = Difference::between(&[1.0, -4.0, 2.5], &[1.0, -2.0, 2.0]).unwrap();
        let expected = Difference { max: 2.0, index: 1, mean: 2.5 / 3.0, mean_squared: 4.25 / 3.0, largest: 2.0 };
        assert_eq!((difference, difference.relative()), (expected, 1.0));
        for values in [[0.0, f32::NAN], [0.0, f32::INFINITY]] {
            for (found, expected) in [(values, [0.0, 1.0]), ([0.0, 1.0], values), (values, values)] {
                let difference = Difference::between(&found, &expected).unwrap();
                assert!(difference.max == f64::INFINITY && difference.index == 1, "{difference:?}");
                assert!(psnr(difference.mean_squared, 1.0).partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater));
            }
        }
        assert!(Difference::between(&[1.0], &[1.0, 2.0]).is_err() && Difference::between::<f32>(&[], &[]).is_err());
    }

    /// An error of a tenth of the peak everywhere is 20 dB.
    #[test]
    fn psnr_of_known_errors() {
        assert!((psnr(0.01, 1.0) - 20.0).abs() < 1e-9 && (psnr(0.04, 2.0) - 20.0).abs() < 1e-9);
        assert_eq!(psnr(0.0, 2.0), EQUAL_PSNR);
    }
}
