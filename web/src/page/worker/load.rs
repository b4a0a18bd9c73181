//! How a model comes into the worker.

use candle_core::Device;
use lddgan::{ModelFile, check};

use super::download::download;
use super::job::ModelSource;
use super::sampler::Sampler;
use super::{Worker, now};
use crate::page::protocol::{ModelInfo, Reply, Speed};
use crate::page::settings::ExecutorChoice;

impl Worker {
    /// The sampler of another model; if that cannot be used, the one that there is.
    pub(super) async fn load(
        &self,
        source: ModelSource,
        choice: ExecutorChoice,
        old: Option<Sampler>,
    ) -> Option<Sampler> {
        let start = now();
        let remote = matches!(source, ModelSource::Url(_));
        let (file, bytes) = match self.bytes(source).await {
            Ok((file, bytes)) => (file, bytes),
            Err(reason) => return self.refuse(reason, old),
        };
        let downloaded = now();
        self.send(&Reply::Preparing);
        let read = ModelFile::from_bytes(&bytes, &file).and_then(|read| Ok((read.model(&file, &Device::Cpu)?, read)));
        let (model, read) = match read {
            Ok(read) => read,
            Err(error) => return self.refuse(format!("The model cannot be used: {error}."), old),
        };
        let info = ModelInfo {
            name: read.provenance.name.clone(),
            bytes: bytes.len(),
            sha256: check::sha256(&bytes),
            image_size: model.config.autoencoder.image_size,
            steps: model.schedule.steps(),
            config: read.config,
            provenance: read.provenance,
        };
        let speed =
            Speed { download: remote.then_some(downloaded - start), read: now() - downloaded, ..Default::default() };
        let sampler = match old {
            Some(old) => old.with_model(model, info.sha256.clone(), speed),
            None => Sampler::new(model, info.sha256.clone(), speed, choice).await,
        };
        self.send(&Reply::Executor(sampler.info()));
        self.send(&Reply::Ready(Box::new(info)));
        Some(sampler)
    }

    async fn bytes(&self, source: ModelSource) -> Result<(String, Vec<u8>), String> {
        match source {
            ModelSource::Bytes { file, bytes } => Ok((file, bytes)),
            ModelSource::Url(url) => {
                let file = url.rsplit('/').next().unwrap_or(&url).to_owned();
                let progress = |bytes, total| self.send(&Reply::Downloading { bytes, total });
                let bytes = download(&self.scope, &url, &file, progress).await?;
                Ok((file, bytes))
            }
        }
    }

    fn refuse(&self, reason: String, old: Option<Sampler>) -> Option<Sampler> {
        self.send(&Reply::NotLoaded(reason));
        old
    }
}
