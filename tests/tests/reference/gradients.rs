//! Gradients, first and second order. The latter need `CANDLE_GRAD_DO_NOT_DETACH=1`, which `.cargo/config.toml` sets;
//! without it, the R1 penalty is an error.

use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use lddgan::backend::CandleBackend;
use lddgan::diffusion::Schedule;
use lddgan::model::constants;
use lddgan::networks::{Discriminator, Generator};
use lddgan::parameters::{Parameters, TensorMap};
use lddgan::{DiffusionConfig, Recorder};
use lddgan_trainer::gan::{gradient_penalty, softplus_mean};
use lddgan_trainer::import::names::{self, Conversion, Source};
use lddgan_trainer::import::{Network, load_from, settings};

use crate::networks::{LARGE_DISCRIMINATORS, LARGE_GENERATORS};
use crate::recorded::{OUTPUTS, TRAINING, args, check, check_values, kept, large, recorded, steps, values};

fn schedule() -> Schedule {
    Schedule::new(&DiffusionConfig::default()).unwrap()
}

fn var(io: &TensorMap, name: &str) -> Var {
    Var::from_tensor(&io[name]).unwrap()
}

fn scalar(tensor: &Tensor) -> f64 {
    f64::from(tensor.to_scalar::<f32>().unwrap())
}

/// Compares with every gradient recorded under `prefix`; `source` gives the authors' tensor for each of ours.
fn check_gradients(
    label: &str,
    parameters: &Parameters,
    gradients: &GradStore,
    source: impl Fn(&str) -> Option<Source>,
    io: &TensorMap,
    prefix: &str,
) {
    let mut compared = 0;
    for (ours, var) in parameters.vars() {
        let Source { name, conversion } = source(&ours).unwrap();
        let Some(expected) = io.get(&format!("{prefix}{name}")) else { continue };
        let expected = match conversion {
            // The one that is moved out of the bias has no gradient.
            Conversion::Style => expected.clone(),
            conversion => conversion.apply(expected).unwrap(),
        };
        let found = gradients.get(&var).unwrap_or_else(|| panic!("{label}: {ours} has no gradient"));
        check(&format!("{label}: {prefix}{name}"), found, &expected, TRAINING);
        compared += 1;
    }
    let recorded = io.keys().filter(|key| key.starts_with(prefix) && !key.ends_with("/x_t")).count();
    assert!(compared > 0 && compared == recorded, "{label}: {compared} of {recorded} gradients under {prefix}");
}

#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_generators() {
    for (name, weights) in LARGE_GENERATORS {
        let folder = large(name);
        let io = recorded(&folder);
        if !io.contains_key("grad/cotangent") {
            continue;
        }
        let network = settings::read(&folder.join("config.json"), "generator").unwrap();
        let Network::Generator(config) = &network else { panic!("{name} is no generator") };
        let parameters = Parameters::new(0, &Device::Cpu);
        let generator = Generator::new(parameters.var_builder().pp("generator"), config).unwrap();
        parameters.load(&load_from(&network, &folder.join(weights)).unwrap(), name).unwrap();

        let (x, z) = (var(&io, "x"), var(&io, "z"));
        let step = generator.step_inputs(&schedule(), &steps(&io["t"]), &Device::Cpu).unwrap();
        let x_0 = generator.forward(&mut CandleBackend, &x, &step, &z).unwrap();
        let gradients = (x_0 * &io["grad/cotangent"]).unwrap().sum_all().unwrap().backward().unwrap();
        check(&format!("{name}: grad/x"), gradients.get(&x).unwrap(), &io["grad/x"], TRAINING);
        check(&format!("{name}: grad/z"), gradients.get(&z).unwrap(), &io["grad/z"], TRAINING);
        let source = |ours: &str| names::generator(config, ours.strip_prefix("generator.")?);
        check_gradients(name, &parameters, &gradients, source, &io, "grad/param/");
    }
}

/// A trainable discriminator, and what was recorded of it.
struct Recorded {
    name: &'static str,
    parameters: Parameters,
    discriminator: Discriminator,
    io: TensorMap,
    r1_gamma: f64,
}

