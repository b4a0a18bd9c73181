//! Running the networks of a model file on given tensors, with any backend.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use lddgan::backend::{CandleBackend, nearest_codes};
use lddgan::diffusion::Schedule;
use lddgan::networks::{Decoder, Discriminator, Encoder, Generator, LOG_VARIANCE_RANGE};
use lddgan::parameters::TensorMap;
use lddgan::{Backend, Compiler, Executor, Graph, ModelFile, Recorder};

use crate::autoencoder::reconstruct;
use crate::backend::{BackendName, device, webgpu_compiler};

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

/// A network with its weights.
enum Network {
    Generator(Box<Generator>),
    Encoder(Encoder),
    Decoder { decoder: Decoder, quantize: bool },
    Discriminator(Box<Discriminator>),
    Autoencoder { encoder: Encoder, decoder: Decoder },
}

/// What one dimension of an input must be; the first is the batch.
#[derive(Clone, Copy)]
enum Dimension {
    Exactly(usize),
    MultipleOf(usize),
}

impl std::fmt::Display for Dimension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(size) => write!(f, "{size}"),
            Self::MultipleOf(1) => write!(f, "any"),
            Self::MultipleOf(size) => write!(f, "multiple of {size}"),
        }
    }
}

impl Dimension {
    fn admits(self, size: usize) -> bool {
        match self {
            Self::Exactly(expected) => size == expected,
            Self::MultipleOf(factor) => size > 0 && size.is_multiple_of(factor),
        }
    }
}

/// The image inputs of a network of `file`, and the dimensions of each after the batch.
fn expected_inputs(file: &ModelFile, network: NetworkName) -> Vec<(&'static str, Vec<Dimension>)> {
    use Dimension::{Exactly, MultipleOf};
    let image = |channels: usize, factor: usize| vec![Exactly(channels), MultipleOf(factor), MultipleOf(factor)];
    let (generator, discriminator) = (&file.config.generator, &file.config.discriminator);
    let inputs = match network {
        NetworkName::Generator => generator.as_ref().map(|config| {
            vec![("x", image(config.latent_channels, config.size_factor())), ("z", vec![Exactly(config.z_dim)])]
        }),
        NetworkName::Discriminator => discriminator.as_ref().map(|config| {
            let image = image(config.latent_channels, 1);
            vec![("x_t", image.clone()), ("x_tp1", image)]
        }),
        NetworkName::Encoder => {
            file.config.autoencoder.as_ref().map(|config| vec![("x", image(config.image_channels, config.factor()))])
        }
        NetworkName::Decoder => {
            file.config.autoencoder.as_ref().map(|config| vec![("latent", image(config.latent_channels, 1))])
        }
    };
    inputs.unwrap_or_default()
}

/// The inputs of these names as f32, if each has the dimensions that it needs and all have one batch size.
fn checked_inputs(expected: &[(&str, Vec<Dimension>)], given: &TensorMap) -> Result<TensorMap> {
    let mut inputs = TensorMap::new();
    for (name, dimensions) in expected {
        let tensor = given.get(*name).with_context(|| format!("the input `{name}` is missing"))?;
        let fits = tensor.rank() == dimensions.len() + 1
            && tensor.dims()[0] > 0
            && tensor.dims()[1..].iter().zip(dimensions).all(|(&size, dimension)| dimension.admits(size));
        let needed: Vec<String> = dimensions.iter().map(ToString::to_string).collect();
        ensure!(fits, "the input `{name}` is {:?}, needs (batch, {})", tensor.dims(), needed.join(", "));
        inputs.insert(name.to_string(), tensor.to_dtype(DType::F32)?);
    }
    let batches: Vec<(&String, usize)> = inputs.iter().map(|(name, tensor)| (name, tensor.dims()[0])).collect();
    if let Some([(first, n), (other, m)]) = batches.array_windows().find(|[(_, n), (_, m)]| n != m) {
        bail!("the inputs differ in their batch: `{first}` has {n}, `{other}` has {m}");
    }
    Ok(inputs)
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
    let device = device(backend)?;
    let expected = expected_inputs(file, network);
    let network = match network {
        NetworkName::Generator => Network::Generator(Box::new(file.generator(name, &device)?)),
        NetworkName::Encoder => Network::Encoder(file.encoder(name, &device)?),
        NetworkName::Decoder => Network::Decoder { decoder: file.decoder(name, &device)?, quantize },
        NetworkName::Discriminator => Network::Discriminator(Box::new(file.discriminator(name, &device)?)),
    };
    let mut checked = checked_inputs(&expected, inputs)?;
    let batch = checked.values().next().map_or(0, |tensor| tensor.dims()[0]);
    checked.extend(network.step_inputs(file, inputs, batch)?);
    let to_device = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(&device)?));
    let inputs = checked.into_iter().map(to_device).collect::<Result<TensorMap>>()?;
    let outputs = Place::new(backend)?.forward(&network, &inputs)?;
    let to_cpu = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(&Device::Cpu)?));
    network.finish(outputs)?.into_iter().map(to_cpu).collect()
}

