//! Complete training iterations. Second-order gradients need `CANDLE_GRAD_DO_NOT_DETACH=1`, which `.cargo/config.toml`
//! sets; without it, the R1 penalty is an error.

use std::path::Path;

use candle_core::{Device, Tensor};
use lddgan::GeneratorConfig;
use lddgan::parameters::TensorMap;
use lddgan_trainer::distributed::Processes;
use lddgan_trainer::gan::{Draws, Setup, Step, Trainer};
use lddgan_trainer::import::{Network, load_from, names, settings};
use lddgan_trainer::precision::Precision;
use lddgan_trainer::preset::Preset;

use crate::networks::TRAINED;
use crate::recorded::{TRAINING, args, check, check_values, kept, large, recorded, steps, values};

/// Iterations with recorded draws, at a fixed place in the training: losses, then parameters and their average.
#[test]
fn training() {
    for (name, preset) in TRAINED.into_iter().zip(["cifar10", "ddgan-cifar10", "wavediff-stl10"]) {
        check_training(name, Preset::load(preset).unwrap(), &kept(name));
    }
}

#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn longer_training() {
    for (name, preset) in [("ddgan/train-step", "ddgan-cifar10"), ("wavediff/train-step", "wavediff-stl10")] {
        check_training(name, Preset::load(preset).unwrap(), &large(name));
    }
}

fn check_training(name: &str, mut preset: Preset, folder: &Path) {
    let settings_file = folder.join("config.json");
    let read = |network: &str| settings::read(&settings_file, network).unwrap();
    let (generator, discriminator) = (read("generator"), read("discriminator"));
    let (Network::Generator(generator_config), Network::Discriminator(config)) = (&generator, &discriminator) else {
        panic!("settings of other networks")
    };
    (preset.generator, preset.discriminator) = (generator_config.clone(), config.clone());
    let args = args(folder);
    let options = &mut preset.train_gan;
    options.r1_gamma = args["r1_gamma"].as_f64().unwrap();
    options.ema_decay = args["ema_decay"].as_f64().unwrap();
    options.lazy_reg = args["lazy_reg"].as_u64().unwrap();
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
    trainer.load(part, name).unwrap();

    let io = recorded(folder);
    let iterations = (0..).take_while(|iteration| io.contains_key(&format!("it{iteration}/t_d"))).count();
    for iteration in 0..iterations {
        let label = |what: &str| format!("{name}, iteration {iteration}: {what}");
        let get = |name: &str| &io[&format!("it{iteration}/{name}")];
        let draws = |half: &str| Draws {
            t: steps(get(&format!("t_{half}"))),
            noise_tp1: get(&format!("noise_tp1_{half}")).clone(),
            noise_t: get(&format!("noise_t_{half}")).clone(),
            z: get(&format!("z_{half}")).clone(),
            noise_posterior: get(&format!("noise_post_{half}")).clone(),
            shifts: Vec::new(),
        };
        let step = Step {
            penalty: (iteration as u64).is_multiple_of(preset.train_gan.lazy_reg),
            reconstruction_weight: preset.train_gan.reconstruction_weight(3.0 / 20.0),
            generator_learns: true,
        };
        let losses = trainer.step_with(get("real_data"), &draws("d"), &draws("g"), step).unwrap();
        let total = losses.adversarial + step.reconstruction_weight * losses.reconstruction;
        let scalars = [
            ("errD_real", losses.real),
            ("errD_fake", losses.fake),
            ("G_adv", losses.adversarial),
            ("errG_total", total),
        ];
        let reconstruction = (step.reconstruction_weight > 0.0).then_some(("rec_loss", losses.reconstruction));
        let penalty = losses.penalty.map(|penalty| ("grad_penalty", penalty));
        for (name, loss) in scalars.into_iter().chain(penalty).chain(reconstruction) {
            check_values(&label(name), &[loss], &values(get(name)), TRAINING);
        }
        if iteration == 0 {
            let [_, norm] = losses.gradient_norms;
            check_values(&label("gradG_total_l2norm"), &[norm], &values(get("gradG_total_l2norm")), TRAINING);
        }
        compare_parameters(&trainer, &format!("it{iteration}"), &io, generator_config);
    }
}

/// Parameters and average against all that were recorded after an iteration.
fn compare_parameters(trainer: &Trainer, iteration: &str, io: &TensorMap, config: &GeneratorConfig) {
    let state = trainer.state().unwrap();
    let mut compared = 0;
    let groups = [("generator", "paramG"), ("ema", "emaG"), ("discriminator", "paramD")];
    for (part, group) in groups {
        for (key, tensor) in &state {
            let Some(ours) = key.strip_prefix(part).and_then(|key| key.strip_prefix('/')) else { continue };
            let source = match ours.split_once('.') {
                Some(("generator", ours)) => names::generator(config, ours),
                Some((_, ours)) => names::discriminator(ours),
                None => None,
            };
            let Some(source) = source else { continue };
            let Some(expected) = io.get(&format!("{iteration}/{group}/{}", source.name)) else { continue };
            let expected = source.conversion.apply(expected).unwrap();
            check(&format!("{iteration}: {group}/{}", source.name), tensor, &expected, TRAINING);
            compared += 1;
        }
    }
    let of_groups = |key: &&String| groups.iter().any(|(_, group)| key.starts_with(&format!("{iteration}/{group}/")));
    assert_eq!(compared, io.keys().filter(of_groups).count(), "{iteration}: parameters that are compared");
}
