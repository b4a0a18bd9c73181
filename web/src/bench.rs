//! What a page that measures this crate calls (`cargo xtask bench web`): networks and whole sampling, from values in the
//! CPU's memory to values in the CPU's memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use candle_core::{Device, Tensor};
use lddgan::networks::Input;
use lddgan::noise::Stream;
use lddgan::parameters::TensorMap;
use lddgan::{FileConfig, Graph, Model, ModelFile, Network, NetworkName, Sampler};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use lddgan_webgpu::{Compiler, Executor, Gpu};

type Result<T> = std::result::Result<T, JsError>;

/// A model and a device.
#[wasm_bindgen]
pub struct Bench {
    config: FileConfig,
    networks: BTreeMap<NetworkName, Network>,
    model: Model,
    gpu: Gpu,
    sampler: Sampler<Compiler>,
    /// By name of the network and batch.
    executors: BTreeMap<(String, usize), Executor>,
    /// Those of the CPU.
    on_cpu: BTreeMap<(String, usize), lddgan_cpu::Executor>,
}

#[wasm_bindgen]
impl Bench {
    /// Reads a model file and opens the device.
    pub async fn load(bytes: &[u8]) -> Result<Bench> {
        let file = ModelFile::from_bytes(bytes, "model")?;
        let model = file.model("model", &Device::Cpu)?;
        let mut networks = BTreeMap::new();
        for name in [NetworkName::Generator, NetworkName::Decoder] {
            networks.insert(name, file.network(name, "model", &Device::Cpu)?);
        }
        let gpu = Gpu::new().await?;
        let sampler = Sampler::new(Compiler::new(gpu.clone()), usize::MAX);
        Ok(Self {
            config: file.config,
            networks,
            model,
            gpu,
            sampler,
            executors: BTreeMap::new(),
            on_cpu: BTreeMap::new(),
        })
    }

    /// The adapter's name, marked if it computes on the CPU.
    pub fn adapter(&self) -> String {
        let software = if self.gpu.is_software() { " (a software adapter)" } else { "" };
        format!("{}{software}", self.gpu.name())
    }

    /// The names of a network's inputs; the step `t` that a generator also takes is [`Self::step`].
    pub fn inputs(&self, network: &str) -> Result<Vec<String>> {
        let inputs = network.parse::<NetworkName>()?.inputs(&self.config)?;
        let tensors = inputs.into_iter().filter(|(_, input)| matches!(input, Input::Tensor(_)));
        Ok(tensors.map(|(name, _)| name.to_string()).collect())
    }

    /// The shape of an input.
    pub fn shape(&self, network: &str, input: &str, batch: usize) -> Result<Vec<usize>> {
        Ok(self.tensor(network, input, batch)?.dims().to_vec())
    }

    /// The values of an input.
    pub fn values(&self, network: &str, input: &str, batch: usize) -> Result<Vec<f32>> {
        Ok(self.tensor(network, input, batch)?.flatten_all()?.to_vec1()?)
    }

    /// The step that the generator computes.
    pub fn step(&self) -> u32 {
        self.model.schedule.steps() as u32 - 1
    }

    /// Compiles a network for WebGPU: pipelines, weights and buffers.
    pub async fn compile(&mut self, network: &str, batch: usize) -> Result<()> {
        let executor = Executor::new(&self.gpu, &self.record(network, batch)?).await?;
        self.executors.insert((network.to_string(), batch), executor);
        Ok(())
    }

    /// Runs a compiled network with WebGPU and reads its result.
    pub async fn webgpu(&mut self, network: &str, batch: usize) -> Result<Vec<f32>> {
        let (inputs, output) = (self.values_of(network, batch)?, output(self.network(network)?));
        run(self.executors.get_mut(&(network.to_string(), batch)), &inputs, output).await
    }

    /// Compiles a network for the CPU.
    pub fn compile_for_cpu(&mut self, network: &str, batch: usize) -> Result<()> {
        let executor = lddgan_cpu::Executor::new(&self.record(network, batch)?)?;
        self.on_cpu.insert((network.to_string(), batch), executor);
        Ok(())
    }

    /// Runs a compiled network on the CPU.
    pub async fn cpu(&mut self, network: &str, batch: usize) -> Result<Vec<f32>> {
        let (inputs, output) = (self.values_of(network, batch)?, output(self.network(network)?));
        run(self.on_cpu.get_mut(&(network.to_string(), batch)), &inputs, output).await
    }

    /// Compiles what [`Self::sample`] needs.
    pub async fn prepare(&mut self, batch: usize) -> Result<()> {
        self.sampler.prepare(&self.model, batch).await?;
        Ok(())
    }

    /// Makes faces with WebGPU, all steps and the decoder.
    pub async fn sample(&mut self, batch: usize) -> Result<Vec<f32>> {
        let seeds: Vec<u64> = (0..batch as u64).collect();
        Ok(self.sampler.images(&self.model, &seeds).await?.flatten_all()?.to_vec1()?)
    }
}

/// Runs a network, if it was compiled, and reads its output.
async fn run<E>(executor: Option<&mut E>, inputs: &[(String, Vec<f32>)], output: &str) -> Result<Vec<f32>>
where
    E: lddgan::Executor<Error: std::error::Error>,
{
    let executor = executor.ok_or_else(|| JsError::new("the network was not compiled"))?;
    executor.run(inputs.iter().map(|(name, values)| (name.as_str(), values.as_slice())))?;
    Ok(executor.read(output).await?)
}

/// The result that is compared.
fn output(network: &Network) -> &'static str {
    match network {
        Network::Generator(_) => "x0",
        _ => "image",
    }
}

impl Bench {
    fn network(&self, name: &str) -> Result<&Network> {
        let network = self.networks.get(&name.parse::<NetworkName>()?);
        network.ok_or_else(|| JsError::new("generator and decoder are timed"))
    }

    fn record(&self, network: &str, batch: usize) -> Result<Graph> {
        let network = self.network(network)?;
        Ok(network.record(&network.shapes(&self.config, batch)?)?)
    }

    /// All that a network takes.
    fn tensors(&self, network: &str, batch: usize) -> Result<TensorMap> {
        let network = self.network(network)?;
        let mut tensors = network.step_inputs(&self.model.schedule, &vec![self.step(); batch], &Device::Cpu)?;
        for (name, shape) in network.shapes(&self.config, batch)? {
            if let Entry::Vacant(entry) = tensors.entry(name) {
                let values = Stream::new(0, 0, entry.key()).normals(shape.iter().product());
                entry.insert(Tensor::from_vec(values, shape, &Device::Cpu)?);
            }
        }
        Ok(tensors)
    }

    fn values_of(&self, network: &str, batch: usize) -> Result<Vec<(String, Vec<f32>)>> {
        let tensors = self.tensors(network, batch)?.into_iter();
        tensors.map(|(name, tensor)| Ok((name, tensor.flatten_all()?.to_vec1()?))).collect()
    }

    fn tensor(&self, network: &str, input: &str, batch: usize) -> Result<Tensor> {
        let tensor = self.tensors(network, batch)?.remove(input);
        tensor.ok_or_else(|| JsError::new("the network has no such input"))
    }
}
