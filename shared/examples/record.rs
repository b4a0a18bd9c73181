//! Records how a model makes a face, and counts: `cargo run --release --example record MODEL.safetensors`

use std::collections::BTreeMap;
use std::error::Error;

use candle_core::Device;
use lddgan::ModelFile;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("needs a model file")?;
    let model = ModelFile::from_bytes(&std::fs::read(&path)?, &path)?.model(&path, &Device::Cpu)?;
    let graph = model.record(1)?;
    let mut operations: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &graph.nodes {
        *operations.entry(node.op.name()).or_default() += 1;
    }
    for (name, count) in operations {
        println!("{count:5} {name}");
    }
    println!("{:.2} GFLOPs, {:.1} MB at a time", graph.flops() as f64 / 1e9, graph.bytes() as f64 / 1e6);
    Ok(())
}
