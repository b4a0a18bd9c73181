//! How much two results may differ.

use lddgan::compare::{Difference, psnr};

/// The largest difference that is allowed.
#[derive(Debug, Clone, Copy)]
pub enum Tolerance {
    /// Of any value.
    Absolute(f64),
    /// As a share of the largest expected value.
    Relative(f64),
}

impl Tolerance {
    /// Panics, naming the worst element, unless both are equal within the tolerance. Both have the values of a tensor
    /// of shape `dims`; `label` says what is compared. Prints the error that there was.
    pub fn check<T: Copy + Into<f64>>(self, found: &[T], expected: &[T], dims: &[usize], label: &str) {
        let difference = Difference::between(found, expected).unwrap_or_else(|error| panic!("{label}: {error}"));
        let (error, allowed, kind) = match self {
            Self::Absolute(allowed) => (difference.max, allowed, "max abs error"),
            Self::Relative(allowed) => (difference.relative(), allowed, "max error of the largest value"),
        };
        let (found, expected): (f64, f64) = (found[difference.index].into(), expected[difference.index].into());
        assert!(
            error <= allowed,
            "{label}: {kind} {error:e} > {allowed:e} at {:?} of {dims:?}: {found} instead of {expected}",
            place(difference.index, dims)
        );
        println!("{label}: {kind} {error:.1e}");
    }
}

/// Peak signal-to-noise ratio in dB, the peak being the span of what is expected.
pub fn psnr_of_span(found: &[f32], expected: &[f32]) -> f64 {
    let difference = Difference::between(found, expected).unwrap_or_else(|error| panic!("{error}"));
    let largest = expected.iter().copied().fold(f32::MIN, f32::max);
    let smallest = expected.iter().copied().fold(f32::MAX, f32::min);
    psnr(difference.mean_squared, f64::from(largest - smallest))
}

/// The coordinates of the element `index`.
fn place(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut place: Vec<_> = dims
        .iter()
        .rev()
        .map(|&dim| {
            let coordinate = index % dim;
            index /= dim;
            coordinate
        })
        .collect();
    place.reverse();
    place
}
