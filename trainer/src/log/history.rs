//! The numbers of a run so far, thinned: however long it is, they take the same memory.

use std::collections::BTreeMap;

use super::losses::Line;

/// Parts of a training that a number has at most; half as many after some were joined.
const MOST: usize = 2048;

/// Every number that was logged, over the training images.
#[derive(Default)]
pub struct History {
    series: BTreeMap<String, Series>,
    /// Training images of the latest line.
    images: u64,
}

/// One number.
struct Series {
    /// Training images of a part.
    width: u64,
    /// Parts in which there are values, by their place.
    parts: Vec<(u64, Bin)>,
}

/// The values of one part of the training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Mean of their training images.
    pub images: f64,
    pub mean: f64,
    pub least: f64,
    pub most: f64,
    /// How many there are.
    pub count: u64,
}

impl Bin {
    fn one(images: u64, value: f64) -> Self {
        Self { images: images as f64, mean: value, least: value, most: value, count: 1 }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        Self {
            images: self.images + (other.images - self.images) * share,
            mean: self.mean + (other.mean - self.mean) * share,
            least: self.least.min(other.least),
            most: self.most.max(other.most),
            count,
        }
    }
}

impl History {
    /// Adds a step's numbers; those that are not finite are left out.
    pub fn add(&mut self, line: &Line) {
        self.images = self.images.max(line.images);
        for (name, &value) in line.values.iter().filter(|(_, value)| value.is_finite()) {
            match self.series.get_mut(name) {
                Some(series) => series.add(line.images, value),
                None => {
                    let parts = vec![(line.images, Bin::one(line.images, value))];
                    self.series.insert(name.clone(), Series { width: 1, parts });
                }
            }
        }
    }

    /// Training images of the latest line.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Each number by its name, the earliest part first.
    pub fn series(&self) -> impl ExactSizeIterator<Item = (&str, Vec<Bin>)> {
        self.series.iter().map(|(name, series)| (name.as_str(), series.parts.iter().map(|(_, bin)| *bin).collect()))
    }
}

impl Series {
    fn add(&mut self, images: u64, value: f64) {
        self.parts.push((images / self.width, Bin::one(images, value)));
        self.join();
        while self.parts.len() > MOST {
            self.width *= 2;
            self.parts.iter_mut().for_each(|(place, _)| *place /= 2);
            let parts = std::mem::take(&mut self.parts);
            for part in parts {
                self.parts.push(part);
                self.join();
            }
        }
    }

    /// Joins the last two parts, if they have one place.
    fn join(&mut self) {
        if let [.., (before, first), (place, last)] = self.parts.as_mut_slice()
            && before == place
        {
            *first = first.and(*last);
            self.parts.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100,000 steps of 16 images: a spike, the mean and the count stay what they are, in a bounded number of even parts.
    #[test]
    fn a_long_history_is_thinned_evenly() {
        let mut history = History::default();
        for step in 1..=100_000u64 {
            let value = if step == 77_777 { 9.0 } else { (step % 2) as f64 };
            history.add(&Line { step, images: 16 * step, seconds: 0.0, values: [("a".to_string(), value)].into() });
        }
        let (name, bins) = history.series().next().unwrap();
        assert_eq!((name, history.images()), ("a", 1_600_000));
        assert!(bins.len() > MOST / 4 && bins.len() <= MOST, "{}", bins.len());
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), 100_000);
        let sum: f64 = bins.iter().map(|bin| bin.mean * bin.count as f64).sum();
        assert!((sum - 50_000.0 - 8.0).abs() < 1e-6, "{sum}");
        assert_eq!(bins.iter().map(|bin| bin.most).fold(0.0, f64::max), 9.0);
        let whole = &bins[1..bins.len() - 1];
        assert!(whole.iter().all(|bin| bin.count == whole[0].count) && whole.is_sorted_by(|a, b| a.images < b.images));
    }

    #[test]
    fn numbers_that_are_not_finite_are_left_out() {
        let mut history = History::default();
        for (images, value) in [(4, 1.0), (8, f64::NAN), (12, 3.0)] {
            history.add(&Line { step: 0, images, seconds: 0.0, values: [("a".to_string(), value)].into() });
        }
        let (_, bins) = history.series().next().unwrap();
        assert_eq!(bins.iter().map(|bin| (bin.images, bin.mean)).collect::<Vec<_>>(), [(4.0, 1.0), (12.0, 3.0)]);
    }
}
