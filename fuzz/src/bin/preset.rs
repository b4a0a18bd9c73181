//! Presets: any text as a file; and of a valid one, its networks, and a training step where that is quick.

#![no_main]

use std::sync::Once;

use candle_core::{Device, Tensor};
use lddgan::{Cost, NetworkName};
use lddgan_fuzz::LimitedHeap;
use lddgan_trainer::distributed::Processes;
use lddgan_trainer::gan::{Setup, Step, Trainer};
use lddgan_trainer::precision::Precision;
use lddgan_trainer::preset::Preset;
use lddgan_trainer::second_order;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static HEAP: LimitedHeap = LimitedHeap;

/// Networks of more parameters, or more operations for an image, are not trained.
const MAX_PARAMETERS: usize = 1 << 16;
const MAX_FLOPS: u64 = 5_000_000;
const BATCH: usize = 4;

fuzz_target!(|text: &str| {
    let Ok(preset) = Preset::parse("fuzzed", text) else { return };
    let written = toml::to_string(&preset).expect("a preset can be written");
    assert_eq!(Preset::parse("written", &written).expect("what was written can be read"), preset);
    let config = preset.networks();
    let cost = |network| Cost::of(network, &config).expect("the networks of a valid preset can be built");
    let quick = |cost: Cost| cost.parameters < MAX_PARAMETERS && cost.flops < MAX_FLOPS;
    // The moments of a Gaussian start come from data.
    let moments = preset.generator.gaussian_modes + preset.discriminator.gaussian_modes > 0;
    let costs: Vec<(NetworkName, Cost)> = config.networks().map(|network| (network, cost(network))).collect();
    let trained = |network| matches!(network, NetworkName::Generator | NetworkName::Discriminator);
    if costs.into_iter().all(|(network, cost)| !trained(network) || quick(cost)) && !moments {
        train(&preset);
    }
});

fn train(preset: &Preset) {
    static SECOND_ORDER: Once = Once::new();
    // SAFETY: the fuzzer has one thread, which starts these before any others.
    SECOND_ORDER.call_once(|| unsafe { second_order::start() });
    let (device, processes) = (&Device::Cpu, &Processes::alone());
    let setup = Setup { preset, seed: 0, precision: Precision::F32, device, processes, moments: None };
    let mut trainer = Trainer::new(&setup).expect("a valid preset can be trained");
    let size = preset.generator.latent_size;
    let latents = Tensor::full(0.5f32, (BATCH, preset.generator.latent_channels, size, size), device);
    let step = Step { penalty: true, reconstruction_weight: 1.0 };
    let samples: Vec<u64> = (0..BATCH as u64).collect();
    trainer.step(&latents.expect("a few numbers"), 0, &samples, step).expect("a valid preset can be trained");
}
