//! The executor beyond its numbers: errors, memory, instruction sets, threads.

mod common;

use common::model;
use lddgan::backend::Backend;
use lddgan::compare::Difference;
use lddgan::graph::{Graph, Op, Recorder};
use lddgan::model::NamedNoise;
use lddgan::{Error, Executor as _};
use lddgan_cpu::{Algorithm, Executor, instruction_sets};
use pollster::block_on;

/// An image that goes in as `x` and comes out as `y`, with an operation between.
fn doubling() -> Graph {
    let mut recorder = Recorder::new();
    let x = recorder.input("x", &[1, 3, 2, 2]);
    let y = recorder.weighted_sum(&[(2.0, &x)]).unwrap();
    recorder.output("y", y);
    recorder.finish()
}

#[test]
fn a_graph_that_cannot_be_executed_is_refused() {
    let broken = |change: fn(&mut Graph)| {
        let mut graph = doubling();
        change(&mut graph);
        Executor::new(&graph).unwrap_err()
    };
    let missing = broken(|graph| graph.outputs.push(("z".to_string(), 7)));
    assert!(matches!(missing, Error::Shape { .. } | Error::Candle(_) | Error::Graph(_)), "{missing}");
    let lonely = broken(|graph| (graph.nodes[1].op, graph.nodes[1].inputs) = (Op::Concat, vec![0]));
    assert!(lonely.to_string().contains("takes 2 inputs, got 1"), "{lonely}");
    let shapeless = broken(|graph| graph.nodes[1].shape = vec![12]);
    assert!(shapeless.to_string().contains("has the shape [12], its operation gives [1, 3, 2, 2]"), "{shapeless}");
}

#[test]
fn weights_are_packed_once() {
    let bytes = |steps: usize| {
        let mut model = model("faces64");
        model.set_steps(steps).unwrap();
        let direct = |_: &_| Algorithm::Direct;
        let graph = model.record(1).unwrap();
        Executor::with_options(&graph, instruction_sets()[0], &direct).unwrap().weight_bytes() as f64
    };
    // Every step uses the weights of the generator; what it adds are biases of its own.
    let times = bytes(4) / bytes(1);
    assert!((1.0..1.1).contains(&times), "{times} times the weights were packed");
}

#[test]
fn memory_is_shared_by_values_that_are_never_needed_together() {
    let model = model("faces64");
    let graph = model.record(1).unwrap();
    let blocks = |shape: &[usize]| shape.iter().product::<usize>() / shape[1] * shape[1].next_multiple_of(16);
    let all: usize = graph.nodes.iter().map(|node| 4 * blocks(&node.shape)).sum();
    let executor = Executor::new(&graph).unwrap();
    assert!(executor.activation_bytes() < all as u64 / 5, "{} of {all} bytes", executor.activation_bytes());
}

#[test]
fn all_instruction_sets_make_the_same_image() {
    let model = model("faces64");
    let (graph, noise) = (model.record_decode(3).unwrap(), model.draw(&[1u64, 2, 3]));
    let image = |arch| {
        let mut executor = Executor::with_options(&graph, arch, &Algorithm::estimated).unwrap();
        executor.run([("latent", noise[0].values.as_slice())]).unwrap();
        block_on(executor.read("image")).unwrap()
    };
    let sets = instruction_sets();
    let expected = image(sets[0]);
    for set in &sets[1..] {
        let largest = Difference::between(&image(*set), &expected).unwrap().max;
        assert!(largest < 1e-4, "{set:?} differs from {:?} by {largest}", sets[0]);
    }
}

#[test]
fn any_number_of_threads_makes_the_same_image() {
    let model = model("faces64");
    let (graph, noise) = (model.record(3).unwrap(), model.draw(&[1u64, 2, 3]));
    let image = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut executor = Executor::new(&graph).unwrap();
            executor.run(noise.iter().map(NamedNoise::as_input)).unwrap();
            block_on(executor.read("image")).unwrap()
        })
    };
    let expected = image(1);
    assert!([2, 5].into_iter().all(|threads| image(threads) == expected));
}
