//! Sizes of the published networks.

use lddgan::cost::{self, Cost};
use lddgan_trainer::preset::Preset;

/// Parameters and GFLOPs of the published networks, as counted in the authors' implementation.
#[test]
fn sizes_of_the_published_networks() {
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
        let steps = preset.diffusion.steps() as u64;
        // The recorded sum was rounded on another way.
        let whole = rounded(steps * costs[0].flops + costs[3].flops);
        assert!((whole - sampling).abs() < 0.011, "{name}: {whole} instead of {sampling}");
    }
}
