//! Files of latents: any bytes as a file; and the tensors of a file as if its checksum were right.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use candle_core::{DType, Device};
use lddgan::FileConfig;
use lddgan::{AutoencoderConfig, ModelFile, Provenance};
use lddgan_fuzz::LimitedHeap;
use lddgan_trainer::gan::{Cache, Encoded, Latents, encoded};
use lddgan_trainer::preset::LatentNormalization;
use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;

#[global_allocator]
static HEAP: LimitedHeap = LimitedHeap;

/// Latents of 3 x 8 x 8 numbers.
static CONFIG: LazyLock<AutoencoderConfig> = LazyLock::new(|| {
    let json = serde_json::json!({"kind": "identity", "image_channels": 3, "image_size": 8, "latent_channels": 3});
    serde_json::from_value(json).expect("a configuration")
});

static CACHE: LazyLock<Cache> = LazyLock::new(|| {
    let config = FileConfig { autoencoder: Some(CONFIG.clone()), ..Default::default() };
    let file = ModelFile { config, provenance: Provenance::default(), tensors: Default::default() };
    Cache::new(PathBuf::from("fuzzed.safetensors"), &file, None, true).expect("an autoencoder")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok((encoded, _)) = CACHE.read_bytes(bytes, &Device::Cpu) {
        use_them(encoded);
    }
    if let Ok(tensors) = SafeTensors::deserialize(bytes)
        && let Ok(encoded) = encoded(&tensors, &CONFIG, false, &Device::Cpu)
    {
        use_them(encoded);
    }
});

/// Scales latents in every way, and takes some.
fn use_them(encoded: Encoded) {
    let normalizations = [
        LatentNormalization::Fixed(0.5),
        LatentNormalization::MaxAbs,
        LatentNormalization::Standardize,
        LatentNormalization::UnitRms,
    ];
    for normalization in normalizations {
        let latents = Latents::new(encoded.clone(), normalization).expect("latents of the right shape can be scaled");
        let batch = latents.batch(&[0], 0, &[0]).expect("there is one");
        assert_eq!((batch.dims(), batch.dtype()), (&[1, 3, 8, 8][..], DType::F32));
    }
}
