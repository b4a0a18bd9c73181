//! What a check of an executor found.

use candle_core::Tensor;
use lddgan::check::{Golden, LATENT_TOLERANCE, Report, Subject, stages};
use lddgan::{Model, Trajectory};

use crate::time::scope;

/// A report without stages.
pub fn empty(subject: Subject, executor: &str, device: &str) -> Report {
    Report {
        subject,
        executor: executor.to_owned(),
        device: device.to_owned(),
        platform: scope().navigator().user_agent().unwrap_or_default(),
        revision: env!("CARGO_PKG_VERSION").to_owned(),
        limits: Default::default(),
        features: Vec::new(),
        stages: Vec::new(),
        passed: false,
    }
}

pub fn fill(
    mut report: Report,
    model: &Model,
    golden: &Golden,
    trajectory: &Trajectory<Tensor>,
) -> Result<Report, String> {
    let found = stages(model, &golden.subject.seeds, trajectory);
    report.stages =
        found.and_then(|found| golden.compare(&found, LATENT_TOLERANCE)).map_err(|error| error.to_string())?;
    report.passed = report.stages.iter().all(|stage| stage.passed);
    Ok(report)
}
