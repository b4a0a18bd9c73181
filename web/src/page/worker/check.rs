//! "Check this device": what the executors of this device make of the golden tensors.

use candle_core::Device;
use lddgan::check::{Golden, Report};

use super::Worker;
use crate::faces::{CPU, FaceMaker, empty, fill};
use crate::fetch::{Download, FileRecord};
use crate::page::protocol::Reply;
use lddgan_webgpu::executor::Dtype;

impl Worker {
    /// Sends a report for each executor, or why there is none.
    pub(super) async fn check(&self, maker: &mut FaceMaker, url: &str, expected: Option<FileRecord>) {
        match self.golden(maker, url, expected).await {
            Ok(golden) => self.report(maker, &golden).await,
            Err(reason) => self.send(&Reply::NotChecked(reason)),
        }
    }

    pub(super) async fn golden(
        &self,
        maker: &FaceMaker,
        url: &str,
        expected: Option<FileRecord>,
    ) -> Result<Golden, String> {
        let file = url.rsplit('/').next().unwrap_or(url);
        let bytes = Download::new(url.to_owned(), expected).finish(|_| {}).await?;
        let golden = Golden::from_bytes(&bytes, file).map_err(|error| format!("{error}."))?;
        if golden.subject.sha256 != maker.sha256() {
            return Err(format!("{file} was not made with this model file, so nothing can be compared."));
        }
        Ok(golden)
    }

    async fn report(&self, maker: &mut FaceMaker, golden: &Golden) {
        if let Err(reason) = maker.set_steps(usize::MAX) {
            return self.send(&Reply::NotChecked(reason));
        }
        maker.set_dtype(Dtype::F32);
        if let Some((report, trajectory)) = maker.webgpu_check(golden).await {
            let trajectory = trajectory.map_err(|error| error.to_string());
            let report = trajectory.and_then(|found| fill(report, maker.model(), golden, &found));
            let failed = report.as_ref().is_ok_and(|report| !report.passed);
            self.conclude("WebGPU", report, false);
            if failed {
                self.distrust(maker);
            }
        }
        let (report, trajectory) = maker.cpu_check(golden).await;
        self.conclude("CPU", trajectory.and_then(|found| fill(report, maker.model(), golden, &found)), false);
        let found = maker.model().sample_seeds(&golden.subject.seeds, &Device::Cpu);
        let report = empty(golden.subject.clone(), "candle", CPU);
        let found = found.map_err(|error| error.to_string());
        self.conclude("Candle", found.and_then(|found| fill(report, maker.model(), golden, &found)), true);
    }

    fn conclude(&self, executor: &str, report: Result<Report, String>, last: bool) {
        match report {
            Ok(report) => self.send(&Reply::Checked { report, last }),
            Err(reason) => self.send(&Reply::NotChecked(format!("{executor}: {reason}."))),
        }
    }
}