impl Network {
    /// What follows from the input `t`, for the networks that take it.
    fn step_inputs(&self, file: &ModelFile, given: &TensorMap, batch: usize) -> Result<TensorMap> {
        if !matches!(self, Self::Generator(_) | Self::Discriminator(_)) {
            return Ok(TensorMap::new());
        }
        let t = steps(given.get("t").context("the input `t` is missing")?)?;
        ensure!(t.len() == batch, "the input `t` has {} steps for a batch of {batch}", t.len());
        // A network alone says nothing about its steps; without a Gaussian, nothing depends on more than their numbers.
        let schedule = Schedule::new(&file.config.diffusion.clone().unwrap_or_default())?;
        let known = file.config.diffusion.is_some() || self.has_gaussian(file);
        let count = if known { schedule.steps() } else { MAX_STEPS };
        let last = t.iter().max().copied().unwrap_or(0) as usize;
        ensure!(last < count, "the input `t` has a step {last}: they go from 0 to {}", count - 1);
        Ok(match self {
            Self::Generator(generator) => generator.step_inputs(&schedule, &t, &Device::Cpu)?,
            Self::Discriminator(discriminator) => discriminator.step_inputs(&schedule, &t, &Device::Cpu)?,
            Self::Encoder(_) | Self::Decoder { .. } | Self::Autoencoder { .. } => TensorMap::new(),
        })
    }

    fn has_gaussian(&self, file: &ModelFile) -> bool {
        match self {
            Self::Generator(_) => file.config.generator.as_ref().is_some_and(|config| config.gaussian_modes > 0),
            Self::Discriminator(_) => {
                file.config.discriminator.as_ref().is_some_and(|config| config.gaussian_modes > 0)
            }
            Self::Encoder(_) | Self::Decoder { .. } | Self::Autoencoder { .. } => false,
        }
    }

