//! The authors' checkpoint files.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use lddgan::parameters::TensorMap;
use lddgan_trainer::import::pytorch::PytorchFile;
use lddgan_trainer::import::{Network, load_from, settings};

use crate::recorded::{kept, values};

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
    let recording = kept("checkpoint-reader");
    let expected = expected_tensors(&recording.join("expected.safetensors"));
    let lightning = PytorchFile::open(&recording.join("lightning.ckpt")).unwrap();
    assert_eq!(lightning.number("global_step"), Some(3456));
    for (file, prefix) in [("netG_7.pth", "netG/"), ("legacy_format.pth", "netG/"), ("lightning.ckpt", "lightning/")] {
        let file = PytorchFile::open(&recording.join(file)).unwrap();
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
    let recording = kept("checkpoint-reader");
    for name in ["netG_7.pth", "legacy_format.pth", "lightning.ckpt"] {
        let whole = std::fs::read(recording.join(name)).unwrap();
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
    let recording = kept("discriminator-small");
    let Network::Discriminator(mut config) = settings::read(&recording.join("config.json"), "discriminator").unwrap()
    else {
        panic!("no discriminator")
    };
    config.layers = 4;
    config.time_embedding += 2;
    let error = load_from(&Network::Discriminator(config), &recording.join("netD.pth")).unwrap_err().to_string();
    for words in ["missing: conv4.conv1.0.weight", "wrong shape: t_embed.main.0.weight", "missing: conv4.skip.0.weight"]
    {
        assert!(error.contains(words), "{error}");
    }
    // A generator is something else altogether.
    let train = kept("train-step");
    let network = settings::read(&train.join("config.json"), "generator").unwrap();
    let error = load_from(&network, &recording.join("netD.pth")).unwrap_err().to_string();
    assert!(error.contains("missing: z_transform.1.weight") && error.contains("unknown: start_conv.weight"), "{error}");
}
