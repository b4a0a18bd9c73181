//! Prints how long a face takes on this machine's WebGPU adapter and under Candle, for a model of 64x64 images with random
//! weights: `cargo run --release -p lddgan-tests --example seconds_per_face`.

use std::time::Instant;

use candle_core::Device;
use lddgan_tests::{faces_config, random_model_file};
use lddgan_web::{Executor, Gpu};
use pollster::block_on;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = block_on(Gpu::new())?;
    let software = if gpu.is_software() { ", a software adapter" } else { "" };
    println!("WebGPU on {}{software}", gpu.name());
    let model = random_model_file(&faces_config(), 1)?.model("random", &Device::Cpu)?;
    for batch in [1, 4, 16] {
        let seeds: Vec<u64> = (0..batch).collect();
        let start = Instant::now();
        let executor = block_on(Executor::new(&gpu, &model.record(seeds.len())?))?;
        let compiled = start.elapsed();
        let mut fastest = f64::INFINITY;
        for _ in 0..3 {
            let start = Instant::now();
            let noise = model.draw(&seeds);
            executor.run(noise.iter().map(|noise| (noise.name.as_str(), noise.values.as_slice())))?;
            block_on(executor.read("image"))?;
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        println!(
            "batch {batch}: {:.4} s per face; compiled in {compiled:.2?}, {} dispatches, weights {:.1} MB, values {:.1} MB",
            fastest / seeds.len() as f64,
            executor.dispatches(),
            executor.weight_bytes() as f64 / 1e6,
            executor.activation_bytes() as f64 / 1e6,
        );
        let start = Instant::now();
        model.sample_seeds(&seeds, &Device::Cpu)?;
        println!("batch {batch}: {:.4} s per face under Candle", start.elapsed().as_secs_f64() / seeds.len() as f64);
    }
    Ok(())
}
