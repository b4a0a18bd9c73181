//! Figures from the distances between features: precision and recall (Kynkäänniemi et al., arXiv 1904.06991, as
//! StyleGAN2-ADA computes them), density and coverage (Naeem et al., arXiv 2002.09797), spread.
//!
//! The manifold of a set is the union of balls around its points that reach to the k-th nearest other point.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::{EvalError, need};

/// Which neighbour a ball reaches to in precision and recall.
pub const PRECISION_NEIGHBOUR: usize = 3;
/// The same in density and coverage.
pub const DENSITY_NEIGHBOUR: usize = 5;
/// Points whose distances to all others are held at a time.
const BLOCK: usize = 256;

/// Features and the radius of each one's ball.
pub struct Manifold {
    /// (N, D)
    points: Tensor,
    radii: Vec<f64>,
    neighbour: usize,
}

impl Manifold {
    /// Of features (N, D), N > `neighbour` > 0.
    pub fn of(features: &Tensor, neighbour: usize) -> Result<Self, EvalError> {
        need(&format!("a manifold of {neighbour} neighbours"), neighbour + 1, features.dim(0)?)?;
        let radii = rows_of_distances(features, features, |index, mut distances| {
            // The point itself is no neighbour, wherever rounding puts it.
            if let Some(own) = distances.get_mut(index) {
                *own = f64::INFINITY;
            }
            *distances.select_nth_unstable_by(neighbour.saturating_sub(1), f64::total_cmp).1
        })?;
        Ok(Self { points: features.clone(), radii, neighbour })
    }

    /// The radius of each point's ball.
    pub fn radii(&self) -> &[f64] {
        &self.radii
    }

    /// How many balls each of the features (M, D) lies in.
    pub fn depths(&self, probes: &Tensor) -> Result<Vec<usize>, EvalError> {
        let depth = |distances: Vec<f64>| {
            distances.iter().zip(&self.radii).filter(|(distance, radius)| distance <= radius).count()
        };
        Ok(rows_of_distances(probes, &self.points, |_, distances| depth(distances))?)
    }

    /// The share of the features (M, D) that lie in at least one ball. Of generated features in the manifold of real ones
    /// it is precision, of real features in the manifold of generated ones recall.
    pub fn share_inside(&self, probes: &Tensor) -> Result<f64, EvalError> {
        Ok(share(self.depths(probes)?.into_iter().map(|depth| depth > 0)))
    }

    /// In how many balls one of the features (M, D) lies on average, relative to the number of neighbours: about 1 where
    /// they are distributed as the points.
    pub fn density(&self, probes: &Tensor) -> Result<f64, EvalError> {
        let depths = self.depths(probes)?;
        Ok(depths.iter().sum::<usize>() as f64 / (self.neighbour * depths.len()).max(1) as f64)
    }

    /// The share of the balls that hold at least one of the features (M, D).
    pub fn coverage(&self, probes: &Tensor) -> Result<f64, EvalError> {
        let holds = |index: usize, distances: Vec<f64>| distances.iter().any(|distance| *distance <= self.radii[index]);
        Ok(share(rows_of_distances(&self.points, probes, holds)?.into_iter()))
    }
}

/// The share of `answers` that are yes.
fn share(answers: impl ExactSizeIterator<Item = bool>) -> f64 {
    let count = answers.len().max(1);
    answers.filter(|answer| *answer).count() as f64 / count as f64
}

/// The mean Euclidean distance between two of the features (N, D), N > 1.
pub fn mean_distance(features: &Tensor) -> Result<f64, EvalError> {
    let count = features.dim(0)?;
    need("a mean distance", 2, count)?;
    let others = |index: usize, distances: Vec<f64>| -> f64 {
        let others = distances.iter().enumerate().filter(|(other, _)| *other != index);
        others.map(|(_, distance)| distance).sum()
    };
    let sums = rows_of_distances(features, features, others)?;
    Ok(sums.iter().sum::<f64>() / (count * (count - 1)) as f64)
}

/// `evaluate` of each row's index and Euclidean distances, in f64, to all `columns`.
pub(super) fn rows_of_distances<T: Send>(
    rows: &Tensor,
    columns: &Tensor,
    evaluate: impl Fn(usize, Vec<f64>) -> T + Sync,
) -> candle_core::Result<Vec<T>> {
    let (rows, columns) = (&rows.to_dtype(DType::F64)?, &columns.to_dtype(DType::F64)?);
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
        let manifold = Manifold::of(&line(&[0.0, 1.0, 3.0, 7.0, 20.0]), 3).unwrap();
        assert_eq!(manifold.radii(), [7.0, 6.0, 4.0, 7.0, 19.0]);
        // The balls are [-7, 7], [-5, 7], [-1, 7], [0, 14] and [1, 39].
        let probes = line(&[-7.5, -7.0, 5.0, 39.0, 39.5]);
        assert_eq!(manifold.depths(&probes).unwrap(), [0, 1, 5, 1, 0]);
        assert_eq!(manifold.share_inside(&probes).unwrap(), 0.6);
        // Seven times inside, of five points and three neighbours.
        assert_eq!(manifold.density(&probes).unwrap(), 7.0 / 15.0);
    }

    /// The outlier's ball holds a probe that lies far from the others: one in five is covered, though precision is 1.
    #[test]
    fn coverage_counts_balls() {
        let manifold = Manifold::of(&line(&[0.0, 1.0, 3.0, 7.0, 20.0]), 3).unwrap();
        let far = line(&[30.0, 35.0]);
        assert_eq!((manifold.share_inside(&far).unwrap(), manifold.coverage(&far).unwrap()), (1.0, 0.2));
        assert_eq!(manifold.coverage(&line(&[5.0])).unwrap(), 1.0);
        assert_eq!(manifold.coverage(&line(&[50.0])).unwrap(), 0.0);
    }

    #[test]
    fn mean_distances_are_between_different_points() {
        // 1, 3, 7, 2, 6 and 4.
        let found = mean_distance(&line(&[0.0, 1.0, 3.0, 7.0])).unwrap();
        assert!((found - 23.0 / 6.0).abs() < 1e-12, "{found}");
        assert!(matches!(mean_distance(&line(&[1.0])), Err(EvalError::TooFew { needed: 2, given: 1, .. })));
    }

    #[test]
    fn three_points_are_too_few() {
        let error = Manifold::of(&line(&[0.0, 1.0, 3.0]), 3).err().unwrap();
        assert!(matches!(error, EvalError::TooFew { needed: 4, given: 3, .. }), "{error}");
    }
}
