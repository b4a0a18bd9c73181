//! What a page that measures this crate calls (`cargo xtask bench web`): networks and whole sampling, from values in the
//! CPU's memory to values in the CPU's memory.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use lddgan::backend::{Backend, CandleBackend};
use lddgan::graph::Recorder;
use lddgan::noise::Stream;
use lddgan::sampler::constants;
use lddgan::{Graph, Model, ModelFile};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use lddgan_webgpu::{Compiler, Executor, Gpu, GpuSampler};

type Result<T> = std::result::Result<T, JsError>;

/// A model and a device.
#[wasm_bindgen]
pub struct Bench {
    model: Model,
    gpu: Gpu,
    sampler: GpuSampler,
    /// By name of the network and batch.
    executors: BTreeMap<(String, usize), Executor>,
}

#[wasm_bindgen]
impl Bench {
    /// Reads a model file and opens the device.
    pub async fn load(bytes: &[u8]) -> Result<Bench> {
        let file = ModelFile::from_bytes(bytes, "model")?;
        let model = file.model("model", &Device::Cpu)?;
        let gpu = Gpu::new().await?;
        let sampler = GpuSampler::new(Compiler::new(gpu.clone()), usize::MAX);
        Ok(Self { model, sampler, gpu, executors: BTreeMap::new() })
    }

    /// The adapter's name, marked if it computes on the CPU.
    pub fn adapter(&self) -> String {
        let software = if self.gpu.is_software() { " (a software adapter)" } else { "" };
        format!("{}{software}", self.gpu.name())
    }

    /// The names of a network's inputs; the step `t` that a generator also takes is [`Self::step`].
    pub fn inputs(&self, network: &str) -> Vec<String> {
        self.shapes(network, 1).into_iter().map(|(name, _)| name.to_string()).collect()
    }

    /// The shape of an input.
    pub fn shape(&self, network: &str, input: &str, batch: usize) -> Vec<usize> {
        let shape = self.shapes(network, batch).into_iter().find(|(name, _)| *name == input);
        shape.map_or_else(Vec::new, |(_, shape)| shape)
    }

    /// The values of an input of this shape.
    pub fn values(&self, input: &str, shape: &[usize]) -> Vec<f32> {
        Stream::new(0, 0, input).normals(shape.iter().product())
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
    pub async fn webgpu(&self, network: &str, batch: usize) -> Result<Vec<f32>> {
        let executor = self.executors.get(&(network.to_string(), batch));
        let executor = executor.ok_or_else(|| JsError::new("the network was not compiled"))?;
        let shapes = self.shapes(network, batch).into_iter();
        let inputs: Vec<_> = shapes.map(|(name, shape)| (name, self.values(name, &shape))).collect();
        executor.run(inputs.iter().map(|(name, values)| (*name, values.as_slice())))?;
        Ok(executor.read(OUTPUT).await?)
    }

    /// Runs a network with Candle.
    pub fn candle(&self, network: &str, batch: usize) -> Result<Vec<f32>> {
        let input = |(name, shape): (&'static str, Vec<usize>)| {
            Tensor::from_vec(self.values(name, &shape), shape, &Device::Cpu)
        };
        let inputs = self.shapes(network, batch).into_iter().map(input).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(self.forward(&mut CandleBackend, batch, &inputs)?.flatten_all()?.to_vec1()?)
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

/// The name of the recorded result.
const OUTPUT: &str = "y";

impl Bench {
    /// The inputs of a network in the order in which [`Self::forward`] takes them.
    fn shapes(&self, network: &str, batch: usize) -> Vec<(&'static str, Vec<usize>)> {
        let config = &self.model.config.generator;
        let latent = vec![batch, config.latent_channels, config.latent_size, config.latent_size];
        match network {
            "generator" => vec![("x", latent), ("z", vec![batch, config.z_dim])],
            _ => vec![("latent", latent)],
        }
    }

    /// The generator if there are two inputs, else the decoder.
    fn forward<B: Backend>(&self, b: &mut B, batch: usize, inputs: &[B::Value]) -> lddgan::Result<B::Value> {
        let Model { generator, decoder, schedule, .. } = &self.model;
        match inputs {
            [x, z] => {
                let step = generator.step_inputs(schedule, &vec![self.step(); batch], &Device::Cpu)?;
                let step = constants(b, &step)?;
                generator.forward(b, x, &step, z)
            }
            inputs => {
                let quantized = decoder.quantize(b, &inputs[0])?;
                decoder.forward(b, &quantized)
            }
        }
    }

    fn record(&self, network: &str, batch: usize) -> lddgan::Result<Graph> {
        let mut recorder = Recorder::new();
        let shapes = self.shapes(network, batch).into_iter();
        let inputs: Vec<_> = shapes.map(|(name, shape)| recorder.input(name, &shape)).collect();
        let y = self.forward(&mut recorder, batch, &inputs)?;
        recorder.output(OUTPUT, y);
        Ok(recorder.finish())
    }
}
