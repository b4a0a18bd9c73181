//! How a model comes into the worker.

use candle_core::Device;
use lddgan::{Model, ModelFile, hash};
use wasm_bindgen_futures::JsFuture;

use super::Worker;
use super::helpers::File;
use super::job::ModelSource;
use crate::choices::ExecutorChoice;
use crate::faces::{FaceMaker, Speed};
use crate::fetch::{Download, FileRecord, ModelCache, Progress};
use crate::page::protocol::{ModelInfo, Reply};
use crate::time::now;

impl Worker {
    /// The face maker with another model; if that cannot be used, the one before.
    pub(super) async fn load(
        &self,
        source: ModelSource,
        choice: ExecutorChoice,
        tune: Option<bool>,
        old: Option<FaceMaker>,
    ) -> Option<FaceMaker> {
        let had_webgpu = old.as_ref().is_some_and(FaceMaker::has_webgpu);
        let mut maker = match source {
            ModelSource::Bytes { file, bytes } => self.build(&file, &bytes, None, None, choice, old).await,
            ModelSource::Url { url, expected, golden } => self.fetch(&url, expected, golden, choice, old).await,
        }?;
        if !had_webgpu {
            maker.recall(tune).await;
        }
        Some(maker)
    }

    /// A model that the page comes with: from what the browser keeps, or else from the server.
    async fn fetch(
        &self,
        url: &str,
        expected: Option<FileRecord>,
        golden: Option<(String, FileRecord)>,
        choice: ExecutorChoice,
        old: Option<FaceMaker>,
    ) -> Option<FaceMaker> {
        let start = now();
        let kept = match &expected {
            Some(expected) => ModelCache::open(url, expected).await,
            None => None,
        };
        let found = match &kept {
            Some(kept) => kept.read().await,
            None => None,
        };
        let is_found = found.is_some();
        let is_published = expected.is_some();
        let bytes = match found {
            Some(bytes) => bytes,
            None => match self.download(url, expected).await {
                Ok(bytes) => bytes,
                Err(reason) => {
                    self.send(&Reply::DownloadFailed(reason));
                    return old;
                }
            },
        };
        let time = (!is_found).then(|| now() - start);
        let keeping = kept.filter(|_| !is_found).map(|kept| kept.write(&bytes));
        let file = url.rsplit('/').next().unwrap_or(url);
        let maker = self.build(file, &bytes, time, golden, choice, old).await;
        if is_published {
            let is_kept = match keeping {
                Some(Ok(promise)) => JsFuture::from(promise).await.is_ok(),
                _ => is_found,
            };
            self.send(&Reply::Kept(is_kept));
        }
        maker
    }

    /// Downloads a model, or the rest of one whose download failed.
    async fn download(&self, url: &str, expected: Option<FileRecord>) -> Result<Vec<u8>, String> {
        let begun = self.download.take().filter(|download| download.url() == url);
        let mut download = begun.unwrap_or_else(|| Download::new(url.to_owned(), expected));
        let tell = |progress| {
            self.send(&match progress {
                Progress::Received { bytes, total } => Reply::Downloading { bytes, total },
                Progress::Stalled => Reply::Stalled,
                Progress::Resumed { bytes } => Reply::Interrupted { resumed: Some(bytes) },
                Progress::Restarted => Reply::Interrupted { resumed: None },
            });
        };
        let finished = download.finish(tell).await;
        self.download.replace(finished.is_err().then_some(download));
        finished
    }

    /// Makes the face maker of a whole file.
    async fn build(
        &self,
        file: &str,
        bytes: &[u8],
        download: Option<f64>,
        golden: Option<(String, FileRecord)>,
        choice: ExecutorChoice,
        old: Option<FaceMaker>,
    ) -> Option<FaceMaker> {
        let start = now();
        self.send(&Reply::Preparing);
        let (info, model) = match read(file, bytes) {
            Ok(read) => read,
            Err(error) => {
                self.send(&Reply::NotLoaded(format!("The model cannot be used: {error}.")));
                return old;
            }
        };
        let speed = Speed { download, read: now() - start, ..Default::default() };
        let maker = match old {
            Some(old) if old.has_webgpu() => old.with_model(model, info.sha256.clone(), speed),
            // WebGPU may take this model where it did not take the one before.
            _ => FaceMaker::new(model, info.sha256.clone(), speed, choice).await,
        };
        self.golden.replace(golden);
        self.file.replace(File::new(file, bytes));
        self.helpers.take();
        self.jobs.borrow_mut().retain(|job| !job.needs_model());
        self.send(&Reply::Executor(maker.info()));
        self.send(&Reply::Ready(Box::new(info)));
        Some(maker)
    }
}

/// The networks in a file, and what is known about them.
fn read(file: &str, bytes: &[u8]) -> lddgan::Result<(ModelInfo, Model)> {
    let read = ModelFile::from_bytes(bytes, file)?;
    let model = read.model(file, &Device::Cpu)?;
    let info = ModelInfo {
        name: read.provenance.name.clone(),
        bytes: bytes.len(),
        sha256: hash::sha256(bytes),
        image_size: model.config.autoencoder.image_size,
        steps: model.schedule.steps(),
        directions: model.directions().count(),
        config: read.config,
        provenance: read.provenance,
    };
    Ok((info, model))
}
