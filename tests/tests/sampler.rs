//! Sampling through compiled executors against Candle, and what several batch sizes of a model have in common.
//!
//! Needs a WebGPU adapter; a software one (Mesa's lavapipe) is enough. Without one these tests fail.

use candle_core::{Device, Tensor};
use lddgan::{CandleBackend, Compiler, Executor, Model, Recipe, Sampler, Stage};
use lddgan_tests::{Tolerance, configs, random_model_file, tiny_config, values};
use lddgan_webgpu::Gpu;
use pollster::block_on;

const TOLERANCE: Tolerance = Tolerance::Absolute(1e-4);

fn gpu() -> lddgan_webgpu::Compiler {
    // The error says what to install.
    lddgan_webgpu::Compiler::new(block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}")))
}

fn model() -> Model {
    random_model_file(&tiny_config(), 1).unwrap().model("random", &Device::Cpu).unwrap()
}

fn check(found: &Tensor, expected: &Tensor, label: &str) {
    TOLERANCE.check(&values(found), &values(expected), expected.dims(), label);
}

/// Images in batches of two and one, all latents on the way, and the images of other latents.
fn samples_as_candle_does<C: Compiler<Error: std::fmt::Debug>>(compiler: C, label: &str) {
    let (mut model, mut sampler) = (model(), Sampler::new(compiler, 2));
    let seeds = [3u64, 4, 5, 6, 7];
    for steps in [4, 2] {
        model.set_steps(steps).unwrap();
        let expected = model.sample_seeds(&seeds, &Device::Cpu).unwrap();
        let found = block_on(sampler.trajectory(&model, &seeds)).unwrap();
        assert_eq!(found.latents.len(), steps + 1);
        for (found, expected) in found.latents.iter().zip(&expected.latents) {
            check(found, expected, &format!("{label}, latent in {steps} steps"));
        }
        check(&found.image, &expected.image, &format!("{label}, image in {steps} steps"));
        let image = block_on(sampler.stages(&model, &seeds[..1], &[Stage::Image])).unwrap().remove(0);
        check(&image, &expected.image.narrow(0, 0, 1).unwrap(), &format!("{label}, one image"));
        let latents = &expected.latents[1];
        let images = block_on(sampler.decode(&model, &values(latents), seeds.len())).unwrap();
        let decoded = model.decode(&mut CandleBackend, latents).unwrap();
        TOLERANCE.check(&images, &values(&decoded), decoded.dims(), &format!("{label}, decoded"));
    }
    let recipe = Recipe { truncation: Some(0.5), ..9.into() };
    let expected = model.sample_seeds(&[recipe], &Device::Cpu).unwrap().image;
    check(&block_on(sampler.images(&model, &[recipe])).unwrap(), &expected, &format!("{label}, truncated"));
}

#[test]
fn compiled_executors_sample_as_candle_does() {
    samples_as_candle_does(lddgan_cpu::Compiler::default(), "cpu");
    samples_as_candle_does(gpu(), "webgpu");
}

/// Bytes of weights that two batch sizes take together, as a multiple of those that one takes.
fn together<C: Compiler<Error: std::fmt::Debug>>(
    compiler: &mut C,
    model: &Model,
    bytes: impl Fn(&C) -> u64,
) -> (f64, f64) {
    let one = block_on(compiler.compile(&model.record(1).unwrap())).unwrap();
    let first = bytes(compiler);
    assert!(one.weight_bytes() == first && first > 0, "{} of {first}", one.weight_bytes());
    let two = block_on(compiler.compile(&model.record(2).unwrap())).unwrap();
    let both = bytes(compiler);
    let apart = (one.weight_bytes() + two.weight_bytes()) as f64 / first as f64;
    drop((one, two));
    assert_eq!(bytes(compiler), 0, "weights that no executor has any more");
    (both as f64 / first as f64, apart)
}

#[test]
fn batch_sizes_of_a_model_share_its_weights() {
    for (name, config) in configs() {
        let model = random_model_file(&config, 5).unwrap().model("random", &Device::Cpu).unwrap();
        let (both, apart) = together(&mut gpu(), &model, lddgan_webgpu::Compiler::weight_bytes);
        // What depends on the batch are biases of each sample.
        assert!(both < 1.4 && both < apart - 0.5, "{name}, webgpu: {both} of {apart} times the weights");
        let (both, apart) = together(&mut lddgan_cpu::Compiler::default(), &model, lddgan_cpu::Compiler::weight_bytes);
        // And the algorithms of some convolutions.
        assert!(both < 1.6 && both < apart - 0.3, "{name}, cpu: {both} of {apart} times the weights");
    }
}

#[test]
fn what_an_executor_takes_is_known_before() {
    for (name, config) in configs() {
        let model = random_model_file(&config, 5).unwrap().model("random", &Device::Cpu).unwrap();
        for graph in [model.record(1).unwrap(), model.record(3).unwrap(), model.record_decode(2).unwrap()] {
            let executor = lddgan_cpu::Executor::new(&graph).unwrap();
            assert_eq!(lddgan_cpu::Executor::bytes_of(&graph).unwrap(), executor.bytes(), "{name}");
        }
    }
}
