//! The training images that are nearest to others: whether a model repeats what it has seen.
//!
//! Generated images that are copies lie much closer to the training images than unseen real images do.

use candle_core::Tensor;
use serde::Serialize;

use super::EvalError;
use super::features::Extractor;
use super::manifold::rows_of_distances;
use crate::data::ImageSet;

/// The training image that is nearest to an image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Neighbour {
    /// As in [`ImageSet::batch`]: from the number of images on, it is mirrored.
    pub index: u32,
    /// Euclidean, between features.
    pub distance: f64,
}

/// The training images, described by features, each also mirrored, as they are in training.
pub struct Neighbours<'a> {
    extractor: &'a Extractor,
    /// (2 N, D)
    training: Tensor,
}

impl<'a> Neighbours<'a> {
    pub fn among(training: &ImageSet, extractor: &'a Extractor) -> Result<Self, EvalError> {
        let indices: Vec<u32> = (0..2 * training.len() as u32).collect();
        Ok(Self { extractor, training: extractor.extract_some(training, &indices)? })
    }

    /// The nearest training image of each of these images.
    pub fn of(&self, images: &ImageSet) -> Result<Vec<Neighbour>, EvalError> {
        Ok(nearest(&self.extractor.extract(images)?, &self.training)?)
    }
}

/// The nearest row of `points` (N, D), N > 0, for each row of `probes` (M, D).
fn nearest(probes: &Tensor, points: &Tensor) -> candle_core::Result<Vec<Neighbour>> {
    rows_of_distances(probes, points, |_, distances| {
        let neighbours = (0u32..).zip(distances).map(|(index, distance)| Neighbour { index, distance });
        neighbours.min_by(|a, b| a.distance.total_cmp(&b.distance))
    })
    .map(|nearest| nearest.into_iter().flatten().collect())
}

/// How far generated images are from the training images, beside real images that were not trained on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Median distance of the generated images to their nearest training image.
    pub generated: f64,
    /// The same of the unseen images.
    pub unseen: f64,
    /// The least distance among the generated images.
    pub nearest_generated: f64,
    /// The same of the unseen images.
    pub nearest_unseen: f64,
    /// The share of generated images that are nearer than all but 5 % of the unseen ones. 0.05 is what images as new as those
    /// would have; much more says that training images are repeated.
    pub share_nearer: f64,
}

impl Comparison {
    /// Of at least one image each.
    pub fn of(generated: &[Neighbour], unseen: &[Neighbour]) -> Self {
        let (generated, unseen) = (sorted_distances(generated), sorted_distances(unseen));
        let threshold = quantile(&unseen, 0.05);
        let nearer = generated.iter().filter(|distance| **distance < threshold).count();
        Self {
            generated: quantile(&generated, 0.5),
            unseen: quantile(&unseen, 0.5),
            nearest_generated: quantile(&generated, 0.0),
            nearest_unseen: quantile(&unseen, 0.0),
            share_nearer: nearer as f64 / generated.len().max(1) as f64,
        }
    }
}

fn sorted_distances(neighbours: &[Neighbour]) -> Vec<f64> {
    let mut distances: Vec<f64> = neighbours.iter().map(|neighbour| neighbour.distance).collect();
    distances.sort_by(f64::total_cmp);
    distances
}

/// Of sorted values, without interpolation; NaN of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use lddgan::noise::Stream;

    fn images(seed: u64, count: usize) -> ImageSet {
        let values = Stream::new(seed, 0, "images").normals(count * 3 * 32 * 32);
        let images = Tensor::from_vec(values, (count, 3, 32, 32), &Device::Cpu).unwrap();
        let mut set = ImageSet::new(32);
        set.append(&(images * 0.3).unwrap()).unwrap();
        set
    }

    /// Copies are found, mirrored ones too, and stand out against images of their own.
    #[test]
    fn copies_of_training_images_are_found() {
        let training = images(0, 12);
        let mut copies = ImageSet::new(32);
        let indices = [7, 3, 12 + 5];
        copies.append(&training.batch(&indices, &Device::Cpu).unwrap()).unwrap();
        let extractor = Extractor::Pixels;
        let neighbours = Neighbours::among(&training, &extractor).unwrap();
        let found = neighbours.of(&copies).unwrap();
        assert_eq!(found.iter().map(|neighbour| neighbour.index).collect::<Vec<_>>(), indices);
        assert!(found.iter().all(|neighbour| neighbour.distance < 1e-3), "{found:?}");

        let unseen = neighbours.of(&images(1, 40)).unwrap();
        let comparison = Comparison::of(&found, &unseen);
        assert_eq!(comparison.share_nearer, 1.0);
        assert!(comparison.generated < 1e-3 && comparison.unseen > 1.0, "{comparison:?}");
        let others = Comparison::of(&neighbours.of(&images(2, 40)).unwrap(), &unseen);
        assert!(others.share_nearer < 0.3, "{others:?}");
    }

    #[test]
    fn quantiles_are_values_of_the_list() {
        let values = [1.0, 2.0, 3.0, 4.0, 50.0];
        assert_eq!([0.0, 0.5, 1.0].map(|share| quantile(&values, share)), [1.0, 3.0, 50.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
