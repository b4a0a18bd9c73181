//! Networks as ONNX files, for every other runtime: the same recording that the WebGPU executor compiles.

pub(crate) mod builder;
mod lower;
pub(crate) mod proto;

use candle_core::Device;
use lddgan::diffusion::Schedule;
use lddgan::{ModelFile, Network, NetworkName};

use builder::Builder;

use crate::backend::Dtype;

/// A network that cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{0} has no translation to ONNX; only generator and decoder are exported")]
    Unsupported(&'static str),
    #[error("the graph reads node {0} before it is computed")]
    Order(usize),
    #[error("{file}: holds neither a generator nor an autoencoder to export")]
    NoNetwork { file: String },
    #[error("{file}: the metadata of the ONNX file cannot be written: {source}")]
    Metadata { file: String, source: serde_json::Error },
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    #[error(transparent)]
    Network(#[from] lddgan::Error),
}

/// An ONNX file.
pub struct OnnxFile {
    /// Generator or decoder.
    pub network: NetworkName,
    pub bytes: Vec<u8>,
}

/// What images are made with, as far as `file`, named `name`, holds it. Every input and output is as in `lddgan run`,
/// for any batch: the generator takes `x`, `t` (int64) and `z` to `x0`, the decoder `latent` to `image`. The metadata
/// property `lddgan` is the configuration as JSON, latent scale and schedule included.
pub fn onnx(file: &ModelFile, name: &str, dtype: Dtype) -> Result<Vec<OnnxFile>, ExportError> {
    let config = serde_json::to_string(&file.config);
    let config = config.map_err(|source| ExportError::Metadata { file: name.to_string(), source })?;
    let mut files = Vec::new();
    for network in [NetworkName::Generator, NetworkName::Decoder] {
        if network.is_described_by(&file.config) {
            let graph = encode(&file.network(network, name, &Device::Cpu)?, file, dtype)?;
            files.push(OnnxFile { network, bytes: proto::Model::new(graph, &config).to_bytes() });
        }
    }
    if files.is_empty() { Err(ExportError::NoNetwork { file: name.to_string() }) } else { Ok(files) }
}

fn encode(network: &Network, file: &ModelFile, dtype: Dtype) -> Result<proto::Graph, ExportError> {
    // A generator alone says nothing about its steps.
    let schedule = Schedule::new(&file.config.diffusion.clone().unwrap_or_default())?;
    let steps: Vec<u32> = (0..schedule.steps() as u32).collect();
    let tables = network.step_inputs(&schedule, &steps, &Device::Cpu)?;
    let mut graph = network.record(&network.shapes(&file.config, 1)?)?;
    // What the image alone needs.
    graph.outputs.retain(|(name, _)| name != "quantized");
    lower::translate(Builder::new(network.name().as_str(), dtype.candle()), &graph, &tables)
}
