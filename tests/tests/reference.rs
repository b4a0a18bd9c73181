//! Our networks, diffusion and training step against numbers recorded from the authors' PyTorch implementation.
//!
//! `fixtures/` holds the recordings that always run. `LDDGAN_FIXTURES` names a folder with all of them. The WebGPU
//! half needs an adapter; a software one (Mesa's lavapipe) is enough.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use lddgan::diffusion::Schedule;
use lddgan::parameters::TensorMap;
use lddgan::{DiffusionConfig, ModelFile, Provenance};
use lddgan_trainer::gan::{Draws, Step, Trainer, reconstruction_weight};
use lddgan_trainer::import::pytorch::PytorchFile;
use lddgan_trainer::import::{Network, load_from, names, settings};
use lddgan_trainer::network::{self, BackendName, NetworkName};
use lddgan_trainer::preset::Preset;

/// Largest error of an output, relative to the largest value of what was recorded.
const OUTPUTS: f64 = 1e-4;
/// The same for losses, gradients and trained parameters.
const TRAINING: f64 = 1e-3;

/// The folder of a recording, or `None` (said aloud) where it is not here.
fn folder(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    match std::env::var_os("LDDGAN_FIXTURES") {
        Some(all) => {
            let folder = Path::new(&all).join(name);
            assert!(folder.is_dir(), "LDDGAN_FIXTURES has no folder {name}: {}", folder.display());
            Some(folder)
        }
        None if own.is_dir() => Some(own),
        None => {
            println!("{name}: left out, it is too large to be kept here; name the whole set in LDDGAN_FIXTURES");
            None
        }
    }
}

fn recorded(folder: &Path) -> TensorMap {
    candle_core::safetensors::load(folder.join("io.safetensors"), &Device::Cpu).unwrap().into_iter().collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Checks the largest error, relative to the largest recorded value.
fn check(label: &str, found: &Tensor, expected: &Tensor, most: f64) {
    assert_eq!(found.elem_count(), expected.elem_count(), "{label}: {:?}, {:?}", found.dims(), expected.dims());
    check_values(label, &values(found), &values(expected), most);
}

fn check_values(label: &str, found: &[f64], expected: &[f64], most: f64) {
    assert_eq!(found.len(), expected.len(), "{label}");
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let errors = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs() / largest);
    let error = errors.max_by(f64::total_cmp).unwrap();
    println!("{label}: {error:.1e}");
    assert!(error <= most, "{label}: {error:e} of the largest value, more than {most:e}");
}

/// One network of the authors as a model file of ours, through bytes.
fn import(settings_file: &Path, network: &str, weights: &Path) -> ModelFile {
    let network = settings::read(settings_file, network).unwrap();
    let tensors = load_from(&network, weights).unwrap();
    let file = ModelFile { config: network.file_config(), provenance: Provenance::default(), tensors };
    ModelFile::from_bytes(&file.to_bytes(DType::F32).unwrap(), "imported").unwrap()
}

const BACKENDS: [BackendName; 2] = [BackendName::Cpu, BackendName::Wgpu];

fn run(file: &ModelFile, network: NetworkName, inputs: &[(&str, &Tensor)], backend: BackendName) -> TensorMap {
    let inputs = inputs.iter().map(|(name, tensor)| (name.to_string(), (*tensor).clone())).collect();
    network::run(file, "imported", network, &inputs, backend, true).unwrap()
}

/// Candle reads no booleans: they are bytes here.
fn expected_tensors(path: &Path) -> TensorMap {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let load = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let tensor = match view.dtype() {
            safetensors::Dtype::BOOL => Tensor::from_raw_buffer(view.data(), DType::U8, view.shape(), &Device::Cpu),
            _ => candle_core::safetensors::Load::load(&view, &Device::Cpu),
        };
        (name, tensor.unwrap())
    };
    file.tensors().into_iter().map(load).collect()
}

