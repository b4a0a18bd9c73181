//! WebGPU with f16 images between its kernels against Candle in f32.
//!
//! Needs a WebGPU adapter with f16; Mesa's lavapipe has it. On one without f16 the only test is that it is refused.

use candle_core::{Device, Tensor};
use lddgan::Executor as _;
use lddgan::backend::{Activation, Backend, CandleBackend, FirMode};
use lddgan::graph::Recorder;
use lddgan::layers::{Conv2d, ConvGeometry};
use lddgan::{FileConfig, ModelFile, Sampler};
use lddgan_tests::{configs, normal, not_run, psnr_of_span, random_model_file, read, run, values};
use lddgan_webgpu::executor::{ConvKernel, ConvLayer, Dtype, Options};
use lddgan_webgpu::{Compiler, Error, Executor, Gpu};
use pollster::block_on;

/// An adapter with f16, after a check that one without it says so.
fn gpu() -> Option<Gpu> {
    // The error says what to install.
    let gpu = block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}"));
    if gpu.has_f16() {
        return Some(gpu);
    }
    let options = Options { convolutions: &|_| ConvKernel::DIRECT, images: Dtype::F16 };
    let refused = block_on(Executor::with_options(&gpu, &Recorder::new().finish(), &options));
    assert!(matches!(refused, Err(Error::NoF16(_))), "{refused:?}");
    not_run(&format!("{} has no f16", gpu.name()));
    None
}

/// Runs a recording with outputs `y` on inputs that are named by their numbers, and compares.
fn check(gpu: &Gpu, recorder: Recorder, kernel: ConvKernel, inputs: &[&Tensor], expected: &Tensor, label: &str) {
    let options = Options { convolutions: &|_| kernel, images: Dtype::F16 };
    let executor = block_on(Executor::with_options(gpu, &recorder.finish(), &options)).unwrap();
    let executor = run(executor, inputs.iter().copied());
    let ratio = psnr_of_span(&read(&executor, "y"), &values(expected));
    println!("{label}: PSNR {ratio:.1} dB");
    assert!(ratio >= 40.0, "{label}: PSNR {ratio:.1} dB");
    // Exact numbers would mean that f16 was never used.
    assert!(ratio < 120.0, "{label}: PSNR {ratio:.1} dB");
}

/// A convolution between operations that are not fused with it, so that it reads and writes f16.
fn surrounded<B: Backend>(b: &mut B, conv: &Conv2d, x: &B::Value) -> B::Value {
    let x = b.activate(x, Activation::Silu).unwrap();
    let y = b.conv2d(&x, conv).unwrap();
    let y = b.weighted_sum(&[(0.5, &x), (1.0, &y)]).unwrap();
    b.fir(&y, FirMode::Smooth).unwrap()
}

#[test]
fn every_convolution_kernel() {
    let Some(gpu) = gpu() else { return };
    let weight = normal("weight", &[21, 21, 3, 3]).affine(0.07, 0.0).unwrap();
    let conv = Conv2d { weight, bias: Some(normal("bias", &[21])), geometry: ConvGeometry::same(3) };
    let x = normal("x", &[3, 21, 9, 7]);
    let expected = surrounded(&mut CandleBackend, &conv, &x);
    let shape = [3, 21, 9, 7];
    let layer = ConvLayer { x: shape, y: shape, kernel: 3, stride: 1, upsample: 1 };
    for kernel in ConvKernel::candidates(&layer) {
        let mut recorder = Recorder::new();
        let node = recorder.input("0", x.dims());
        let y = surrounded(&mut recorder, &conv, &node);
        recorder.output("y", y);
        check(&gpu, recorder, kernel, &[&x], &expected, &kernel.to_string());
    }
}

/// From an image to one pixel, a product there, and back.
fn through_one_pixel<B: Backend>(b: &mut B, convs: &[Conv2d; 2], factor: &B::Value, x: &B::Value) -> B::Value {
    let x = b.activate(x, Activation::Silu).unwrap();
    let y = b.conv2d(&x, &convs[0]).unwrap();
    let y = b.multiply(&y, factor).unwrap();
    let y = b.conv2d(&y, &convs[1]).unwrap();
    b.depth_to_space(&y, 6).unwrap()
}

