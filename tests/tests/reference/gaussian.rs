//! The normal distribution that generators start from and discriminators see through the noise with: against recorded
//! numbers, what follows from its definition, and finite differences.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use lddgan::backend::CandleBackend;
use lddgan::diffusion::Schedule;
use lddgan::networks::{Discriminator, Gaussian, Generator, StepInputs};
use lddgan::parameters::{Parameters, TensorMap};
use lddgan::{DiffusionConfig, DiscriminatorConfig};
use lddgan_tests::{gaussian, gaussian_config, normal, randomize, tiny_config};
use lddgan_trainer::gan::gradient_penalty;

use crate::recorded::{check, check_values, kept, values};

/// Largest error, relative to the largest value of what was recorded.
const TOLERANCE: f64 = 1e-5;

fn schedule() -> Schedule {
    Schedule::new(&DiffusionConfig::AlphaBar(vec![0.7, 0.3, 0.06, 1e-4])).unwrap()
}

fn recorded() -> TensorMap {
    let file = kept("gaussian-start").join("gaussian_start.safetensors");
    candle_core::safetensors::load(file, &Device::Cpu).unwrap().into_iter().collect()
}

#[test]
fn schedule_of_given_levels() {
    let io = recorded();
    let schedule = schedule();
    let table = |name: &str, count: usize, value: &dyn Fn(usize) -> f32| {
        let found: Vec<f64> = (0..count).map(|t| value(t).into()).collect();
        check_values(name, &found, &values(&io[name]), TOLERANCE);
    };
    table("alpha_bar", 5, &|t| schedule.alpha_bar(t));
    table("beta", 4, &|t| schedule.sigmas[t + 1].powi(2));
    table("posterior_x_0", 4, &|t| schedule.posterior(t + 1, t).x_0);
    table("posterior_x_t", 4, &|t| schedule.posterior(t + 1, t).x_t);
    table("posterior_deviation", 4, &|t| schedule.posterior(t + 1, t).std);
}

#[test]
fn start_and_denoising() {
    let io = recorded();
    let given = TensorMap::from([
        ("mean".to_string(), io["mean"].reshape((4, 4, 4)).unwrap()),
        ("directions".to_string(), io["directions"].t().unwrap().contiguous().unwrap().reshape((8, 4, 4, 4)).unwrap()),
        ("variances".to_string(), io["variances"].clone()),
    ]);
    let parameters = Parameters::new(0, &Device::Cpu).with_constants(&given).unwrap();
    let gaussian = Gaussian::new(parameters.var_builder(), 8, 4, 4).unwrap();
    let (b, schedule) = (&mut CandleBackend, schedule());
    let step = |name, t| gaussian.step_inputs(name, &[schedule.alpha_bar(t); 6], &Device::Cpu).unwrap();
    for t in 0..4 {
        let of = |name: &str| &io[&format!("{t}/{name}")];
        let start = gaussian.start(b, of("x_next"), &step("", t + 1), of("z")).unwrap();
        check(&format!("t = {t}: start"), &start, of("start"), TOLERANCE);
        for (x, expected, t) in [("x_t", "denoised_t", t), ("x_next", "denoised_next", t + 1)] {
            let denoised = gaussian.denoise(b, of(x), "of/", &step("of/", t)).unwrap();
            check(&format!("t = {t}: {expected}"), &denoised, of(expected), TOLERANCE);
        }
    }
}

const SAMPLES: usize = 2000;
const MODES: usize = 10;

/// The modes (samples, MODES) of latents.
fn project(latents: &Tensor, given: &TensorMap) -> Tensor {
    let centred = latents.broadcast_sub(&given["generator.gaussian.mean"]).unwrap().flatten_from(1).unwrap();
    centred.matmul(&given["generator.gaussian.directions"].flatten_from(1).unwrap().t().unwrap()).unwrap()
}

/// Checks that the modes have mean zero and these variances, and are uncorrelated, within five standard deviations of
/// such sums.
fn check_moments(modes: &Tensor, variances: &[f64], label: &str) {
    let rows: Vec<Vec<f64>> = modes.to_dtype(DType::F64).unwrap().to_vec2().unwrap();
    let average = |f: &dyn Fn(&[f64]) -> f64| rows.iter().map(|row| f(row)).sum::<f64>() / rows.len() as f64;
    let count = rows.len() as f64;
    for (i, a) in variances.iter().enumerate() {
        let mean = average(&|row| row[i]);
        assert!(mean.abs() < 5.0 * (a / count).sqrt(), "{label}: mean {mean} of mode {i}");
        for (j, b) in variances.iter().enumerate().take(i + 1) {
            let found = average(&|row| row[i] * row[j]);
            let (expected, spread) = if i == j { (*a, 2.0) } else { (0.0, 1.0) };
            let most = 5.0 * (spread * a * b / count).sqrt();
            assert!(
                (found - expected).abs() < most,
                "{label}: covariance {found} of modes {i} and {j}, not {expected}"
            );
        }
    }
}

