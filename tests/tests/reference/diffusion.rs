//! Schedules, forward and posterior sampling, and the sampling loop.

use candle_core::{Device, Tensor};
use lddgan::diffusion::Schedule;
use lddgan::parameters::TensorMap;
use lddgan::{AutoencoderConfig, DiffusionConfig, ModelFile, NetworkName};
use lddgan_trainer::gan::reconstruction_weight;
use lddgan_trainer::preset::{LatentNormalization, Preset};

use crate::recorded::{BACKENDS, OUTPUTS, check, check_values, import, kept, large, recorded, run, values};

#[test]
fn diffusion() {
    let folder = kept("diffusion");
    let io = recorded(&folder);
    let steps = |name: &str| values(&io[name]).into_iter().map(|t| t as u32).collect::<Vec<_>>();
    for t in [1, 2, 4, 8] {
        let schedule = Schedule::new(&DiffusionConfig::linear(t)).unwrap();
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

/// All steps of a recorded sampling loop, each on what the step before gave; the last latent on each backend.
fn check_loop(name: &str, file: &ModelFile, io: &TensorMap) -> Vec<Tensor> {
    let count = io.keys().filter(|key| key.starts_with("loop/z_t")).count();
    let schedule = Schedule::new(&DiffusionConfig::linear(count)).unwrap();
    let sample = |backend| {
        let mut x = io["loop/x_init"].clone();
        let batch = x.dims()[0];
        for t in (0..count as u32).rev() {
            let steps = Tensor::new(vec![i64::from(t); batch], &Device::Cpu).unwrap();
            let inputs = [("x", &x), ("t", &steps), ("z", &io[&format!("loop/z_t{t}")])];
            let x_0 = run(file, NetworkName::Generator, &inputs, backend).remove("x0").unwrap();
            check(&format!("{name}, {backend:?}: x0_pred_t{t}"), &x_0, &io[&format!("loop/x0_pred_t{t}")], OUTPUTS);
            x = schedule.sample_posterior(&x_0, &x, &vec![t; batch], &io[&format!("loop/noise_t{t}")]).unwrap();
        }
        check(&format!("{name}, {backend:?}: result"), &x, &io["loop/result"], OUTPUTS);
        x
    };
    BACKENDS.map(sample).to_vec()
}

/// LDDGAN's loop ends with latents.
#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_loop_of_latents() {
    let folder = large("lddgan/generator-tiny");
    let file = import(&folder.join("config.json"), "generator", &folder.join("netG_950.pth"));
    check_loop("generator-tiny", &file, &recorded(&kept("diffusion")));
}

/// Those of the other two end with images, of which a picture shows what is within [-1, 1].
#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_loops_of_images() {
    for (name, weights, preset) in [
        ("ddgan/generator-cifar10", "netG_1200.pth", "ddgan-cifar10"),
        ("ddgan/generator-celebahq", "netG_550.pth", "ddgan-celebahq256"),
        ("wavediff/generator-cifar10", "netG_1300.pth", "wavediff-cifar10"),
        ("wavediff/generator-celebahq256", "netG_475.pth", "wavediff-celebahq256"),
    ] {
        let folder = large(name);
        let mut file = import(&folder.join("config.json"), "generator", &folder.join(weights));
        let io = recorded(&folder);
        let preset = Preset::load(preset).unwrap();
        let LatentNormalization::Fixed(scale) = preset.train_gan.latent_normalization else { panic!("{name}") };
        let latents = check_loop(name, &file, &io);
        file.config.autoencoder =
            Some(AutoencoderConfig { image_size: io["loop/image"].dims()[3], ..preset.autoencoder.clone() });
        for (latent, backend) in latents.iter().zip(BACKENDS) {
            let latent = latent.affine(scale.into(), 0.0).unwrap();
            let image = run(&file, NetworkName::Decoder, &[("latent", &latent)], backend).remove("image").unwrap();
            let shown = image.clamp(-1f32, 1f32).unwrap().affine(0.5, 0.5).unwrap();
            check(&format!("{name}, {backend:?}: image"), &shown, &io["loop/image"], OUTPUTS);
        }
    }
}
