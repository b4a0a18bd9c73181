//! Whether WebGPU makes the right faces here. Drivers have bugs, and a wrong face is still a face: so the first time that an
//! adapter runs a model in some numbers with some kernels, what it makes is compared while the visitor already sees faces.

use candle_core::{Device, Tensor};
use lddgan::Stage;
use lddgan::check::{Golden, Report, Subject, stages};

use super::Worker;
use crate::faces::{FaceMaker, fill};
use crate::page::protocol::Reply;
use lddgan_webgpu::executor::Dtype;

/// The most that Candle computes to have something to compare with, where no golden tensors are at hand: about a second.
const MAX_FLOPS: u64 = 20_000_000_000;

impl Worker {
    /// Compares what WebGPU makes, if that was not done before, and takes another way if it is wrong.
    pub(super) async fn verify(&self) {
        let Some(mut maker) = self.maker.take() else { return };
        if let Some(subject) = maker.unverified() {
            match self.compare(&mut maker).await {
                Some(report) if !passes(&report, maker.dtype()) => {
                    self.send(&Reply::Checked { report, last: true });
                    self.distrust(&mut maker);
                }
                // Without anything to compare with, or with an error that the next face shows too, this visit goes on.
                report => maker.set_verified(subject, report.is_some()).await,
            }
        }
        self.maker.replace(Some(maker));
    }

    /// Goes on in another way, and tells so.
    pub(super) fn distrust(&self, maker: &mut FaceMaker) {
        maker.distrust();
        self.send(&Reply::Executor(maker.info()));
        self.send(&Reply::MadeWrong);
    }

    async fn compare(&self, maker: &mut FaceMaker) -> Option<Report> {
        maker.set_steps(usize::MAX).ok()?;
        let reference = self.reference(maker).await?;
        let (report, found) = maker.webgpu_check(&reference).await?;
        fill(report, maker.model(), &reference, &found.ok()?).ok()
    }

    /// One face, from the golden tensors or from Candle.
    async fn reference(&self, maker: &FaceMaker) -> Option<Golden> {
        let golden = self.golden.borrow().clone();
        if let Some((url, record)) = golden {
            return first(self.golden(maker, &url, Some(record)).await.ok()?).ok();
        }
        let (model, seeds) = (maker.model(), vec![0]);
        if model.record(1).ok()?.flops() > MAX_FLOPS {
            return None;
        }
        let trajectory = model.sample_seeds(&seeds, &Device::Cpu).ok()?;
        let stages = stages(model, &seeds, &trajectory).ok()?;
        let subject = Subject { model: "this model".to_owned(), sha256: maker.sha256().to_owned(), seeds };
        Some(Golden { subject, stages })
    }
}

/// The first of the faces in a recording alone.
fn first(golden: Golden) -> candle_core::Result<Golden> {
    let Golden { subject, stages } = golden;
    let first = |(name, tensor): (String, Tensor)| Ok((name, tensor.narrow(0, 0, 1)?));
    let stages = stages.into_iter().map(first).collect::<candle_core::Result<_>>()?;
    let seeds = subject.seeds.into_iter().take(1).collect();
    Ok(Golden { subject: Subject { seeds, ..subject }, stages })
}

/// Latents in f16 differ more than a check of f32 allows; what counts is the face.
fn passes(report: &Report, dtype: Dtype) -> bool {
    let counts = |name: &str| dtype == Dtype::F32 || !matches!(name.parse(), Ok(Stage::Latent(_)));
    report.stages.iter().filter(|stage| counts(&stage.name)).all(|stage| stage.passed)
}
