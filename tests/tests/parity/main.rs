//! The executors for WebGPU and for CPUs against Candle: every operation over awkward shapes, and whole networks.
//!
//! Needs a WebGPU adapter; a software one (Mesa's lavapipe) is enough. Without one these tests fail.

use std::fmt::Debug;

use candle_core::Tensor;
use lddgan::Graph;
use lddgan::graph::{NodeId, Recorder};
use lddgan_tests::{Tolerance, not_run, read, run, values};
use lddgan_webgpu::{Executor, Gpu};

/// What the executors may differ by, everywhere.
const PARITY: Tolerance = Tolerance::Absolute(1e-4);

fn gpu() -> Gpu {
    // The error says what to install.
    pollster::block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}"))
}

/// A device with subgroups, if the adapter has them, and one without.
fn gpus() -> [Gpu; 2] {
    let plain = pollster::block_on(Gpu::with_features(wgpu::Features::empty())).unwrap();
    assert!(!plain.has_subgroups());
    let gpu = gpu();
    if !gpu.has_subgroups() {
        not_run(&format!("{} has no subgroups", gpu.name()));
    }
    [gpu, plain]
}

fn record_inputs(recorder: &mut Recorder, inputs: &[Tensor]) -> Vec<NodeId> {
    let input = |(i, tensor): (usize, &Tensor)| recorder.input(&i.to_string(), tensor.dims());
    inputs.iter().enumerate().map(input).collect()
}

fn on_gpu(gpu: &Gpu, graph: &Graph) -> Executor {
    pollster::block_on(Executor::new(gpu, graph)).unwrap()
}

fn on_cpu(graph: &Graph) -> lddgan_cpu::Executor {
    lddgan_cpu::Executor::new(graph).unwrap()
}

/// Compares the output `y`.
fn check(executor: &impl lddgan::Executor<Error: Debug>, expected: &Tensor, label: &str) {
    assert_eq!(executor.shape("y").unwrap(), expected.dims(), "{label}");
    PARITY.check(&read(executor, "y"), &values(expected), expected.dims(), label);
}

/// The dispatches that it took.
fn compare(gpu: &Gpu, graph: &Graph, inputs: &[Tensor], expected: &Tensor, label: &str) -> usize {
    check(&run(on_cpu(graph), inputs), expected, &format!("{label}, on CPU"));
    let executor = run(on_gpu(gpu, graph), inputs);
    check(&executor, expected, label);
    executor.dispatches()
}

/// Computes an expression in a backend and values under both executors and compares the results; the dispatches.
macro_rules! check {
    ($gpu:expr, $label:expr, $inputs:expr, |$b:ident, $x:ident| $compute:expr) => {{
        let inputs: Vec<Tensor> = $inputs;
        let expected = {
            let $b = &mut CandleBackend;
            let $x = &inputs;
            $compute.unwrap()
        };
        let mut recorder = Recorder::new();
        let nodes = record_inputs(&mut recorder, &inputs);
        let y = {
            let $b = &mut recorder;
            let $x = &nodes;
            $compute.unwrap()
        };
        recorder.output("y", y);
        compare(&$gpu, &recorder.finish(), &inputs, &expected, &$label)
    }};
}

// After the macro that they use.
mod networks;
mod operations;
