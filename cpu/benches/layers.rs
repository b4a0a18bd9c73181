//! The convolutions of a model's sampling: every algorithm beside Candle, and the share of what the cores multiply and add
//! at most.
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p lddgan-cpu -- MODEL [BATCH]`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Tensor};
use lddgan::backend::{Backend, CandleBackend};
use lddgan::graph::{Op, Recorder};
use lddgan::layers::Conv2d;
use lddgan::{Graph, ModelFile};
use lddgan_cpu::{Algorithm, Executor, instruction_sets};
use pulp::{Simd, WithSimd};

/// Runs of each, of which the median counts.
const TRIALS: usize = 9;

fn main() {
    // Cargo gives an option of its own.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let path = arguments.next().expect("say which model file");
    let batch = arguments.next().map_or(1, |batch| batch.parse().expect("the batch is a number"));
    let file = ModelFile::from_bytes(&std::fs::read(&path).expect("a readable file"), &path).expect("a model file");
    let graph = file.model(&path, &Device::Cpu).and_then(|model| model.record(batch)).expect("a model of images");
    let arch = instruction_sets()[0];
    let ceiling = (0..TRIALS).map(|_| arch.dispatch(Ceiling)).fold(0.0, f64::max);
    println!("{arch:?}, one core: {:.1} GFLOP/s at most", ceiling / 1e9);
    println!(
        "| layer | times | Candle, ms | direct | Winograd 2x2 | Winograd 4x4 | chosen | share of one core's ceiling |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for (name, (count, conv, shape)) in layers(&graph) {
        row(&name, count, &conv, &shape, ceiling);
    }
}

/// The different convolutions of a graph: how often each is computed, and the shape of what it reads.
fn layers(graph: &Graph) -> BTreeMap<String, (usize, Conv2d, Vec<usize>)> {
    let mut layers = BTreeMap::new();
    for node in &graph.nodes {
        let Op::Conv2d(conv) = &node.op else { continue };
        let shape = &graph.nodes[node.inputs[0]].shape;
        let geometry = conv.geometry;
        let name =
            format!("{shape:?} to {:?}, {}x{} by {}", node.shape, geometry.kernel, geometry.kernel, geometry.stride);
        layers.entry(name).or_insert_with(|| (0, conv.clone(), shape.clone())).0 += 1;
    }
    layers
}

fn row(name: &str, count: usize, conv: &Conv2d, shape: &[usize], ceiling: f64) {
    let x = Tensor::randn(0f32, 1.0, shape, &Device::Cpu).expect("random numbers");
    let values: Vec<f32> = x.flatten_all().and_then(|x| x.to_vec1()).expect("f32 numbers");
    let mut recorder = Recorder::new();
    let input = recorder.input("x", shape);
    let y = recorder.conv2d(&input, conv).expect("a layer of a graph");
    recorder.output("y", y);
    let graph = recorder.finish();
    let compile = |choice: &dyn Fn(&lddgan_cpu::ConvLayer) -> Algorithm| {
        Executor::with_options(&graph, instruction_sets()[0], choice).expect("a layer of a graph")
    };
    let fixed = Algorithm::ALL
        .map(|algorithm| compile(&move |layer| if algorithm.fits(layer) { algorithm } else { Algorithm::Direct }));
    let mut executors: Vec<Executor> = fixed.into_iter().chain([compile(&Algorithm::estimated)]).collect();
    let mut times = vec![Vec::new(); executors.len() + 1];
    for _ in 0..TRIALS {
        times[0].push(milliseconds(|| {
            black_box(CandleBackend.conv2d(&x, conv).expect("a layer of a graph"));
        }));
        for (executor, times) in executors.iter_mut().zip(&mut times[1..]) {
            let steps = executor.profile([("x", values.as_slice())]).expect("a layer of a graph");
            times.push(steps.iter().map(|(_, time)| 1e3 * time.as_secs_f64()).sum());
        }
    }
    let medians = times.iter_mut().map(|times| {
        times.sort_by(f64::total_cmp);
        times[TRIALS / 2]
    });
    let medians: Vec<f64> = medians.collect();
    let share = graph.flops() as f64 / (medians[4] / 1e3) / ceiling;
    let medians: Vec<String> = medians.iter().map(|median| format!("{median:.3}")).collect();
    println!("| {name} | {count} | {} | {:.0} % |", medians.join(" | "), 100.0 * share);
}

fn milliseconds(call: impl FnOnce()) -> f64 {
    let started = Instant::now();
    call();
    1e3 * started.elapsed().as_secs_f64()
}

/// Operations a second of multiply-adds on registers.
struct Ceiling;

impl WithSimd for Ceiling {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        const ROUNDS: usize = 500_000;
        let (factor, term) = (simd.splat_f32s(black_box(0.9)), simd.splat_f32s(black_box(1.0)));
        let mut sums = [simd.splat_f32s(0.0); 12];
        let started = Instant::now();
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, term);
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        black_box(sums.map(|sum| simd.reduce_sum_f32s(sum)));
        (2 * ROUNDS * sums.len() * S::F32_LANES) as f64 / seconds
    }
}