#[test]
fn checkpoints_are_read_with_all_their_oddities() {
    let folder = folder("checkpoint-reader").unwrap();
    let expected = expected_tensors(&folder.join("expected.safetensors"));
    let lightning = PytorchFile::open(&folder.join("lightning.ckpt")).unwrap();
    assert_eq!(lightning.number("global_step"), Some(3456));
    for (file, prefix) in [("netG_7.pth", "netG/"), ("legacy_format.pth", "netG/"), ("lightning.ckpt", "lightning/")] {
        let file = PytorchFile::open(&folder.join(file)).unwrap();
        let state = file.state_dict(&["state_dict"]).unwrap();
        let names: Vec<_> = state.shapes().map(|(name, _)| name.to_string()).collect();
        let needed = expected.keys().filter(|name| name.starts_with(prefix)).count();
        assert_eq!(names.len(), needed, "{names:?}");
        for name in names {
            let (found, expected) = (state.tensor(&name).unwrap(), &expected[&format!("{prefix}{name}")]);
            assert_eq!(found.dims(), expected.dims(), "{name}");
            assert_eq!(values(&found), values(expected), "{name}");
        }
    }
}

#[test]
fn broken_checkpoints_are_errors() {
    let folder = folder("checkpoint-reader").unwrap();
    for name in ["netG_7.pth", "legacy_format.pth", "lightning.ckpt"] {
        let whole = std::fs::read(folder.join(name)).unwrap();
        for end in (0..whole.len()).step_by(37) {
            let error = PytorchFile::from_bytes(whole[..end].to_vec(), Path::new(name));
            let error = error.err().unwrap_or_else(|| panic!("{name} cut at {end} was read")).to_string();
            assert!(error.starts_with(name), "{error}");
        }
        // A flipped byte is an error or leaves values of the same shapes; it never panics.
        for position in 0..whole.len() {
            let mut altered = whole.clone();
            altered[position] ^= 0x55;
            let Ok(file) = PytorchFile::from_bytes(altered, Path::new(name)) else { continue };
            let Ok(state) = file.state_dict(&["state_dict"]) else { continue };
            let names: Vec<_> = state.shapes().map(|(name, _)| name.to_string()).collect();
            names.iter().for_each(|name| drop(state.tensor(name)));
        }
    }
}

#[test]
fn a_checkpoint_of_other_settings_lists_every_tensor() {
    let folder = folder("discriminator-small").unwrap();
    let Network::Discriminator(mut config) = settings::read(&folder.join("config.json"), "discriminator").unwrap()
    else {
        panic!("no discriminator")
    };
    config.layers = 4;
    config.time_embedding += 2;
    let error = load_from(&Network::Discriminator(config), &folder.join("netD.pth")).unwrap_err().to_string();
    for words in ["missing: conv4.conv1.0.weight", "wrong shape: t_embed.main.0.weight", "missing: conv4.skip.0.weight"]
    {
        assert!(error.contains(words), "{error}");
    }
    // A generator is something else altogether.
    let train = self::folder("train-step").unwrap();
    let network = settings::read(&train.join("config.json"), "generator").unwrap();
    let error = load_from(&network, &folder.join("netD.pth")).unwrap_err().to_string();
    assert!(error.contains("missing: z_transform.1.weight") && error.contains("unknown: start_conv.weight"), "{error}");
}

#[test]
fn generators() {
    for (name, weights) in [("generator-tiny", "netG_950.pth"), ("generator-celeba-tiny", "netG_725.pth")] {
        let Some(folder) = folder(name) else { continue };
        let file = import(&folder.join("config.json"), "generator", &folder.join(weights));
        let io = recorded(&folder);
        let inputs = ["x", "t", "z"].map(|name| (name, &io[name]));
        for backend in BACKENDS {
            let outputs = run(&file, NetworkName::Generator, &inputs, backend);
            check(&format!("{name}, {backend:?}: x0_pred"), &outputs["x0"], &io["x0_pred"], OUTPUTS);
        }
    }
}

#[test]
fn discriminators() {
    for name in ["discriminator-small", "discriminator-large"] {
        let Some(folder) = folder(name) else { continue };
        let file = import(&folder.join("config.json"), "discriminator", &folder.join("netD.pth"));
        let io = recorded(&folder);
        let inputs = ["x_t", "t", "x_tp1"].map(|name| (name, &io[name]));
        for backend in BACKENDS {
            let outputs = run(&file, NetworkName::Discriminator, &inputs, backend);
            check(&format!("{name}, {backend:?}: logits"), &outputs["logits"], &io["logits"], OUTPUTS);
        }
    }
}