impl Recorded {
    fn open(name: &'static str, folder: &Path) -> Self {
        let network = settings::read(&folder.join("config.json"), "discriminator").unwrap();
        let Network::Discriminator(config) = &network else { panic!("{name} is no discriminator") };
        let parameters = Parameters::new(0, &Device::Cpu);
        let discriminator = Discriminator::new(parameters.var_builder().pp("discriminator"), config).unwrap();
        parameters.load(&load_from(&network, &folder.join("netD.pth")).unwrap(), name).unwrap();
        let r1_gamma = args(folder)["r1_gamma"].as_f64().unwrap();
        Self { name, parameters, discriminator, io: recorded(folder), r1_gamma }
    }

    /// The logits of the first samples.
    fn logits(&self, x_t: &Tensor, samples: usize) -> lddgan::Result<Tensor> {
        let first = |tensor: &Tensor| tensor.narrow(0, 0, samples);
        let steps = steps(&first(&self.io["t"])?);
        let step = self.discriminator.step_inputs(&schedule(), &steps, &Device::Cpu)?;
        self.discriminator.forward(&mut CandleBackend, &first(x_t)?, &step, &first(&self.io["x_tp1"])?)
    }

    fn check(&self, recorded: &str, found: &Tensor, most: f64) {
        check(&format!("{}: {recorded}", self.name), found, &self.io[recorded], most);
    }

    fn check_gradients(&self, gradients: &GradStore, prefix: &str) {
        let source = |ours: &str| names::discriminator(ours.strip_prefix("discriminator.")?);
        check_gradients(self.name, &self.parameters, gradients, source, &self.io, prefix);
    }
}

fn check_discriminator(recorded: &Recorded) {
    let io = &recorded.io;
    let x_t = var(io, "x_t");
    let logits = recorded.logits(&x_t, x_t.dims()[0]).unwrap();
    recorded.check("logits", &logits, OUTPUTS);

    let gradients = logits.sum_all().unwrap().backward().unwrap();
    let gradient = gradients.get(&x_t).unwrap();
    recorded.check("grad_logits_sum/x_t", gradient, TRAINING);
    let norms = gradient.sqr().unwrap().flatten_from(1).unwrap().sum(1).unwrap();
    recorded.check("r1_per_sample_sqnorm", &norms, TRAINING);
    let penalty = gradient_penalty(&logits, &x_t, recorded.r1_gamma).unwrap();
    recorded.check("r1_penalty", &penalty, TRAINING);
    recorded.check_gradients(&penalty.backward().unwrap(), "grad_r1/");

    let loss = softplus_mean(&logits.neg().unwrap()).unwrap();
    check_values(&format!("{}: errD_real", recorded.name), &[scalar(&loss)], &values(&io["errD_real"]), TRAINING);
    recorded.check_gradients(&loss.backward().unwrap(), "grad_errD_real/");

    // Other batches are other groups of the minibatch standard deviation.
    for samples in [1, 3, 4] {
        let logits = recorded.logits(&io["x_t"], samples).unwrap();
        recorded.check(&format!("logits_first{samples}"), &logits, OUTPUTS);
    }
}

#[test]
fn discriminator_and_its_penalty() {
    check_discriminator(&Recorded::open("discriminator-small", &kept("discriminator-small")));
}

#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_discriminators_and_their_penalty() {
    LARGE_DISCRIMINATORS.iter().for_each(|name| check_discriminator(&Recorded::open(name, &large(name))));
}

#[test]
fn batches_without_groups_of_four_are_refused() {
    let recorded = Recorded::open("discriminator-small", &kept("discriminator-small"));
    let error = recorded.logits(&recorded.io["x_t"], 6).unwrap_err().to_string();
    assert!(error.contains("batch 6 must be less than 4 or a multiple of 4"), "{error}");

    let mut recorder = Recorder::new();
    let (x_t, x_tp1) = (&recorded.io["x_t"].dims()[1..], &recorded.io["x_tp1"].dims()[1..]);
    let x_t = recorder.input("x_t", &[&[6], x_t].concat());
    let x_tp1 = recorder.input("x_tp1", &[&[6], x_tp1].concat());
    let step = recorded.discriminator.step_inputs(&schedule(), &[0; 6], &Device::Cpu).unwrap();
    let step = constants(&mut recorder, &step).unwrap();
    let error = recorded.discriminator.forward(&mut recorder, &x_t, &step, &x_tp1).unwrap_err().to_string();
    assert!(error.contains("batch 6 must be less than 4 or a multiple of 4"), "{error}");
}
