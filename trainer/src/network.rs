//! Running the networks of a model file on given tensors, with any backend.

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use lddgan::backend::{CandleBackend, nearest_codes};
use lddgan::diffusion::Schedule;
use lddgan::networks::{Decoder, Dimension, Encoder, Input, LOG_VARIANCE_RANGE};
use lddgan::parameters::TensorMap;
use lddgan::{Compiler, Executor, FileConfig, Graph, ModelFile, Network, NetworkName, Recorder};

use crate::autoencoder::reconstruct;
use crate::backend::{BackendName, device, webgpu_compiler};

/// Runs a network of a file named `name` on the tensors that it takes; others are ignored. Without `quantize`, a decoder
/// takes latents as they are.
pub fn run(
    file: &ModelFile,
    name: &str,
    network: NetworkName,
    inputs: &TensorMap,
    backend: BackendName,
    quantize: bool,
) -> Result<TensorMap> {
    let device = device(backend)?;
    let network = match file.network(network, name, &device)? {
        Network::Decoder { decoder, .. } => Network::Decoder { decoder, quantize },
        network => network,
    };
    let to_device = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(&device)?));
    let inputs = checked_inputs(&network, &file.config, inputs)?;
    let inputs = inputs.into_iter().map(to_device).collect::<Result<TensorMap>>()?;
    let record = |shapes: &Shapes| network.record(shapes);
    let outputs = match Place::new(backend)? {
        Place::Candle => network.forward(&mut CandleBackend, &inputs)?,
        Place::Cpu(mut compiled) => pollster::block_on(compiled.run(&inputs, record))?,
        Place::Wgpu(mut compiled) => pollster::block_on(compiled.run(&inputs, record))?,
    };
    let to_cpu = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(&Device::Cpu)?));
    finish(&network, outputs)?.into_iter().map(to_cpu).collect()
}

/// What the network takes: the inputs of its names as f32, and what follows from the steps. An error unless each has the
/// dimensions that it needs and all have one batch size.
fn checked_inputs(network: &Network, config: &FileConfig, given: &TensorMap) -> Result<TensorMap> {
    let get = |name: &str| given.get(name).with_context(|| format!("the input `{name}` is missing"));
    let expected = network.name().inputs(config)?;
    let mut inputs = TensorMap::new();
    for (name, input) in &expected {
        if let Input::Tensor(dimensions) = input {
            inputs.insert(name.to_string(), checked_input(name, dimensions, get(name)?)?);
        }
    }
    let batches: Vec<(&String, usize)> = inputs.iter().map(|(name, tensor)| (name, tensor.dims()[0])).collect();
    if let Some([(first, n), (other, m)]) = batches.array_windows().find(|[(_, n), (_, m)]| n != m) {
        bail!("the inputs differ in their batch: `{first}` has {n}, `{other}` has {m}");
    }
    let batch = batches.first().map_or(0, |&(_, batch)| batch);
    for (name, input) in &expected {
        if *input == Input::Steps {
            inputs.extend(step_inputs(network, config, &steps(get(name)?)?, batch)?);
        }
    }
    Ok(inputs)
}

fn checked_input(name: &str, dimensions: &[Dimension], tensor: &Tensor) -> Result<Tensor> {
    let fits = tensor.rank() == dimensions.len() + 1
        && tensor.dims()[0] > 0
        && tensor.dims()[1..].iter().zip(dimensions).all(|(&size, dimension)| dimension.admits(size));
    let needed: Vec<String> = dimensions.iter().map(ToString::to_string).collect();
    ensure!(fits, "the input `{name}` is {:?}, needs (batch, {})", tensor.dims(), needed.join(", "));
    Ok(tensor.to_dtype(DType::F32)?)
}

/// What follows from the steps `t` of a batch.
fn step_inputs(network: &Network, config: &FileConfig, t: &[u32], batch: usize) -> Result<TensorMap> {
    ensure!(t.len() == batch, "the input `t` has {} steps for a batch of {batch}", t.len());
    // A network alone says nothing about its steps; without a Gaussian, nothing depends on more than their numbers.
    let schedule = Schedule::new(&config.diffusion.clone().unwrap_or_default())?;
    let known = config.diffusion.is_some() || network.name().has_gaussian(config);
    let count = if known { schedule.steps() } else { MAX_STEPS };
    let last = t.iter().max().copied().unwrap_or(0) as usize;
    ensure!(last < count, "the input `t` has the step {last}; steps go from 0 to {}", count - 1);
    Ok(network.step_inputs(&schedule, t, &Device::Cpu)?)
}

