//! Showing how far a long run is.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines where there is no terminal to draw a bar on.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// A bar with ETA and images per second; plain lines where the output is no terminal.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    first: u64,
    total: u64,
    last_line: Instant,
}

impl Progress {
    /// Counts images from `first` to `total`.
    pub fn new(first: u64, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_position(first);
        let template = "{bar:30} {human_pos}/{human_len} images, {elapsed} gone, {eta} left, {msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.reset_eta();
        let now = Instant::now();
        Self { bar, started: now, first, total, last_line: now }
    }

    /// Images per second of this run.
    pub fn rate(&self, images: u64) -> f64 {
        images.saturating_sub(self.first) as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Shows the count and the latest losses.
    pub fn update(&mut self, images: u64, losses: &[(&str, f64)]) {
        let rate = self.rate(images);
        let losses = losses.iter().map(|(name, value)| format!(", {name} {value:.4}")).collect::<String>();
        self.bar.set_position(images);
        self.bar.set_message(format!("{rate:.1} images/s{losses}"));
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let left = Duration::from_secs_f64(self.total.saturating_sub(images) as f64 / rate.max(1e-9));
            let left = indicatif::HumanDuration(left);
            println!("{images}/{} images, {rate:.1} images/s, {left} left{losses}", self.total);
        }
    }

    /// Prints a line without disturbing the bar.
    pub fn note(&self, line: &str) {
        if self.bar.is_hidden() { println!("{line}") } else { self.bar.println(line) }
    }
}
