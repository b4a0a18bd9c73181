//! How long sampling and training take, by the protocol of the paper: some calls to warm up, then the time of each of
//! many trials.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use lddgan::{Compiler, Executor, Graph};
use serde::Serialize;

/// How often something is timed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Protocol {
    /// Images computed at a time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Calls before the first that counts
    #[arg(long, default_value_t = 10)]
    pub warm_up: usize,
    /// Calls that are timed
    #[arg(long, default_value_t = 300)]
    pub trials: usize,
    /// Stop after this many seconds, warm-up included, but not before one trial
    #[arg(long)]
    pub seconds: Option<f64>,
}

/// What was measured, in seconds for one batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    pub batch: usize,
    /// Trials that were timed.
    pub trials: usize,
    pub mean: f64,
    pub standard_deviation: f64,
    pub fastest: f64,
    pub median: f64,
    pub images_per_second: f64,
}

impl Protocol {
    /// Images computed at a time.
    pub fn batch(&self) -> usize {
        self.batch as usize
    }

    /// Times a recording, which is compiled first: each run ends with its results in the executor's memory. The bytes that
    /// the executor takes, weights included.
    pub fn time_graph<C>(&self, compiler: &mut C, graph: &Graph, inputs: &[(&str, &[f32])]) -> Result<(Timing, u64)>
    where
        C: Compiler<Error: std::error::Error + Send + Sync + 'static>,
    {
        let mut executor = pollster::block_on(compiler.compile(graph))?;
        let timing = self.time(|| {
            executor.run(inputs.iter().copied())?;
            Ok(pollster::block_on(executor.finish())?)
        })?;
        Ok((timing, executor.activation_bytes() + executor.weight_bytes()))
    }

    /// Times `call`, which must wait until its results are there.
    pub fn time(&self, mut call: impl FnMut() -> Result<()>) -> Result<Timing> {
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} trials, {eta} left")?;
        let bar = ProgressBar::new((self.warm_up + self.trials) as u64).with_style(style);
        let end = self.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
        let over = || end.is_some_and(|end| Instant::now() >= end);
        for _ in 0..self.warm_up {
            if over() {
                break;
            }
            call()?;
            bar.inc(1);
        }
        let mut seconds = Vec::new();
        while seconds.is_empty() || (seconds.len() < self.trials && !over()) {
            let start = Instant::now();
            call()?;
            seconds.push(start.elapsed().as_secs_f64());
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(Timing::new(self.batch(), seconds))
    }
}

impl Timing {
    /// Of one of so many calls that each trial made.
    pub fn of_one(self, calls: u32) -> Self {
        let calls = f64::from(calls);
        Self {
            mean: self.mean / calls,
            standard_deviation: self.standard_deviation / calls,
            fastest: self.fastest / calls,
            median: self.median / calls,
            images_per_second: self.images_per_second * calls,
            ..self
        }
    }

    /// From the seconds of each trial, of which there is at least one.
    fn new(batch: usize, mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let trials = seconds.len();
        let mean = seconds.iter().sum::<f64>() / trials as f64;
        let variance = seconds.iter().map(|second| (second - mean).powi(2)).sum::<f64>() / trials as f64;
        Self {
            batch,
            trials,
            mean,
            standard_deviation: variance.sqrt(),
            fastest: seconds.first().copied().unwrap_or_default(),
            median: seconds.get(trials / 2).copied().unwrap_or_default(),
            images_per_second: batch as f64 / mean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_known_times() {
        let timing = Timing::new(6, vec![4.0, 1.0, 2.0, 5.0]);
        assert_eq!((timing.mean, timing.fastest, timing.median, timing.images_per_second), (3.0, 1.0, 4.0, 2.0));
        assert!((timing.standard_deviation - 2.5f64.sqrt()).abs() < 1e-12);
        let one = timing.of_one(2);
        assert_eq!((one.trials, one.mean, one.fastest, one.median, one.images_per_second), (4, 1.5, 0.5, 2.0, 4.0));
    }

    #[test]
    fn trials_are_counted_and_cut_off() {
        let mut calls = 0;
        let mut time = |protocol: Protocol| {
            calls = 0;
            let timing = protocol.time(|| {
                calls += 1;
                Ok(())
            });
            (timing.unwrap().trials, calls)
        };
        let protocol = Protocol { batch: 1, warm_up: 2, trials: 5, seconds: None };
        assert_eq!(time(protocol), (5, 7));
        assert_eq!(time(Protocol { seconds: Some(0.0), ..protocol }), (1, 1));
        assert_eq!(time(Protocol { trials: 0, ..protocol }), (1, 3));
    }
}
