//! Makes a face with Candle and with WebGPU, and compares: `cargo run --release --example compare MODEL.safetensors SEED`

use std::error::Error;

use candle_core::Device;
use lddgan::Executor as _;
use lddgan::ModelFile;
use lddgan::compare::Difference;
use lddgan::model::NamedNoise;
use lddgan_webgpu::{Executor, Gpu};
use pollster::block_on;

fn main() -> Result<(), Box<dyn Error>> {
    let [path, seed] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("needs a model file and a seed".into());
    };
    let model = ModelFile::from_bytes(&std::fs::read(path)?, path)?.model(path, &Device::Cpu)?;
    let seeds = [seed.parse::<u64>()?];
    let expected = model.sample_seeds(&seeds, &Device::Cpu)?.image.flatten_all()?.to_vec1::<f32>()?;

    let gpu = block_on(Gpu::new())?;
    let mut executor = block_on(Executor::new(&gpu, &model.record(1)?))?;
    let noise = model.draw(&seeds);
    executor.run(noise.iter().map(NamedNoise::as_input))?;
    let found = block_on(executor.read("image"))?;

    let difference = Difference::between(&found, &expected)?;
    println!("{}: largest difference {:.1e}, of numbers from -1 to 1", gpu.name(), difference.max);
    Ok(())
}