#[test]
fn every_convolution_kernel_to_one_pixel() {
    let Some(gpu) = gpu() else { return };
    let layer = |name: &str, shape: [usize; 4], geometry| Conv2d {
        weight: normal(name, &shape).affine(0.07, 0.0).unwrap(),
        bias: Some(normal("bias", &shape[..1])),
        geometry,
    };
    let convs = [
        layer("project", [10, 5, 6, 6], ConvGeometry::patch(6)),
        layer("expand", [180, 10, 1, 1], ConvGeometry::same(1)),
    ];
    let (x, factor) = (normal("x", &[3, 5, 6, 6]), normal("factor", &[3, 10, 1, 1]));
    let expected = through_one_pixel(&mut CandleBackend, &convs, &factor, &x);
    let layer = ConvLayer { x: [3, 5, 6, 6], y: [3, 10, 1, 1], kernel: 6, stride: 6, upsample: 1 };
    for kernel in ConvKernel::candidates(&layer) {
        let mut recorder = Recorder::new();
        let (node, factor_node) = (recorder.input("0", x.dims()), recorder.input("1", factor.dims()));
        let y = through_one_pixel(&mut recorder, &convs, &factor_node, &node);
        recorder.output("y", y);
        check(&gpu, recorder, kernel, &[&x, &factor], &expected, &kernel.to_string());
    }
}

#[test]
fn networks() {
    let Some(gpu) = gpu() else { return };
    for (name, config) in configs() {
        let model = random_model_file(&config, 5).unwrap().model("random", &Device::Cpu).unwrap();
        let sizes = model.generator.config();
        let step = model.generator.step_inputs(&model.schedule, &[2; 3], &Device::Cpu).unwrap();
        let x = normal("x", &[3, sizes.latent_channels, sizes.latent_size, sizes.latent_size]);
        let z = normal("z", &[3, sizes.z_dim]);
        let mut recorder = Recorder::new();
        let inputs: Vec<&Tensor> = [&x, &z].into_iter().chain(step.values()).collect();
        let nodes: Vec<_> = (0..).zip(&inputs).map(|(i, x)| recorder.input(&format!("{i}"), x.dims())).collect();
        let step_nodes = step.keys().cloned().zip(nodes[2..].iter().copied()).collect();
        let y = model.generator.forward(&mut recorder, &nodes[0], &step_nodes, &nodes[1]).unwrap();
        recorder.output("y", y);
        let expected = model.generator.forward(&mut CandleBackend, &x, &step, &z).unwrap();
        check(&gpu, recorder, ConvKernel::DIRECT, &inputs, &expected, &format!("{name}, generator"));

        // Without the quantiser, where rounding decides between codes; the fixed autoencoders compute nothing in between.
        if config.autoencoder.as_ref().is_none_or(|autoencoder| autoencoder.decoder.is_none()) {
            continue;
        }
        let latent = model.decoder.quantize(&mut CandleBackend, &x).unwrap();
        let mut recorder = Recorder::new();
        let node = recorder.input("0", latent.dims());
        let y = model.decoder.forward(&mut recorder, &node).unwrap();
        recorder.output("y", y);
        let expected = model.decoder.forward(&mut CandleBackend, &latent).unwrap();
        check(&gpu, recorder, ConvKernel::DIRECT, &[&latent], &expected, &format!("{name}, decoder"));
    }
}

/// All steps of models that start from a normal distribution. Latents, as a quantiser would decide by rounding.
#[test]
fn gaussian_starts() {
    let Some(gpu) = gpu() else { return };
    let mut sampler = Sampler::new(Compiler::new(gpu), 2);
    sampler.compiler_mut().use_images(Dtype::F16);
    let starts = |config: &FileConfig| config.generator.as_ref().is_some_and(|generator| generator.gaussian_modes > 0);
    for (name, config) in configs().into_iter().filter(|(_, config)| starts(config)) {
        let model = random_model_file(&config, 5).unwrap().model("random", &Device::Cpu).unwrap();
        sampler.forget();
        let latents = block_on(sampler.sample(&model, &[7u64, 8], async |executor| executor.read("latent/0").await));
        let expected = model.sample_seeds(&[7u64, 8], &Device::Cpu).unwrap().latents.pop().unwrap();
        let ratio = psnr_of_span(&latents.unwrap().concat(), &values(&expected));
        println!("{name}: PSNR {ratio:.1} dB");
        assert!((40.0..120.0).contains(&ratio), "{name}: PSNR {ratio:.1} dB");
    }
}

/// Trained networks, all steps: what a visitor sees.
#[test]
fn faces() {
    let Some(gpu) = gpu() else { return };
    let mut sampler = Sampler::new(Compiler::new(gpu), 1);
    sampler.compiler_mut().use_images(Dtype::F16);
    for name in ["faces64", "faces256"] {
        let path = format!("{}/../web/models/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let model = ModelFile::from_bytes(&std::fs::read(path).unwrap(), name).unwrap().model(name, &Device::Cpu);
        let model = model.unwrap();
        sampler.forget();
        let faces = block_on(sampler.sample(&model, &[7u64], async |executor| executor.read("image").await));
        let expected = values(&model.sample_seeds(&[7u64], &Device::Cpu).unwrap().image);
        let ratio = psnr_of_span(&faces.unwrap().concat(), &expected);
        println!("{name}: PSNR {ratio:.1} dB");
        assert!((40.0..120.0).contains(&ratio), "{name}: PSNR {ratio:.1} dB");
    }
}
