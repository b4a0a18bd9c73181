//! Showing how far a long run is.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::say;

/// Time between two lines where there is no terminal to draw a bar on.
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// Steps of the bar.
const BAR: u64 = 1000;

/// A bar with the time left and images per second; plain lines where the output is no terminal.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    first: u64,
    total: u64,
    /// How long it may take, in seconds.
    limit: Option<f64>,
    last_line: Instant,
}

/// How far a run is.
struct Reached {
    /// 0 to 1
    share: f64,
    /// What is left, in seconds.
    left: f64,
}

impl Reached {
    /// After `done` images of `total` and so many seconds; it ends with the images or at the `limit`, whichever is first.
    fn new(done: u64, total: u64, seconds: f64, limit: Option<f64>) -> Self {
        let share = done as f64 / total.max(1) as f64;
        let by_images = Self { share, left: seconds * (total.saturating_sub(done) as f64 / done.max(1) as f64) };
        let by_time = limit.map(|limit| Self { share: seconds / limit, left: limit - seconds });
        by_time.filter(|by_time| done == 0 || by_time.left < by_images.left).unwrap_or(by_images)
    }
}

impl Progress {
    /// Counts images from `first` to `total`.
    pub fn new(first: u64, total: u64) -> Self {
        let bar = ProgressBar::new(BAR);
        let template = "{bar:30} {elapsed} elapsed, {msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let now = Instant::now();
        Self { bar, started: now, first, total, limit: None, last_line: now }
    }

    /// Counts them for so many seconds at most.
    pub fn within(self, limit: Option<f64>) -> Self {
        Self { limit, ..self }
    }

    /// Shows the count and the latest losses.
    pub fn update(&mut self, images: u64, losses: &[(&str, f64)]) {
        let (done, seconds) = (images.saturating_sub(self.first), self.started.elapsed().as_secs_f64());
        let reached = Reached::new(done, self.total.saturating_sub(self.first), seconds, self.limit);
        let losses = losses.iter().map(|(name, value)| format!(", {name} {value:.4}")).collect::<String>();
        let left = HumanDuration(Duration::try_from_secs_f64(reached.left.max(0.0)).unwrap_or(Duration::MAX));
        let rate = done as f64 / seconds.max(1e-9);
        let message = format!("{images}/{} images, {rate:.1} images/s, {left} left{losses}", self.total);
        if self.bar.is_hidden() {
            if self.last_line.elapsed() >= LINE_INTERVAL {
                self.last_line = Instant::now();
                say!("{message}");
            }
        } else {
            self.bar.set_position((reached.share.clamp(0.0, 1.0) * BAR as f64) as u64);
            self.bar.set_message(message);
        }
    }

    /// Prints a line without disturbing the bar.
    pub fn note(&self, line: &str) {
        if self.bar.is_hidden() { say!("{line}") } else { self.bar.println(line) }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_the_limit_or_of_the_images() {
        let reached = |done, limit| {
            let Reached { share, left } = Reached::new(done, 60_000, 30.0, limit);
            (share, left)
        };
        // 100 images took half a minute: all of them would take five hours, half a minute is left of the one.
        assert_eq!(reached(100, None), (1.0 / 600.0, 30.0 * 599.0));
        assert_eq!(reached(100, Some(60.0)), (0.5, 30.0));
        assert_eq!(reached(0, Some(60.0)), (0.5, 30.0));
        // The images are done before the hour is over.
        assert_eq!(reached(45_000, Some(3600.0)), (0.75, 10.0));
        assert_eq!(reached(60_000, Some(3600.0)), (1.0, 0.0));
    }
}
