//! Sampling in rten, an ONNX runtime in Rust, for `onnx_runtime_peer.py`: prints images a second.
//!
//! `rten_peer FOLDER BATCH SECONDS STEPS`, with the files that `lddgan export --onnx FOLDER` writes; `RTEN_NUM_THREADS` as usual.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use rten::{Dimension, Model, NodeId, Value, ValueOrView};

/// An exported network, its inputs for a batch, and its output.
struct Network {
    model: Model,
    inputs: Vec<(NodeId, Value)>,
    output: NodeId,
}

impl Network {
    fn load(path: &Path, batch: usize) -> Result<Self, Box<dyn Error>> {
        let model = Model::load(std::fs::read(path)?)?;
        let input = |&id: &NodeId| -> Result<_, Box<dyn Error>> {
            let node = model.node_info(id).ok_or("an input without a description")?;
            let shape = node.shape().ok_or("an input without a shape")?;
            let shape: Vec<usize> = shape.iter().map(|size| fixed(size).unwrap_or(batch)).collect();
            let count = shape.iter().product();
            // What the numbers are does not matter for the time, as long as they are of an ordinary size.
            let value = match node.name() {
                Some("t") => Value::from_shape(&shape, vec![1i32; count])?,
                _ => Value::from_shape(&shape, (0..count).map(|i| (i as f32).sin()).collect::<Vec<_>>())?,
            };
            Ok((id, value))
        };
        let inputs = model.input_ids().iter().map(input).collect::<Result<_, _>>()?;
        let output = *model.output_ids().first().ok_or("no output")?;
        Ok(Self { model, inputs, output })
    }

    fn run(&self) -> Result<Value, Box<dyn Error>> {
        let inputs: Vec<(NodeId, ValueOrView)> = self.inputs.iter().map(|(id, value)| (*id, value.into())).collect();
        let [output] = self.model.run_n(inputs, [self.output], None)?;
        Ok(output)
    }
}

fn fixed(size: &Dimension) -> Option<usize> {
    match size {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Symbolic(_) => None,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, batch, seconds, steps] = arguments.as_slice() else {
        // `cargo bench` calls it with options of its own.
        println!("rten_peer FOLDER BATCH SECONDS STEPS: onnx_runtime_peer.py calls it");
        return Ok(());
    };
    let (batch, steps): (usize, usize) = (batch.parse()?, steps.parse()?);
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let generator = Network::load(&Path::new(folder).join("generator.onnx"), batch)?;
    let decoder = Network::load(&Path::new(folder).join("decoder.onnx"), batch)?;
    let sample = || -> Result<(), Box<dyn Error>> {
        for _ in 0..steps {
            generator.run()?;
        }
        decoder.run().map(drop)
    };
    sample()?;
    let (started, mut images) = (Instant::now(), 0);
    while started.elapsed() < seconds {
        sample()?;
        images += batch;
    }
    println!("{}", images as f64 / started.elapsed().as_secs_f64());
    Ok(())
}