/// As long as the network adds nothing, what the generator makes of x_{t+1} is distributed as the latents are.
#[test]
fn an_untrained_generator_samples_the_normal_distribution() {
    let config = gaussian_config(tiny_config(), MODES).generator.unwrap();
    let (channels, size) = (config.latent_channels, config.latent_size);
    let given = gaussian("generator.gaussian.", MODES, channels, size);
    let parameters = Parameters::new(1, &Device::Cpu).with_constants(&given).unwrap();
    let generator = Generator::new(parameters.var_builder().pp("generator"), &config).unwrap();
    randomize(&parameters, 1).unwrap();
    for name in ["generator.conv_out.weight", "generator.conv_out.bias"] {
        let var = parameters.var(name).unwrap();
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    let variances = &given["generator.gaussian.variances"];
    let modes = normal("modes", &[SAMPLES, MODES]).broadcast_mul(&variances.sqrt().unwrap()).unwrap();
    let directions = given["generator.gaussian.directions"].flatten_from(1).unwrap();
    let x_0 = modes.matmul(&directions).unwrap().reshape((SAMPLES, channels, size, size)).unwrap();
    let x_0 = x_0.broadcast_add(&given["generator.gaussian.mean"]).unwrap();
    check_moments(&modes, &values(variances), "latents");
    let schedule = schedule();
    for t in 0..schedule.steps() as u32 {
        let noise = |name: &str| normal(&format!("{name} {t}"), x_0.dims());
        let steps = vec![t; SAMPLES];
        let (_, x) = schedule.q_sample_pairs(&x_0, &steps, &noise("first"), &noise("second")).unwrap();
        let step = generator.step_inputs(&schedule, &steps, &Device::Cpu).unwrap();
        let z = normal(&format!("z {t}"), &[SAMPLES, MODES]);
        let samples = generator.forward(&mut CandleBackend, &x, &step, &z).unwrap();
        check_moments(&project(&samples, &given), &values(variances), &format!("t = {t}"));
    }
}

/// A small discriminator that sees the denoised latents, in f64.
struct Small {
    config: DiscriminatorConfig,
    weights: HashMap<String, Tensor>,
    schedule: Schedule,
    x_tp1: Tensor,
}

const LATENTS: [usize; 4] = [2, 2, 8, 8];
const STEP: f64 = 1e-5;

fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

impl Small {
    fn new() -> Self {
        let config = r#"{"kind": "small", "latent_channels": 2, "channels": 2, "layers": 3, "time_embedding": 4,
            "gaussian_modes": 6, "latent_size": 8}"#;
        let config: DiscriminatorConfig = serde_json::from_str(config).unwrap();
        let parameters = Parameters::new(5, &Device::Cpu).with_constants(&gaussian("gaussian.", 6, 2, 8)).unwrap();
        Discriminator::new(parameters.var_builder(), &config).unwrap();
        randomize(&parameters, 5).unwrap();
        let weights = parameters.tensors().iter().map(|(name, tensor)| (name.clone(), wide(tensor))).collect();
        Self { config, weights, schedule: schedule(), x_tp1: wide(&normal("x_tp1", &LATENTS)) }
    }

    /// Its logits, one of the weights being another tensor.
    fn logits(&self, x_t: &Tensor, x_tp1: &Tensor, (name, weight): (&str, &Tensor)) -> Tensor {
        let mut weights = self.weights.clone();
        weights.insert(name.to_string(), weight.clone());
        let vb = VarBuilder::from_tensors(weights, DType::F64, &Device::Cpu);
        let discriminator = Discriminator::new(vb, &self.config).unwrap();
        let step = discriminator.step_inputs(&self.schedule, &[1, 2], &Device::Cpu).unwrap();
        let step: StepInputs<Tensor> = step.iter().map(|(name, tensor)| (name.clone(), wide(tensor))).collect();
        discriminator.forward(&mut CandleBackend, x_t, &step, x_tp1).unwrap()
    }
}

/// Compares the gradient of a scalar function with central differences, at every element.
fn check_differences(label: &str, argument: &Tensor, f: impl Fn(&Tensor) -> Tensor) {
    let var = Var::from_tensor(argument).unwrap();
    let gradients = f(var.as_tensor()).backward().unwrap();
    let gradient = values(gradients.get(&var).unwrap());
    let at = values(argument);
    let moved = |element: usize, by: f64| {
        let mut at = at.clone();
        at[element] += by;
        f(&Tensor::from_vec(at, argument.shape(), &Device::Cpu).unwrap()).to_scalar::<f64>().unwrap()
    };
    let difference = |element| (moved(element, STEP) - moved(element, -STEP)) / (2.0 * STEP);
    let expected: Vec<f64> = (0..at.len()).map(difference).collect();
    check_values(label, &gradient, &expected, 1e-6);
}

#[test]
fn gradients_through_denoised_latents() {
    let small = Small::new();
    let x_t = wide(&normal("x_t", &LATENTS));
    let first = ("start_conv.weight", &small.weights["start_conv.weight"]);
    // Every sample's logit has an influence of its own.
    let weighted = |logits: Tensor| (logits * wide(&normal("influence", &[2, 1]))).unwrap().sum_all().unwrap();
    check_differences("x_t", &x_t, |x_t| weighted(small.logits(x_t, &small.x_tp1, first)));
    check_differences("x_tp1", &small.x_tp1, |x_tp1| weighted(small.logits(&x_t, x_tp1, first)));
}

/// The R1 penalty is the gradient's square, so its own gradient is of second order.
#[test]
fn penalty_through_denoised_latents() {
    let small = Small::new();
    let x_t = Var::from_tensor(&wide(&normal("x_t", &LATENTS))).unwrap();
    for name in ["start_conv.weight", "block.0.conv1.weight"] {
        check_differences(name, &small.weights[name], |weight| {
            let logits = small.logits(&x_t, &small.x_tp1, (name, weight));
            gradient_penalty(&logits, &x_t, 2.0).unwrap()
        });
    }
}
