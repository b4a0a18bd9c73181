//! Whole networks, and sampling.

use candle_core::{DType, Device, Tensor};
use lddgan::backend::CandleBackend;
use lddgan::diffusion::Schedule;
use lddgan::graph::Recorder;
use lddgan::model::{NamedNoise, constants};
use lddgan::networks::Discriminator;
use lddgan::parameters::Parameters;
use lddgan::{DiffusionConfig, DiscriminatorConfig, FileConfig, Model, ModelFile, Recipe, Shifts, Trajectory};
use lddgan_tests::{configs, directions, gaussian, normal, random_model_file, randomize, read, tiny_config, values};
use lddgan_webgpu::Gpu;

use super::*;

fn model(config: &FileConfig) -> Model {
    random_model_file(config, 5).unwrap().model("random", &Device::Cpu).unwrap()
}

#[test]
fn generator() {
    let gpu = gpu();
    for (name, config) in configs() {
        let Model { generator, schedule, .. } = model(&config);
        let sizes = generator.config().clone();
        for batch in [1, 3] {
            let step = generator.step_inputs(&schedule, &vec![2; batch], &Device::Cpu).unwrap();
            let inputs = vec![
                normal("x", &[batch, sizes.latent_channels, sizes.latent_size, sizes.latent_size]),
                normal("z", &[batch, sizes.z_dim]),
            ];
            check!(gpu, format!("{name}, batch {batch}"), inputs, |b, x| {
                let step = constants(b, &step).unwrap();
                generator.forward(b, &x[0], &step, &x[1])
            });
        }
    }
}

#[test]
fn discriminator() {
    let gpu = gpu();
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    for (kind, layers, modes) in [("small", 3, 0), ("large", 4, 0), ("small", 3, 10)] {
        let config = format!(
            r#"{{"kind": "{kind}", "latent_channels": 3, "channels": 6, "layers": {layers}, "time_embedding": 10,
                "gaussian_modes": {modes}, "latent_size": 16}}"#
        );
        let config: DiscriminatorConfig = serde_json::from_str(&config).unwrap();
        let parameters = Parameters::new(3, &Device::Cpu).with_constants(&gaussian("gaussian.", modes, 3, 16)).unwrap();
        let discriminator = Discriminator::new(parameters.var_builder(), &config).unwrap();
        randomize(&parameters, 3).unwrap();
        for batch in [1, 4, 8] {
            // What depends on the step comes in as inputs here, so that nothing about it is known at compile time.
            let (names, step): (Vec<String>, Vec<Tensor>) =
                discriminator.step_inputs(&schedule, &vec![1; batch], &Device::Cpu).unwrap().into_iter().unzip();
            let latents = ["x_t", "x_tp1"].map(|name| normal(name, &[batch, 3, 16, 16]));
            let inputs = [&latents[..], &step].concat();
            check!(gpu, format!("{kind} discriminator, {modes} modes, batch {batch}"), inputs, |b, x| {
                let step = names.iter().cloned().zip(x[2..].iter().cloned()).collect();
                discriminator.forward(b, &x[0], &step, &x[1])
            });
        }
    }
}

#[test]
fn encoder_and_decoder() {
    let gpu = gpu();
    for (name, config) in configs() {
        let (encoder, decoder) = random_model_file(&config, 6).unwrap().autoencoder("random", &Device::Cpu).unwrap();
        let sizes = config.autoencoder.as_ref().unwrap();
        for batch in [1, 2] {
            let image = normal("image", &[batch, sizes.image_channels, sizes.image_size, sizes.image_size]);
            check!(gpu, format!("encoder {name}, batch {batch}"), vec![image], |b, x| encoder.forward(b, &x[0]));
            // After quantisation: rounding that swaps two nearly equidistant codes is no error of the decoder.
            let latent = normal("latent", &[batch, sizes.latent_channels, sizes.latent_size(), sizes.latent_size()]);
            let latent = decoder.quantize(&mut CandleBackend, &latent).unwrap();
            check!(gpu, format!("decoder {name}, batch {batch}"), vec![latent], |b, x| decoder.forward(b, &x[0]));
        }
    }
}

/// Noise to images in one run. Latents are compared as they are. The image is compared with what Candle decodes from the
/// latent of the executor, because a latent that lies between two codes may fall to either by rounding: the executors
/// then quantise the same numbers, and a position where they still disagree shows as a large error.
#[test]
fn whole_sampling() {
    let gpu = gpu();
    for (name, config) in configs() {
        check_sampling(&gpu, &model(&config), [11, 12].map(Recipe::from), name);
    }
}

#[test]
fn images_are_moved_along_the_directions_of_a_file() {
    let mut file = random_model_file(&tiny_config(), 5).unwrap();
    file.tensors.extend(directions(3));
    let bytes = file.to_bytes(DType::F16).unwrap();
    let model = ModelFile::from_bytes(&bytes, "moved").unwrap().model("moved", &Device::Cpu).unwrap();
    let mut shifts = Shifts::default();
    shifts.set(0, 1.5).unwrap();
    shifts.set(2, -0.5).unwrap();
    let recipes = [11, 12].map(|seed| Recipe { shifts, ..seed.into() });
    check_sampling(&gpu(), &model, recipes, "moved");
    for (moved, plain) in model.draw(&recipes).into_iter().zip(model.draw(&[11u64, 12])) {
        let changes = ["x", "noise/2", "z/1"].contains(&plain.name.as_str());
        assert_eq!(moved.values != plain.values, changes, "{}", plain.name);
    }
}

fn check_sampling(gpu: &Gpu, model: &Model, recipes: [Recipe; 2], name: &str) {
    let expected = model.sample_seeds(&recipes, &Device::Cpu).unwrap();
    let graph = model.record(recipes.len()).unwrap();
    let noise = model.draw(&recipes);
    let inputs = || noise.iter().map(NamedNoise::as_input);
    let mut executor = on_gpu(gpu, &graph);
    lddgan::Executor::run(&mut executor, inputs()).unwrap();
    check_trajectory(model, &expected, |output| read(&executor, output), name);
    let mut executor = on_cpu(&graph);
    lddgan::Executor::run(&mut executor, inputs()).unwrap();
    check_trajectory(model, &expected, |output| read(&executor, output), &format!("{name} on CPU"));
}

fn check_trajectory(model: &Model, expected: &Trajectory<Tensor>, read: impl Fn(&str) -> Vec<f32>, name: &str) {
    for (t, latent) in (0..expected.latents.len()).rev().zip(&expected.latents) {
        let output = format!("latent/{t}");
        PARITY.check(&read(&output), &values(latent), latent.dims(), &format!("{name}, {output}"));
    }
    let latent = Tensor::from_vec(read("latent/0"), expected.latents[0].dims(), &Device::Cpu).unwrap();
    let image = model.decode(&mut CandleBackend, &latent).unwrap();
    PARITY.check(&read("image"), &values(&image), image.dims(), &format!("{name}, image"));
}