/// What is left to do on the CPU: the indices of codes, the clamped log variance.
fn finish(network: &Network, mut outputs: TensorMap) -> Result<TensorMap> {
    if let (Network::Decoder { decoder, .. }, Some(quantized)) = (network, outputs.remove("quantized"))
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

/// Denoising steps that a diffusion can have at most, see [`lddgan::DiffusionConfig::validate`].
const MAX_STEPS: usize = 1000;

/// The steps `t` of a batch.
fn steps(t: &Tensor) -> Result<Vec<u32>> {
    let steps = t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let step = |t: f64| {
        let whole = t.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&t);
        whole.then_some(t as u32).with_context(|| format!("the input `t` has {t}; a step is a whole number, 0 or more"))
    };
    steps.into_iter().map(step).collect()
}

/// What computes networks. What is compiled is kept for inputs of the same shapes.
enum Place {
    Candle,
    Cpu(Box<Compiled<lddgan_cpu::Compiler>>),
    Wgpu(Box<Compiled<lddgan_webgpu::Compiler>>),
}

impl Place {
    fn new(backend: BackendName) -> Result<Self> {
        Ok(match backend {
            BackendName::Candle | BackendName::Cuda => Self::Candle,
            BackendName::Cpu => Self::Cpu(Box::new(Compiled { compiler: Default::default(), last: None })),
            BackendName::Wgpu => Self::Wgpu(Box::new(Compiled { compiler: webgpu_compiler()?, last: None })),
        })
    }
}

struct Compiled<C: Compiler> {
    compiler: C,
    /// The shapes of the last inputs, the names of the outputs, and what was compiled for them.
    last: Option<(Shapes, Vec<String>, C::Executor)>,
}

/// Names and shapes of inputs.
type Shapes = Vec<(String, Vec<usize>)>;

impl<C> Compiled<C>
where
    C: Compiler<Error: std::error::Error + Send + Sync + 'static>,
{
    /// The outputs of what is recorded for inputs of these shapes, which is the same at every call.
    async fn run(
        &mut self,
        inputs: &TensorMap,
        record: impl FnOnce(&Shapes) -> lddgan::Result<Graph>,
    ) -> Result<TensorMap> {
        let shapes = inputs.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
        let last = match self.last.take().filter(|(known, ..)| *known == shapes) {
            Some(last) => last,
            None => {
                let graph = record(&shapes)?;
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
    autoencoder: (Encoder, Decoder),
    device: Device,
    place: Place,
}

impl Reconstruction {
    /// That of a file named `name`.
    pub fn new(file: &ModelFile, name: &str, backend: BackendName) -> Result<Self> {
        let device = device(backend)?;
        Ok(Self { autoencoder: file.autoencoder(name, &device)?, device, place: Place::new(backend)? })
    }

    /// What comes of images (N, C, H, W).
    pub fn of(&mut self, images: &Tensor) -> Result<Tensor> {
        let (encoder, decoder) = &self.autoencoder;
        let record = |shapes: &Shapes| {
            let mut recorder = Recorder::new();
            let images = recorder.input(&shapes[0].0, &shapes[0].1);
            let restored = reconstruct(&mut recorder, encoder, decoder, &images)?;
            recorder.output("restored", restored);
            Ok(recorder.finish())
        };
        let inputs = || TensorMap::from([("images".to_string(), images.clone())]);
        let restored = match &mut self.place {
            Place::Candle => {
                let images = images.to_device(&self.device)?;
                return Ok(reconstruct(&mut CandleBackend, encoder, decoder, &images)?.to_device(&Device::Cpu)?);
            }
            Place::Cpu(compiled) => pollster::block_on(compiled.run(&inputs(), record))?,
            Place::Wgpu(compiled) => pollster::block_on(compiled.run(&inputs(), record))?,
        };
        restored.into_values().next().context("the autoencoder made no image")
    }
}

fn named_values(tensors: &TensorMap) -> Result<Vec<(String, Vec<f32>)>> {
    tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.flatten_all()?.to_vec1()?))).collect()
}
