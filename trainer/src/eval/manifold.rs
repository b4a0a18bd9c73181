//! Precision and recall as in StyleGAN2-ADA: which part of one set lies within the other's manifold, which is the
//! union of balls around its points that reach to the third nearest other point.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::{EvalError, Metric, need};

/// Which neighbour a ball reaches to.
const NEIGHBOUR: usize = 3;
/// Points that a manifold needs, so that each has such a neighbour.
pub const LEAST_POINTS: usize = NEIGHBOUR + 1;
/// Points whose distances to all others are held at a time.
const BLOCK: usize = 256;

/// Features and the radius of each one's ball.
pub struct Manifold {
    /// (N, D) in f64.
    points: Tensor,
    radii: Vec<f64>,
}

impl Manifold {
    /// Of features (N, D).
    pub fn of(features: &Tensor) -> Result<Self, EvalError> {
        need(Metric::Precision, LEAST_POINTS, features.dim(0)?)?;
        let points = features.to_dtype(DType::F64)?;
        let radii = rows_of_distances(&points, &points, |index, mut distances| {
            // The point itself is no neighbour, wherever rounding puts it.
            if let Some(own) = distances.get_mut(index) {
                *own = f64::INFINITY;
            }
            *distances.select_nth_unstable_by(NEIGHBOUR - 1, f64::total_cmp).1
        })?;
        Ok(Self { points, radii })
    }

    /// The radius of each point's ball.
    pub fn radii(&self) -> &[f64] {
        &self.radii
    }

    /// Which of the features (M, D) lie in at least one ball.
    pub fn contains(&self, probes: &Tensor) -> Result<Vec<bool>, EvalError> {
        let probes = probes.to_dtype(DType::F64)?;
        let inside =
            |distances: Vec<f64>| distances.iter().zip(&self.radii).any(|(distance, radius)| distance <= radius);
        Ok(rows_of_distances(&probes, &self.points, |_, distances| inside(distances))?)
    }
}

/// The share of `answers` that are yes.
pub fn share(answers: &[bool]) -> f64 {
    answers.iter().filter(|answer| **answer).count() as f64 / answers.len().max(1) as f64
}

/// `evaluate` of each row's index and Euclidean distances to all `columns`.
pub(super) fn rows_of_distances<T: Send>(
    rows: &Tensor,
    columns: &Tensor,
    evaluate: impl Fn(usize, Vec<f64>) -> T + Sync,
) -> candle_core::Result<Vec<T>> {
    let squares = |points: &Tensor| points.sqr()?.sum(1);
    let (row_squares, column_squares) = (squares(rows)?.unsqueeze(1)?, squares(columns)?.unsqueeze(0)?);
    let transposed = columns.t()?.contiguous()?;
    let count = rows.dim(0)?;
    let mut results = Vec::with_capacity(count);
    for start in (0..count).step_by(BLOCK) {
        let size = BLOCK.min(count - start);
        let products = rows.narrow(0, start, size)?.contiguous()?.matmul(&transposed)?;
        let sums = row_squares.narrow(0, start, size)?.broadcast_add(&column_squares)?;
        let distances = (sums - (products * 2.0)?)?.relu()?.sqrt()?.to_vec2::<f64>()?;
        results.par_extend(
            distances.into_par_iter().enumerate().map(|(offset, distances)| evaluate(start + offset, distances)),
        );
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn line(points: &[f32]) -> Tensor {
        Tensor::new(points, &Device::Cpu).unwrap().reshape(((), 1)).unwrap()
    }

    #[test]
    fn balls_reach_to_the_third_neighbour() {
        let manifold = Manifold::of(&line(&[0.0, 1.0, 3.0, 7.0, 20.0])).unwrap();
        assert_eq!(manifold.radii(), [7.0, 6.0, 4.0, 7.0, 19.0]);
        // The balls are [-7, 7], [-5, 7], [-1, 7], [0, 14] and [1, 39].
        let inside = manifold.contains(&line(&[-7.5, -7.0, 5.0, 39.0, 39.5])).unwrap();
        assert_eq!(inside, [false, true, true, true, false]);
        assert_eq!(share(&inside), 0.6);
    }

    #[test]
    fn three_points_are_too_few() {
        let error = Manifold::of(&line(&[0.0, 1.0, 3.0])).err().unwrap();
        assert!(matches!(error, EvalError::TooFew { needed: 4, given: 3, .. }), "{error}");
    }
}
