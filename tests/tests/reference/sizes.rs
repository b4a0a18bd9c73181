//! Sizes of the published networks.

use std::collections::BTreeMap;

use candle_core::Shape;
use lddgan::NetworkName::{Decoder, Discriminator, Encoder, Generator};
use lddgan::parameters::Shapes;
use lddgan::{Cost, networks};
use lddgan_trainer::import::names::{self, Source};
use lddgan_trainer::import::{Network, settings};
use lddgan_trainer::preset::Preset;
use serde_json::Value;

use crate::recorded::large;

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
        let config = preset.networks();
        let costs = [Generator, Discriminator, Encoder, Decoder].map(|network| Cost::of(network, &config).unwrap());
        let rounded = |flops: u64| (flops as f64 / 1e7).round() / 100.0;
        let found = costs.map(|Cost { parameters, flops, .. }| (parameters, rounded(flops)));
        assert_eq!(found, expected, "{name}: generator, discriminator, encoder, decoder");
        let steps = preset.diffusion.steps() as u64;
        // The recorded sum was rounded on another way.
        let whole = rounded(steps * costs[0].flops + costs[3].flops);
        assert!((whole - sampling).abs() < 0.011, "{name}: {whole} instead of {sampling}");
    }
}

/// Parameters and GFLOPs of the published networks of the other two systems, as counted in their authors' implementations.
#[test]
fn sizes_of_the_networks_that_the_paper_compares_with() {
    let sizes = [
        ("ddgan-cifar10", (48_432_515, 14.068), (12_741_633, 2.947), 56.27),
        ("ddgan-celebahq256", (39_726_979, 140.829), (27_737_217, 151.089), 281.66),
        ("ddgan-church256", (39_726_979, 140.829), (27_737_217, 151.089), 563.32),
        ("wavediff-cifar10", (33_370_124, 3.333), (7_630_593, 0.699), 13.33),
        ("wavediff-stl10", (55_585_292, 14.269), (12_743_937, 2.952), 57.08),
        ("wavediff-celebahq256", (31_485_452, 56.843), (22_626_177, 37.809), 113.69),
        ("wavediff-celebahq512", (44_853_004, 147.907), (27_739_521, 151.391), 295.81),
        ("wavediff-celebahq1024", (44_186_416, 155.457), (27_739_521, 605.559), 310.91),
        ("wavediff-church256", (31_485_452, 56.843), (22_626_177, 37.809), 227.37),
    ];
    for (name, generator, discriminator, sampling) in sizes {
        let preset = Preset::load(name).unwrap();
        let config = preset.networks();
        let found = Cost::of(Generator, &config).unwrap();
        let check = |network: &str, Cost { parameters, flops, .. }, expected: (usize, f64)| {
            assert_eq!(parameters, expected.0, "{name}: parameters of the {network}");
            let gflops = flops as f64 / 1e9;
            assert!((gflops - expected.1).abs() < 0.0011, "{name}: {gflops} GFLOPs of the {network}");
        };
        check("generator", found, generator);
        check("discriminator", Cost::of(Discriminator, &config).unwrap(), discriminator);
        let whole = preset.diffusion.steps() as f64 * found.flops as f64 / 1e9;
        assert!((whole - sampling).abs() < 0.011, "{name}: {whole} GFLOPs instead of {sampling}");
    }
}

/// Name and shape of each tensor.
type Tensors = BTreeMap<String, Vec<usize>>;

/// The authors' tensors for those that a network of ours asked for.
fn theirs(shapes: &Shapes, source: impl Fn(&str) -> Option<Source>) -> Tensors {
    let of = |(ours, shape): (String, Shape)| {
        let Source { name, conversion } = source(&ours).unwrap();
        (name, conversion.source_shape(shape.dims()))
    };
    shapes.shapes().into_iter().map(of).collect()
}

/// The authors' settings of these networks lead to the presets' networks, and every tensor of theirs has a place.
#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_lists_of_the_published_tensors() {
    for (set, data, preset) in [
        ("ddgan", "cifar10", "ddgan-cifar10"),
        ("ddgan", "celeba_256", "ddgan-celebahq256"),
        ("ddgan", "lsun", "ddgan-church256"),
        ("wavediff", "cifar10", "wavediff-cifar10"),
        ("wavediff", "stl10", "wavediff-stl10"),
        ("wavediff", "celeba_256", "wavediff-celebahq256"),
        ("wavediff", "celeba_512", "wavediff-celebahq512"),
        ("wavediff", "celeba_1024", "wavediff-celebahq1024"),
        ("wavediff", "lsun", "wavediff-church256"),
    ] {
        let text = std::fs::read(large(set).join("official.json")).unwrap();
        let recorded = &serde_json::from_slice::<Value>(&text).unwrap()["datasets"][data];
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        std::fs::write(file.path(), recorded.to_string()).unwrap();
        let preset = Preset::load(preset).unwrap();
        let read = |network: &str| settings::read(file.path(), network).unwrap();
        let (Network::Generator(mut generator), Network::Discriminator(discriminator)) =
            (read("generator"), read("discriminator"))
        else {
            panic!("settings of other networks")
        };
        // Sizes that no feature map has mean nothing.
        let largest = generator.latent_size / generator.patch;
        let occurs = |size: &usize| (0..generator.multipliers.len()).any(|level| largest >> level == *size);
        generator.attention = generator.attention.iter().copied().filter(occurs).collect();
        assert_eq!((&generator, &discriminator), (&preset.generator, &preset.discriminator), "{set}, {data}");

        let shapes = Shapes::new();
        networks::Generator::new(shapes.var_builder(), &generator).unwrap();
        let found = theirs(&shapes, |ours| names::generator(&generator, ours));
        let expected = |tensors: &str| serde_json::from_value::<Tensors>(recorded[tensors].clone()).unwrap();
        assert_eq!(found, expected("generator_tensors"), "{set}, {data}");
        let shapes = Shapes::new();
        networks::Discriminator::new(shapes.var_builder(), &discriminator).unwrap();
        assert_eq!(theirs(&shapes, names::discriminator), expected("discriminator_tensors"), "{set}, {data}");
    }
}