#[test]
fn kl_autoencoders() {
    for (name, weights) in [("autoencoder-kl-f2", "16x16x4_551.ckpt"), ("autoencoder-kl-f8", "LSUN_weight.ckpt")] {
        let Some(folder) = folder(name) else { continue };
        let file = import(&folder.join("config.yaml"), "autoencoder", &folder.join(weights));
        let io = recorded(&folder);
        for backend in BACKENDS {
            let label = |output: &str| format!("{name}, {backend:?}: {output}");
            let encoded = run(&file, NetworkName::Encoder, &[("x", &io["x"])], backend);
            check(&label("mean"), &encoded["mean"], &io["mean"], OUTPUTS);
            check(&label("latent"), &encoded["latent"], &io["mode"], OUTPUTS);
            check(&label("logvar"), &encoded["logvar"], &io["logvar_clamped"], OUTPUTS);
            let decoded = run(&file, NetworkName::Decoder, &[("latent", &io["z_in"])], backend);
            check(&label("image"), &decoded["image"], &io["decode_of_z_in"], OUTPUTS);
        }
    }
}

#[test]
fn vq_autoencoder() {
    let Some(folder) = folder("autoencoder-vq-f4") else { return };
    let file = import(&folder.join("config.yaml"), "autoencoder", &folder.join("CELEBA_weight.ckpt"));
    let io = recorded(&folder);
    for backend in BACKENDS {
        let label = |output: &str| format!("autoencoder-vq-f4, {backend:?}: {output}");
        let encoded = run(&file, NetworkName::Encoder, &[("x", &io["x"])], backend);
        check(&label("latent"), &encoded["latent"], &io["latent"], OUTPUTS);
        for (latent, image, indices) in
            [("latent", "decode_quant_of_latent", "latent_indices"), ("z_in", "decode_quant_of_z_in", "z_in_indices")]
        {
            let decoded = run(&file, NetworkName::Decoder, &[("latent", &io[latent])], backend);
            check(&label(image), &decoded["image"], &io[image], OUTPUTS);
            assert_eq!(values(&decoded["indices"]), values(&io[indices]), "{}", label(indices));
        }
        let inputs = TensorMap::from([("latent".to_string(), io["z_in"].clone())]);
        let decoded = network::run(&file, "imported", NetworkName::Decoder, &inputs, backend, false).unwrap();
        check(&label("not quantised"), &decoded["image"], &io["decode_noquant_of_z_in"], OUTPUTS);
    }
}

#[test]
fn diffusion() {
    let folder = folder("diffusion").unwrap();
    let io = recorded(&folder);
    let steps = |name: &str| values(&io[name]).into_iter().map(|t| t as u32).collect::<Vec<_>>();
    for t in [1, 2, 4, 8] {
        let schedule = Schedule::new(&DiffusionConfig { steps: t, ..Default::default() }).unwrap();
        let variance: Vec<f32> = schedule.posterior_std.iter().map(|std| std * std).collect();
        let tables = [
            ("sigmas", &schedule.sigmas),
            ("a_s", &schedule.a_s),
            ("a_s_cum", &schedule.a_s_cum),
            ("sigmas_cum", &schedule.sigmas_cum),
            ("posterior_mean_coef1", &schedule.posterior_mean_coef1),
            ("posterior_mean_coef2", &schedule.posterior_mean_coef2),
            ("posterior_variance", &variance),
        ];
        for (name, table) in tables {
            let found: Vec<f64> = table.iter().map(|&value| value.into()).collect();
            check_values(&format!("T = {t}: {name}"), &found, &values(&io[&format!("T{t}/{name}")]), 1e-6);
        }
        if t == 2 || t == 4 {
            let of = |group: &str, name: &str| io[&format!("{group}_T{t}/{name}")].clone();
            let pairs = |name: &str| of("pairs", name);
            let (x_t, x_tp1) = schedule
                .q_sample_pairs(
                    &pairs("x_start"),
                    &steps(&format!("pairs_T{t}/t")),
                    &pairs("noise_for_x_t"),
                    &pairs("noise_for_x_tp1"),
                )
                .unwrap();
            check(&format!("T = {t}: x_t"), &x_t, &pairs("x_t"), 1e-6);
            check(&format!("T = {t}: x_tp1"), &x_tp1, &pairs("x_tp1"), 1e-6);
            let posterior = |name: &str| of("posterior", name);
            let t_of = steps(&format!("posterior_T{t}/t"));
            let sample =
                schedule.sample_posterior(&posterior("x_0"), &posterior("x_t"), &t_of, &posterior("noise")).unwrap();
            check(&format!("T = {t}: posterior sample"), &sample, &posterior("sample"), 1e-6);
        }
    }
    let weights: Vec<f64> = (0..=20).map(|epoch| reconstruction_weight(f64::from(epoch) / 20.0)).collect();
    check_values("weight of the reconstruction", &weights, &values(&io["alpha_num_epoch20_f64"]), 1e-6);
}

