//! Running one network of a model file on given tensors, with any backend.

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use lddgan::backend::{CandleBackend, nearest_codes};
use lddgan::diffusion::Schedule;
use lddgan::networks::{Dimension, Input, LOG_VARIANCE_RANGE};
use lddgan::parameters::TensorMap;
use lddgan::{FileConfig, Graph, ModelFile, Network, NetworkName};
use lddgan_webgpu::{Executor, Gpu};

use crate::backend::{BackendName, device};

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
    let outputs = match backend {
        BackendName::Candle | BackendName::Cuda => network.forward(&mut CandleBackend, &inputs)?,
        BackendName::Cpu => on_cpu(&network, &inputs)?,
        BackendName::Wgpu => on_gpu(&network, &inputs)?,
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
    ensure!(last < count, "the input `t` has a step {last}: they go from 0 to {}", count - 1);
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
        whole
            .then_some(t as u32)
            .with_context(|| format!("the input `t` has {t}, which is no step: a whole number from 0 on"))
    };
    steps.into_iter().map(step).collect()
}

fn on_cpu(network: &Network, inputs: &TensorMap) -> Result<TensorMap> {
    let graph = record(network, inputs)?;
    let inputs = named_values(inputs)?;
    let mut executor = lddgan_cpu::Executor::new(&graph)?;
    executor.run(inputs.iter().map(|(name, values)| (name.as_str(), values.as_slice())))?;
    let read = |(name, _): &(String, _)| {
        Ok((name.clone(), Tensor::from_vec(executor.read(name)?, executor.shape(name)?, &Device::Cpu)?))
    };
    graph.outputs.iter().map(read).collect()
}

fn on_gpu(network: &Network, inputs: &TensorMap) -> Result<TensorMap> {
    let graph = record(network, inputs)?;
    let inputs = named_values(inputs)?;
    pollster::block_on(async {
        let gpu = Gpu::new().await?;
        let executor = Executor::new(&gpu, &graph).await?;
        executor.run(inputs.iter().map(|(name, values)| (name.as_str(), values.as_slice())))?;
        let mut read = TensorMap::new();
        for (name, _) in &graph.outputs {
            let values = executor.read(name).await?;
            read.insert(name.clone(), Tensor::from_vec(values, executor.shape(name)?, &Device::Cpu)?);
        }
        Ok(read)
    })
}

/// The network on inputs of these names and shapes.
fn record(network: &Network, inputs: &TensorMap) -> Result<Graph> {
    let shapes: Vec<_> = inputs.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
    Ok(network.record(&shapes)?)
}

fn named_values(tensors: &TensorMap) -> Result<Vec<(String, Vec<f32>)>> {
    tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.flatten_all()?.to_vec1()?))).collect()
}
