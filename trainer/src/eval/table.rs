//! The figures by which states of one training are compared: cheap enough for every checkpoint, without weights, and
//! not to be improved by making all images alike.

use candle_core::Tensor;
use serde::Serialize;

use super::features::Extractor;
use super::frechet::{self, Moments};
use super::manifold::{Manifold, PRECISION_NEIGHBOUR, mean_distance};
use super::{EvalError, Metric};
use crate::data::ImageSet;

/// The real images' part, prepared once.
pub struct Table {
    extractor: Extractor,
    /// Of the real images, (N, D).
    features: Tensor,
    moments: Moments,
    manifold: Manifold,
    mean_distance: f64,
}

/// Generated images beside real ones, in [principal components](super::components).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Fréchet distance. It tells a better state from a worse one: it grows with whatever the generated images have too
    /// little of, kinds of images as well as detail, while precision is best where all images are the most ordinary one.
    /// It falls with the number of images, so compare distances of equal numbers.
    pub distance: f64,
    pub precision: f64,
    pub recall: f64,
    /// Mean distance between generated images, relative to that between real ones.
    pub spread: f64,
}

impl Row {
    /// The figures with the names that `lddgan eval` gives them.
    pub fn named(&self) -> [(&'static str, f64); 4] {
        [
            (Metric::Distance.name(), self.distance),
            (Metric::Precision.name(), self.precision),
            (Metric::Recall.name(), self.recall),
            (Metric::Spread.name(), self.spread),
        ]
    }
}

impl Table {
    /// Against `count` of these real images, at least four of any size, spread evenly. The components are those of all. As
    /// many as there will be generated ones make precision and recall of real images alike.
    pub fn of(real: &ImageSet, count: usize) -> Result<Self, EvalError> {
        let extractor = Extractor::components(real)?;
        let features = extractor.extract_some(real, &real.spread(count))?;
        let moments = Moments::of(&features)?;
        let manifold = Manifold::of(&features, PRECISION_NEIGHBOUR)?;
        let mean_distance = mean_distance(&features)?;
        Ok(Self { extractor, features, moments, manifold, mean_distance })
    }

    /// Of generated images, at least four, of any size.
    pub fn row(&self, generated: &ImageSet) -> Result<Row, EvalError> {
        let features = self.extractor.extract(generated)?;
        Ok(Row {
            distance: frechet::distance(&self.moments, &Moments::of(&features)?)?,
            precision: self.manifold.share_inside(&features)?,
            recall: Manifold::of(&features, PRECISION_NEIGHBOUR)?.share_inside(&self.features)?,
            spread: mean_distance(&features)? / self.mean_distance,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use lddgan::noise::Stream;

    /// `count` images of two colours, normal around `mean` with `deviation`, in the two halves of 16 pixels.
    fn images(name: &str, count: usize, mean: f64, deviation: f64) -> ImageSet {
        let colours = Tensor::from_vec(Stream::new(0, 0, name).normals(count * 6), (count, 3, 1, 2), &Device::Cpu);
        let colours = colours.unwrap().affine(deviation, mean).unwrap();
        let mut set = ImageSet::new(16);
        set.append(&colours.upsample_nearest2d(16, 16).unwrap()).unwrap();
        set
    }

    /// Each of the six numbers fills 2,048 of the 64x64x3 values, so its deviation of 0.2 is one of 0.2 * 2048^(1/2) there,
    /// and a mean moved by 0.1 moves the point by 0.1 * 12288^(1/2).
    #[test]
    fn figures_are_those_of_the_distributions() {
        let table = Table::of(&images("real", 600, 0.0, 0.2), 600).unwrap();
        let same = table.row(&images("same", 600, 0.0, 0.2)).unwrap();
        assert!(same.distance < 25.0 && (same.spread - 1.0).abs() < 0.05, "{same:?}");
        assert!(same.precision > 0.7 && same.recall > 0.7, "{same:?}");

        let moved = table.row(&images("same", 600, 0.1, 0.2)).unwrap();
        assert!((moved.distance - 0.01 * 12288.0).abs() < 30.0, "{moved:?}");
        // All much alike: the distance is 6 * 2048 * (0.2 - 0.05)².
        let alike = table.row(&images("same", 600, 0.0, 0.05)).unwrap();
        assert!((alike.distance - 6.0 * 2048.0 * 0.0225).abs() < 30.0, "{alike:?}");
        assert!((alike.spread - 0.25).abs() < 0.02 && alike.precision > 0.95 && alike.recall < 0.1, "{alike:?}");
    }

    #[test]
    fn names_are_those_of_eval() {
        let row = Row { distance: 1.0, precision: 2.0, recall: 3.0, spread: 4.0 };
        assert_eq!(row.named(), [("distance", 1.0), ("precision", 2.0), ("recall", 3.0), ("spread", 4.0)]);
    }
}
