//! The spread of fresh weights.

use candle_core::Device;
use lddgan::networks::{Discriminator, Generator};
use lddgan::parameters::{Parameters, TensorMap};
use lddgan_trainer::preset::Preset;
use serde_json::Value;

use crate::recorded::{kept, values};

/// A generator and a discriminator that have layers of all recorded sizes.
fn fresh() -> TensorMap {
    let mut preset = Preset::load("cifar10").unwrap();
    (preset.generator.multipliers, preset.generator.blocks) = (vec![1, 2], 1);
    preset.discriminator.channels = 32;
    let parameters = Parameters::new(0, &Device::Cpu);
    let vb = parameters.var_builder();
    Generator::new(vb.pp("generator"), &preset.generator).unwrap();
    Discriminator::new(vb.pp("discriminator"), &preset.discriminator).unwrap();
    parameters.tensors()
}

/// Both are samples of a uniform distribution around zero: their standard deviations, largest and mean values differ
/// by what sampling explains.
#[test]
fn fresh_weights_are_spread_as_the_authors() {
    let text = std::fs::read(kept("ops").join("init_statistics.json")).unwrap();
    let recorded: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
    let layers = [
        ("conv3x3 256->128 scale 1", "generator.up.0.block.1.conv1"),
        ("conv3x3 128->128 scale 0", "generator.up.0.block.1.conv2"),
        ("conv1x1 256->128", "generator.up.0.block.1.shortcut"),
        ("NIN 256->256 default scale 0.1", "generator.middle.attention.query"),
        ("NIN 256->256 scale 0", "generator.middle.attention.out"),
        ("dense (mapping / AdaGN / D) 256->512", "generator.middle.block1.norm1.style"),
        ("D conv2d 3x3 64->128 scale 1", "discriminator.block.1.conv1"),
        ("D conv2d 3x3 128->128 scale 0", "discriminator.block.1.conv2"),
    ];
    assert_eq!(layers.len(), recorded.len());
    let fresh = fresh();
    for (label, layer) in layers {
        let recorded = |name: &str| recorded[label][name].as_f64().unwrap();
        let found = values(&fresh[&format!("{layer}.weight")]);
        let count = found.len() as f64;
        let mean = found.iter().sum::<f64>() / count;
        let std = (found.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        let largest = found.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let difference = std / recorded("std") - 1.0;
        println!("{label}: standard deviation {std:.5e}, {difference:+.1e} of the recorded one");
        // The relative variance of a uniform sample's standard deviation is 0.2 / count; two samples, five sigmas.
        assert!(difference.abs() < 5.0 * (0.4 / count).sqrt(), "{label}: {std:e}");
        assert!(mean.abs() < 5.0 * std / count.sqrt(), "{label}: mean {mean:e}");
        // The largest of `count` values falls short of the bound by 1 / count on average.
        assert!((largest / recorded("absmax") - 1.0).abs() < 20.0 / count, "{label}: largest {largest:e}");
    }
}
