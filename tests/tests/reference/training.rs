//! Complete training iterations. Second-order gradients need `CANDLE_GRAD_DO_NOT_DETACH=1`, which `.cargo/config.toml`
//! sets; without it, the R1 penalty is an error.

use candle_core::{Device, Tensor};
use lddgan::GeneratorConfig;
use lddgan::parameters::TensorMap;
use lddgan_trainer::distributed::Processes;
use lddgan_trainer::gan::{Draws, Setup, Step, Trainer, reconstruction_weight};
use lddgan_trainer::import::{Network, load_from, names, settings};
use lddgan_trainer::precision::Precision;
use lddgan_trainer::preset::Preset;

use crate::recorded::{TRAINING, check, check_values, folder, recorded, values};

/// Three iterations with recorded draws: losses, then parameters and their average.
#[test]
fn training() {
    let folder = folder("train-step").unwrap();
    let settings_file = folder.join("config.json");
    let read = |network: &str| settings::read(&settings_file, network).unwrap();
    let (generator, discriminator) = (read("generator"), read("discriminator"));
    let mut preset = Preset::load("cifar10").unwrap();
    let (Network::Generator(generator_config), Network::Discriminator(config)) = (&generator, &discriminator) else {
        panic!("settings of other networks")
    };
    (preset.generator, preset.discriminator) = (generator_config.clone(), config.clone());
    let options = &mut preset.train_gan;
    (options.r1_gamma, options.lazy_reg, options.ema_decay) = (2.0, 2, 0.9);
    let setup = Setup {
        preset: &preset,
        seed: 0,
        precision: Precision::F32,
        device: &Device::Cpu,
        processes: &Processes::alone(),
        moments: None,
    };
    let mut trainer = Trainer::new(&setup).unwrap();
    let fresh = trainer.state().unwrap();
    let generator_tensors = load_from(&generator, &folder.join("netG_init.pth")).unwrap();
    let discriminator_tensors = load_from(&discriminator, &folder.join("netD_init.pth")).unwrap();
    let part = |name: &str| match name {
        "generator" => generator_tensors.clone(),
        "discriminator" => discriminator_tensors.clone(),
        other => {
            let own = |(key, tensor): (&String, &Tensor)| {
                Some((key.strip_prefix(other)?.strip_prefix('/')?.to_string(), tensor.clone()))
            };
            fresh.iter().filter_map(own).collect()
        }
    };
    trainer.load(part, "train-step").unwrap();

    let io = recorded(&folder);
    for iteration in 0..3 {
        let get = |name: &str| &io[&format!("it{iteration}/{name}")];
        let draws = |half: &str| Draws {
            t: values(get(&format!("t_{half}"))).into_iter().map(|t| t as u32).collect(),
            noise_tp1: get(&format!("noise_tp1_{half}")).clone(),
            noise_t: get(&format!("noise_t_{half}")).clone(),
            z: get(&format!("z_{half}")).clone(),
            noise_posterior: get(&format!("noise_post_{half}")).clone(),
            shifts: Vec::new(),
        };
        let step = Step { penalty: iteration % 2 == 0, reconstruction_weight: reconstruction_weight(3.0 / 20.0) };
        let losses = trainer.step_with(get("real_data"), &draws("d"), &draws("g"), step).unwrap();
        let scalars = [
            ("errD_real", losses.real),
            ("errD_fake", losses.fake),
            ("G_adv", losses.adversarial),
            ("rec_loss", losses.reconstruction),
            ("alpha", step.reconstruction_weight),
        ];
        let penalty = losses.penalty.map(|penalty| ("grad_penalty", penalty));
        for (name, loss) in scalars.into_iter().chain(penalty) {
            check_values(&format!("iteration {iteration}: {name}"), &[loss], &values(get(name)), TRAINING);
        }
        if iteration != 1 {
            compare_parameters(&trainer, iteration, &io, generator_config);
        }
    }
}

/// Parameters and average against what was recorded after an iteration.
fn compare_parameters(trainer: &Trainer, iteration: usize, io: &TensorMap, config: &GeneratorConfig) {
    let state = trainer.state().unwrap();
    let mut compared = 0;
    for (part, group) in [("generator", "paramG"), ("ema", "emaG"), ("discriminator", "paramD")] {
        for (key, tensor) in &state {
            let Some(ours) = key.strip_prefix(part).and_then(|key| key.strip_prefix('/')) else { continue };
            let source = match ours.split_once('.') {
                Some(("generator", ours)) => names::generator(config, ours),
                Some((_, ours)) => names::discriminator(ours),
                None => None,
            };
            let Some(source) = source else { continue };
            let Some(expected) = io.get(&format!("it{iteration}/{group}/{}", source.name)) else { continue };
            let expected = source.conversion.apply(expected).unwrap();
            check(&format!("iteration {iteration}: {group}/{}", source.name), tensor, &expected, TRAINING);
            compared += 1;
        }
    }
    assert_eq!(compared, 14, "5 parameters of the generator, as many averages, 4 of the discriminator");
}
