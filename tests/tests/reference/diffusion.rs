//! Schedules, forward and posterior sampling, and the sampling loop.

use candle_core::{Device, Tensor};
use lddgan::DiffusionConfig;
use lddgan::diffusion::Schedule;
use lddgan_trainer::gan::reconstruction_weight;
use lddgan_trainer::network::NetworkName;

use crate::recorded::{BACKENDS, OUTPUTS, check, check_values, folder, import, recorded, run, values};

#[test]
fn diffusion() {
    let folder = folder("diffusion").unwrap();
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

/// The four steps with recorded noise, each on what the step before gave.
#[test]
fn sampling_loop() {
    let Some(folder) = folder("generator-tiny") else { return };
    let file = import(&folder.join("config.json"), "generator", &folder.join("netG_950.pth"));
    let io = recorded(&crate::recorded::folder("diffusion").unwrap());
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