/// The four steps with recorded noise, each on what the step before gave.
#[test]
fn sampling_loop() {
    let Some(folder) = folder("generator-tiny") else { return };
    let file = import(&folder.join("config.json"), "generator", &folder.join("netG_950.pth"));
    let io = recorded(&self::folder("diffusion").unwrap());
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    for backend in BACKENDS {
        let mut x = io["loop/x_init"].clone();
        for t in (0..4u32).rev() {
            let steps = Tensor::new(&[i64::from(t); 2], &Device::Cpu).unwrap();
            let inputs = [("x", &x), ("t", &steps), ("z", &io[&format!("loop/z_t{t}")])];
            let x_0 = run(&file, NetworkName::Generator, &inputs, backend).remove("x0").unwrap();
            check(&format!("loop, {backend:?}: x0_pred_t{t}"), &x_0, &io[&format!("loop/x0_pred_t{t}")], OUTPUTS);
            x = schedule.sample_posterior(&x_0, &x, &[t; 2], &io[&format!("loop/noise_t{t}")]).unwrap();
        }
        check(&format!("loop, {backend:?}: result"), &x, &io["loop/result"], OUTPUTS);
    }
}

/// Three iterations with recorded draws: losses, then parameters and their average.
#[test]
fn training() {
    // SAFETY: no test of this file reads the environment meanwhile but through the standard library, which locks it.
    unsafe { std::env::set_var("CANDLE_GRAD_DO_NOT_DETACH", "1") };
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
    let mut trainer = Trainer::new(&preset, 0, &Device::Cpu).unwrap();
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
fn compare_parameters(trainer: &Trainer, iteration: usize, io: &TensorMap, config: &lddgan::GeneratorConfig) {
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

/// Parameters and GFLOPs of the published networks, as counted in the authors' implementation.
#[test]
fn sizes_of_the_published_networks() {
    use lddgan::cost::{self, Cost};
    let sizes = [
        ("cifar10", [(33_329_668, 3.32), (7_628_545, 0.70), (6_015_184, 4.19), (8_631_575, 7.23)], 20.52),
        ("celebahq256", [(48_366_723, 54.39), (17_510_529, 9.39), (22_337_423, 345.24), (32_960_783, 670.78)], 779.57),
        ("church256", [(61_858_180, 17.93), (17_510_785, 2.35), (34_163_664, 272.72), (49_490_199, 622.19)], 693.89),
    ];
    for (name, expected, sampling) in sizes {
        let preset = Preset::load(name).unwrap();
        let costs = [
            cost::generator(&preset.generator).unwrap(),
            cost::discriminator(&preset.discriminator, preset.generator.latent_size).unwrap(),
            cost::encoder(&preset.autoencoder).unwrap(),
            cost::decoder(&preset.autoencoder).unwrap(),
        ];
        let rounded = |flops: u64| (flops as f64 / 1e7).round() / 100.0;
        let found = costs.map(|Cost { parameters, flops }| (parameters, rounded(flops)));
        assert_eq!(found, expected, "{name}: generator, discriminator, encoder, decoder");
        let steps = preset.diffusion.steps as u64;
        // The recorded sum was rounded on another way.
        let whole = rounded(steps * costs[0].flops + costs[3].flops);
        assert!((whole - sampling).abs() < 0.011, "{name}: {whole} instead of {sampling}");
    }
}
