//! Running one network of a model file on given tensors, on the CPU or through WebGPU.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use lddgan::backend::{CandleBackend, nearest_codes};
use lddgan::networks::{Decoder, Discriminator, Encoder, Generator, LOG_VARIANCE_RANGE};
use lddgan::parameters::TensorMap;
use lddgan::{Backend, ModelFile, Recorder};
use lddgan_web::{Executor, Gpu};

/// A network that can be run by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkName {
    /// x, t, z to x0
    Generator,
    /// x to latent (KL: also mean and logvar)
    Encoder,
    /// latent to image (VQ: also indices)
    Decoder,
    /// x_t, t, x_tp1 to logits
    Discriminator,
}

/// Who computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendName {
    Cpu,
    /// WebGPU, on a graphics card or a software adapter
    Wgpu,
}

/// A network with its weights.
enum Network {
    Generator(Generator),
    Encoder(Encoder),
    Decoder { decoder: Decoder, quantize: bool },
    Discriminator(Discriminator),
}

/// Runs `network` of a file named `name` on the tensors that it takes; others are ignored. Without `quantize`, a
/// decoder takes latents as they are.
pub fn run(
    file: &ModelFile,
    name: &str,
    network: NetworkName,
    inputs: &TensorMap,
    backend: BackendName,
    quantize: bool,
) -> Result<TensorMap> {
    let device = Device::Cpu;
    let network = match network {
        NetworkName::Generator => Network::Generator(file.generator(name, &device)?),
        NetworkName::Encoder => Network::Encoder(file.encoder(name, &device)?),
        NetworkName::Decoder => Network::Decoder { decoder: file.decoder(name, &device)?, quantize },
        NetworkName::Discriminator => Network::Discriminator(file.discriminator(name, &device)?),
    };
    let inputs = network.inputs(inputs)?;
    let outputs = match backend {
        BackendName::Cpu => network.forward(&mut CandleBackend, &inputs)?,
        BackendName::Wgpu => on_gpu(&network, &inputs)?,
    };
    network.finish(outputs)
}

impl Network {
    /// The inputs of [`Self::forward`]: images and vectors as they are, the steps `t` as sinusoids in `time`.
    fn inputs(&self, given: &TensorMap) -> Result<TensorMap> {
        let get = |name: &str| given.get(name).with_context(|| format!("the input `{name}` is missing"));
        let names: &[&str] = match self {
            Self::Generator(_) => &["x", "z"],
            Self::Encoder(_) => &["x"],
            Self::Decoder { .. } => &["latent"],
            Self::Discriminator(_) => &["x_t", "x_tp1"],
        };
        let mut inputs = TensorMap::new();
        for name in names {
            inputs.insert(name.to_string(), get(name)?.to_dtype(DType::F32)?);
        }
        let time = match self {
            Self::Generator(generator) => Some(generator.time_sinusoids(&steps(get("t")?)?, &Device::Cpu)?),
            Self::Discriminator(discriminator) => Some(discriminator.time_sinusoids(&steps(get("t")?)?, &Device::Cpu)?),
            _ => None,
        };
        inputs.extend(time.map(|time| ("time".to_string(), time)));
        let batches: Vec<_> = inputs.values().map(|tensor| tensor.dims().first().copied()).collect();
        ensure!(
            batches.windows(2).all(|pair| pair[0] == pair[1]),
            "the inputs differ in their batch size: {batches:?}"
        );
        Ok(inputs)
    }

    fn forward<B: Backend>(
        &self,
        b: &mut B,
        inputs: &BTreeMap<String, B::Value>,
    ) -> Result<BTreeMap<String, B::Value>> {
        let get = |name: &str| inputs.get(name).with_context(|| format!("the input `{name}` is missing"));
        let outputs = match self {
            Self::Generator(generator) => {
                vec![("x0", generator.forward(b, get("x")?, get("time")?, get("z")?)?)]
            }
            Self::Discriminator(discriminator) => {
                vec![("logits", discriminator.forward(b, get("x_t")?, get("time")?, get("x_tp1")?)?)]
            }
            Self::Encoder(encoder) => match encoder.posterior(b, get("x")?)? {
                Some(posterior) => vec![("mean", posterior.mean), ("logvar", posterior.log_variance)],
                None => vec![("latent", encoder.forward(b, get("x")?)?)],
            },
            Self::Decoder { decoder, quantize: true } => {
                let quantized = decoder.quantize(b, get("latent")?)?;
                vec![("image", decoder.forward(b, &quantized)?), ("quantized", quantized)]
            }
            Self::Decoder { decoder, quantize: false } => vec![("image", decoder.forward(b, get("latent")?)?)],
        };
        Ok(outputs.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }

    /// What is left to do on the CPU: the indices of codes, the clamped log variance.
    fn finish(&self, mut outputs: TensorMap) -> Result<TensorMap> {
        if let (Self::Decoder { decoder, .. }, Some(quantized)) = (self, outputs.remove("quantized"))
            && let Some(codebook) = decoder.codebook()
        {
            let indices = nearest_codes(&quantized, codebook)?.to_dtype(DType::I64)?;
            outputs.insert("indices".to_string(), indices);
        }
        if let Some(log_variance) = outputs.get_mut("logvar") {
            *log_variance = log_variance.clamp(LOG_VARIANCE_RANGE.0, LOG_VARIANCE_RANGE.1)?;
        }
        if let Some(mean) = outputs.get("mean").cloned() {
            outputs.insert("latent".to_string(), mean);
        }
        Ok(outputs)
    }
}

/// The steps `t` of a batch.
fn steps(t: &Tensor) -> Result<Vec<u32>> {
    let steps = t.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    steps.into_iter().map(|t| u32::try_from(t).with_context(|| format!("t = {t} is no step"))).collect()
}

fn on_gpu(network: &Network, inputs: &TensorMap) -> Result<TensorMap> {
    let mut recorder = Recorder::new();
    let nodes = inputs.iter().map(|(name, tensor)| (name.clone(), recorder.input(name, tensor.dims()))).collect();
    let outputs = network.forward(&mut recorder, &nodes)?;
    for (name, node) in &outputs {
        recorder.output(name, *node);
    }
    let values = |tensor: &Tensor| -> Result<Vec<f32>> { Ok(tensor.flatten_all()?.to_vec1()?) };
    let inputs =
        inputs.iter().map(|(name, tensor)| Ok((name.as_str(), values(tensor)?))).collect::<Result<Vec<_>>>()?;
    pollster::block_on(async {
        let gpu = Gpu::new().await?;
        let executor = Executor::new(&gpu, &recorder.finish()).await?;
        executor.run(inputs.iter().map(|(name, values)| (*name, values.as_slice())))?;
        let mut read = TensorMap::new();
        for name in outputs.keys() {
            let values = executor.read(name).await?;
            read.insert(name.clone(), Tensor::from_vec(values, executor.shape(name)?, &Device::Cpu)?);
        }
        Ok(read)
    })
}
