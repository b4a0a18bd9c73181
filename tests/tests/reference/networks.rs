//! Whole networks with the authors' weights, on the CPU and through WebGPU.

use lddgan::parameters::TensorMap;
use lddgan_trainer::network::{self, NetworkName};

use crate::recorded::{BACKENDS, OUTPUTS, check, folder, import, recorded, run, values};

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
