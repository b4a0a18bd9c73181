//! Which item of the data comes when.

/// The indices of a batch out of `count` items: every item once per epoch, in an order of the epoch's own.
pub struct EpochOrder {
    seed: u64,
    count: u32,
    epoch: Option<u64>,
    order: Vec<u32>,
}

impl EpochOrder {
    pub fn new(seed: u64, count: usize) -> Self {
        Self { seed, count: count as u32, epoch: None, order: Vec::new() }
    }

    /// The items at these positions of the endless sequence of epochs.
    pub fn batch(&mut self, positions: &[u64]) -> Vec<u32> {
        positions.iter().map(|&position| self.item(position)).collect()
    }

    fn item(&mut self, position: u64) -> u32 {
        let epoch = position / u64::from(self.count.max(1));
        if self.epoch != Some(epoch) {
            self.order = lddgan::noise::Stream::new(self.seed, epoch, "order").permutation(self.count);
            self.epoch = Some(epoch);
        }
        self.order[(position % u64::from(self.count.max(1))) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_per_epoch() {
        let positions = |range: std::ops::Range<u64>| range.collect::<Vec<_>>();
        let mut order = EpochOrder::new(1, 10);
        let mut first: Vec<u32> = order.batch(&positions(0..10));
        let second = order.batch(&positions(10..20));
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        assert_eq!(EpochOrder::new(1, 10).batch(&positions(13..17)), second[3..7]);
    }
}