    fn forward<B: Backend>(
        &self,
        b: &mut B,
        inputs: &BTreeMap<String, B::Value>,
    ) -> Result<BTreeMap<String, B::Value>> {
        let get = |name: &str| inputs.get(name).with_context(|| format!("the input `{name}` is missing"));
        let outputs = match self {
            Self::Generator(generator) => {
                vec![("x0", generator.forward(b, get("x")?, inputs, get("z")?)?)]
            }
            Self::Discriminator(discriminator) => {
                vec![("logits", discriminator.forward(b, get("x_t")?, inputs, get("x_tp1")?)?)]
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
            Self::Autoencoder { encoder, decoder } => {
                vec![("image", reconstruct(b, encoder, decoder, get("x")?)?)]
            }
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

/// Denoising steps that a diffusion can have at most, see [`lddgan::DiffusionConfig::validate`].
const MAX_STEPS: usize = 1000;

/// The steps `t` of a batch.
fn steps(t: &Tensor) -> Result<Vec<u32>> {
    let steps = t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let step = |t: f64| {
        let whole = t.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&t);
        whole
            .then_some(t as u32)
            .with_context(|| format!("the input `t` has {t}, which is no step: a whole number from 0 on"))
    };
    steps.into_iter().map(step).collect()
}

/// What computes networks. What is compiled is kept for inputs of the same shapes.
enum Place {
    Candle,
    Cpu(Compiled<lddgan_cpu::Compiler>),
    Wgpu(Box<Compiled<lddgan_webgpu::Compiler>>),
}

impl Place {
    fn new(backend: BackendName) -> Result<Self> {
        Ok(match backend {
            BackendName::Candle | BackendName::Cuda => Self::Candle,
            BackendName::Cpu => Self::Cpu(Compiled { compiler: Default::default(), last: None }),
            BackendName::Wgpu => Self::Wgpu(Box::new(Compiled { compiler: webgpu_compiler()?, last: None })),
        })
    }

    /// The outputs of a network, the same one at every call.
    fn forward(&mut self, network: &Network, inputs: &TensorMap) -> Result<TensorMap> {
        match self {
            Self::Candle => network.forward(&mut CandleBackend, inputs),
            Self::Cpu(compiled) => pollster::block_on(compiled.forward(network, inputs)),
            Self::Wgpu(compiled) => pollster::block_on(compiled.forward(network, inputs)),
        }
    }
}

struct Compiled<C: Compiler> {
    compiler: C,
    /// The shapes of the last inputs, the names of the outputs, and what was compiled for them.
    last: Option<(Vec<Vec<usize>>, Vec<String>, C::Executor)>,
}

impl<C> Compiled<C>
where
    C: Compiler<Error: std::error::Error + Send + Sync + 'static>,
{
    async fn forward(&mut self, network: &Network, inputs: &TensorMap) -> Result<TensorMap> {
        let shapes: Vec<Vec<usize>> = inputs.values().map(|tensor| tensor.dims().to_vec()).collect();
        let last = match self.last.take().filter(|(known, ..)| *known == shapes) {
            Some(last) => last,
            None => {
                let graph = record(network, inputs)?;
                let names = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
                (shapes, names, self.compiler.compile(&graph).await?)
            }
        };
        let (_, names, executor) = self.last.insert(last);
        let inputs = named_values(inputs)?;
        executor.run(inputs.iter().map(|(name, values)| (name.as_str(), values.as_slice())))?;
        let mut outputs = TensorMap::new();
        for name in names {
            let values = executor.read(name).await?;
            outputs.insert(name.clone(), Tensor::from_vec(values, executor.shape(name)?, &Device::Cpu)?);
        }
        Ok(outputs)
    }
}

/// An autoencoder that reconstructs images.
pub struct Reconstruction {
    network: Network,
    device: Device,
    place: Place,
}

impl Reconstruction {
    /// That of a file named `name`.
    pub fn new(file: &ModelFile, name: &str, backend: BackendName) -> Result<Self> {
        let device = device(backend)?;
        let (encoder, decoder) = file.autoencoder(name, &device)?;
        Ok(Self { network: Network::Autoencoder { encoder, decoder }, device, place: Place::new(backend)? })
    }

    /// What comes of images (N, C, H, W).
    pub fn of(&mut self, images: &Tensor) -> Result<Tensor> {
        let inputs = TensorMap::from([("x".to_string(), images.to_device(&self.device)?)]);
        let image = self.place.forward(&self.network, &inputs)?.remove("image");
        Ok(image.context("the autoencoder made no image")?.to_device(&Device::Cpu)?)
    }
}

/// The network on inputs of these names and shapes.
fn record(network: &Network, inputs: &TensorMap) -> Result<Graph> {
    let mut recorder = Recorder::new();
    let nodes = inputs.iter().map(|(name, tensor)| (name.clone(), recorder.input(name, tensor.dims()))).collect();
    for (name, node) in &network.forward(&mut recorder, &nodes)? {
        recorder.output(name, *node);
    }
    Ok(recorder.finish())
}

fn named_values(tensors: &TensorMap) -> Result<Vec<(String, Vec<f32>)>> {
    tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.flatten_all()?.to_vec1()?))).collect()
}
