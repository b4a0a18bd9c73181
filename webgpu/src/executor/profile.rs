//! Where the time of a run goes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::conv_layer::ConvLayer;
use crate::ceilings::Ceilings;

/// What a dispatch does, however long it takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Work {
    /// The kernel and its constants.
    pub kernel: String,
    /// Shape of the layer's (first) input: batch, channels, height, width.
    pub x: [usize; 4],
    /// Shape of the layer's result.
    pub y: [usize; 4],
    /// Two for each multiply-add of convolutions, linear layers, attention and quantisation.
    pub flops: u64,
    /// What is read and written at least, from the sizes of all that is bound.
    pub bytes: u64,
    /// The layer, if it is a convolution.
    #[serde(skip)]
    pub conv: Option<ConvLayer>,
}

/// A dispatch and how long it took.
#[derive(Debug, Clone)]
pub struct DispatchTime {
    /// What it did.
    pub work: Work,
    /// How long it took.
    pub seconds: f64,
}

/// All dispatches of a run that do the same work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelTime {
    /// Of all dispatches together.
    #[serde(flatten)]
    pub work: Work,
    /// How many there were.
    pub dispatches: usize,
    /// Of all these dispatches together.
    pub seconds: f64,
}

impl KernelTime {
    /// What part of the time would do if the adapter reached the nearer of its ceilings.
    pub fn share_of_ceiling(&self, ceilings: &Ceilings) -> f64 {
        let arithmetic = self.flops_per_second() / ceilings.flops_per_second;
        arithmetic.max(self.bytes_per_second() / ceilings.bytes_per_second)
    }

    /// Operations a second.
    pub fn flops_per_second(&self) -> f64 {
        (self.work.flops * self.dispatches as u64) as f64 / self.seconds
    }

    /// Bytes a second, read and written.
    pub fn bytes_per_second(&self) -> f64 {
        (self.work.bytes * self.dispatches as u64) as f64 / self.seconds
    }
}

/// The median time of each dispatch over some runs of one executor, equal work summed up, the longest first.
pub fn summarise(runs: &[Vec<DispatchTime>]) -> Vec<KernelTime> {
    let mut kernels: BTreeMap<&Work, (usize, f64)> = BTreeMap::new();
    for (i, dispatch) in runs.first().into_iter().flatten().enumerate() {
        let mut seconds: Vec<f64> = runs.iter().filter_map(|run| Some(run.get(i)?.seconds)).collect();
        seconds.sort_by(f64::total_cmp);
        let (dispatches, total) = kernels.entry(&dispatch.work).or_default();
        *dispatches += 1;
        *total += seconds.get(seconds.len() / 2).copied().unwrap_or_default();
    }
    let time = |(work, (dispatches, seconds)): (&Work, _)| KernelTime { work: work.clone(), dispatches, seconds };
    let mut kernels: Vec<_> = kernels.into_iter().map(time).collect();
    kernels.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    kernels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_work_is_summed_over_the_medians_of_its_dispatches() {
        let work =
            |kernel: &str| Work { kernel: kernel.to_string(), x: [1; 4], y: [1; 4], flops: 6, bytes: 3, conv: None };
        let run = |times: [(&str, f64); 3]| -> Vec<_> {
            times.map(|(kernel, seconds)| DispatchTime { work: work(kernel), seconds }).to_vec()
        };
        let runs = [
            run([("a", 1.0), ("b", 5.0), ("a", 2.0)]),
            run([("a", 9.0), ("b", 4.0), ("a", 1.0)]),
            run([("a", 2.0), ("b", 6.0), ("a", 0.0)]),
        ];
        let kernels = summarise(&runs);
        let expected = [("b", 1, 5.0), ("a", 2, 3.0)];
        assert_eq!(
            kernels,
            expected.map(|(kernel, dispatches, seconds)| KernelTime { work: work(kernel), dispatches, seconds })
        );
        assert_eq!((kernels[1].flops_per_second(), kernels[1].bytes_per_second()), (4.0, 2.0));
        let ceilings = Ceilings { flops_per_second: 16.0, bytes_per_second: 4.0 };
        assert_eq!(kernels[1].share_of_ceiling(&ceilings), 0.5);
    }
}
