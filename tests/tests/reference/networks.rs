//! Whole networks with the authors' weights, on the CPU and through WebGPU.

use std::path::Path;

use candle_core::Tensor;
use lddgan::diffusion::Schedule;
use lddgan::parameters::TensorMap;
use lddgan::{DiffusionConfig, NetworkName};

use crate::recorded::{BACKENDS, OUTPUTS, check, import, kept, large, recorded, run, steps, values};

/// Recorded generators that are not kept here, and their checkpoints.
pub const LARGE_GENERATORS: [(&str, &str); 10] = [
    ("lddgan/generator-tiny", "netG_950.pth"),
    ("lddgan/generator-celeba-tiny", "netG_725.pth"),
    ("ddgan/generator-cifar10", "netG_1200.pth"),
    ("ddgan/generator-celebahq", "netG_550.pth"),
    ("wavediff/generator-cifar10", "netG_1300.pth"),
    ("wavediff/generator-stl10", "netG_600.pth"),
    ("wavediff/generator-celebahq256", "netG_475.pth"),
    ("wavediff/generator-celebahq512", "netG_350.pth"),
    ("wavediff/generator-celebahq1024", "netG_350.pth"),
    ("wavediff/generator-church", "netG_400.pth"),
];

/// Recorded discriminators that are not kept here.
pub const LARGE_DISCRIMINATORS: [&str; 5] = [
    "lddgan/discriminator-large",
    "ddgan/discriminator-small",
    "ddgan/discriminator-large",
    "wavediff/discriminator-small",
    "wavediff/discriminator-large",
];

/// The three systems, by the recording of two or three iterations of their training.
pub const TRAINED: [&str; 3] = ["train-step", "ddgan/train-step", "wavediff/train-step"];

#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_generators() {
    for (name, weights) in LARGE_GENERATORS {
        let folder = large(name);
        let file = import(&folder.join("config.json"), "generator", &folder.join(weights));
        let io = recorded(&folder);
        let inputs = ["x", "t", "z"].map(|name| (name, &io[name]));
        for backend in BACKENDS {
            let outputs = run(&file, NetworkName::Generator, &inputs, backend);
            check(&format!("{name}, {backend:?}: x0_pred"), &outputs["x0"], &io["x0_pred"], OUTPUTS);
        }
    }
}

/// x_t and x_{t+1} of the real pair that a half (`d` or `g`) of the first training iteration saw.
fn pair(io: &TensorMap, half: &str) -> (Tensor, Tensor) {
    let get = |name: &str| &io[&format!("it0/{name}_{half}")];
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    let t = steps(get("t"));
    schedule.q_sample_pairs(&io["it0/real_data"], &t, get("noise_t"), get("noise_tp1")).unwrap()
}

/// What the networks of each system made of the first batch of a training: the generator before its first update, and the
/// discriminator before its own.
#[test]
fn networks_at_the_start_of_a_training() {
    for name in TRAINED {
        let folder = kept(name);
        let io = recorded(&folder);
        let network =
            |network: &str, weights: &str| import(&folder.join("config.json"), network, &folder.join(weights));
        let (generator, discriminator) =
            (network("generator", "netG_init.pth"), network("discriminator", "netD_init.pth"));
        let ((_, x), (x_t, x_tp1)) = (pair(&io, "g"), pair(&io, "d"));
        for backend in BACKENDS {
            let label = |output: &str| format!("{name}, {backend:?}: {output}");
            let inputs = [("x", &x), ("t", &io["it0/t_g"]), ("z", &io["it0/z_g"])];
            let outputs = run(&generator, NetworkName::Generator, &inputs, backend);
            check(&label("x0_pred"), &outputs["x0"], &io["it0/x0_pred_g"], OUTPUTS);
            let inputs = [("x_t", &x_t), ("t", &io["it0/t_d"]), ("x_tp1", &x_tp1)];
            let outputs = run(&discriminator, NetworkName::Discriminator, &inputs, backend);
            check(&label("logits"), &outputs["logits"], &io["it0/D_real_logits"], OUTPUTS);
        }
    }
}

fn check_discriminator(name: &str, folder: &Path) {
    let file = import(&folder.join("config.json"), "discriminator", &folder.join("netD.pth"));
    let io = recorded(folder);
    let inputs = ["x_t", "t", "x_tp1"].map(|name| (name, &io[name]));
    for backend in BACKENDS {
        let outputs = run(&file, NetworkName::Discriminator, &inputs, backend);
        check(&format!("{name}, {backend:?}: logits"), &outputs["logits"], &io["logits"], OUTPUTS);
    }
}

#[test]
fn discriminator() {
    check_discriminator("discriminator-small", &kept("discriminator-small"));
}

#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_discriminators() {
    LARGE_DISCRIMINATORS.iter().for_each(|name| check_discriminator(name, &large(name)));
}

fn check_kl_autoencoder(name: &str, folder: &Path, weights: &str) {
    let file = import(&folder.join("config.yaml"), "autoencoder", &folder.join(weights));
    let io = recorded(folder);
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

#[test]
fn kl_autoencoder() {
    check_kl_autoencoder("autoencoder-kl-f2", &kept("autoencoder-kl-f2"), "16x16x4_551.ckpt");
}

#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_kl_autoencoder() {
    check_kl_autoencoder("autoencoder-kl-f8", &large("lddgan/autoencoder-kl-f8"), "LSUN_weight.ckpt");
}

#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_vq_autoencoder() {
    let folder = large("lddgan/autoencoder-vq-f4");
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
        let decoded =
            lddgan_trainer::network::run(&file, "imported", NetworkName::Decoder, &inputs, backend, false).unwrap();
        check(&label("not quantised"), &decoded["image"], &io["decode_noquant_of_z_in"], OUTPUTS);
    }
}
