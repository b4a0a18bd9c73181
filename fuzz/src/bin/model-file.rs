//! Model files: any bytes as a file; and, where the bytes start with a configuration in JSON, what a file with a right
//! checksum could hold.

#![no_main]

use candle_core::{DType, Device, Tensor};
use lddgan::parameters::{Shapes, TensorMap};
use lddgan::{Cost, FileConfig, ModelFile, Network, NetworkName, Provenance};
use lddgan_fuzz::LimitedHeap;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static HEAP: LimitedHeap = LimitedHeap;

const FILE: &str = "fuzzed.safetensors";
/// Elements of all tensors together; those of a larger configuration are missing.
const MAX_ELEMENTS: usize = 1 << 16;
/// Models that take more are not run.
const MAX_FLOPS: u64 = 20_000_000;

fuzz_target!(|bytes: &[u8]| {
    let file = match bytes {
        [b'{', ..] => described(bytes),
        _ => ModelFile::from_bytes(bytes, FILE).ok(),
    };
    if let Some(file) = file {
        measure(&file.config);
        build(&file);
    }
});

/// The file that a configuration describes, its tensors altered as each two bytes after the JSON say.
fn described(bytes: &[u8]) -> Option<ModelFile> {
    let mut json = serde_json::Deserializer::from_slice(bytes).into_iter::<FileConfig>();
    let config = json.next()?.ok()?;
    let mut tensors = fitting_tensors(&config).unwrap_or_default();
    for alteration in bytes[json.byte_offset()..].chunks_exact(2) {
        alter(&mut tensors, alteration[0], alteration[1]);
    }
    Some(ModelFile { config, provenance: Provenance::default(), tensors })
}

/// Every tensor that the networks of a configuration ask for.
fn fitting_tensors(config: &FileConfig) -> Option<TensorMap> {
    let shapes = Shapes::new();
    let vb = shapes.var_builder();
    for name in config.networks() {
        Network::new(name, config, vb.pp(name)).ok()?;
    }
    let shapes = shapes.shapes();
    if shapes.values().map(|shape| shape.elem_count()).sum::<usize>() > MAX_ELEMENTS {
        return None;
    }
    let tensor = |(name, shape)| Some((name, Tensor::full(0.1f32, shape, &Device::Cpu).ok()?));
    shapes.into_iter().map(tensor).collect()
}

fn alter(tensors: &mut TensorMap, which: u8, how: u8) {
    let Some(name) = tensors.keys().nth(usize::from(which)).cloned() else { return };
    let Some(tensor) = tensors.remove(&name) else { return };
    let altered = match how % 8 {
        0 => return,
        1 => tensor.flatten_all(),
        2 => tensor.to_dtype(DType::F16),
        3 => tensor.to_dtype(DType::U8),
        4 => tensor.to_dtype(DType::I64),
        5 => Tensor::full(f32::NAN, tensor.shape(), &Device::Cpu),
        6 => Tensor::full(1e38f32, tensor.shape(), &Device::Cpu),
        _ => Tensor::zeros(0, DType::F32, &Device::Cpu),
    };
    tensors.extend(altered.ok().map(|tensor| (name, tensor)));
}

/// Records every network that the configuration describes, however large.
fn measure(config: &FileConfig) {
    for network in config.networks() {
        let _ = Cost::of(network, config);
    }
}

/// Builds every network that the file has, and makes an image where that is quick.
fn build(file: &ModelFile) {
    let device = &Device::Cpu;
    for network in NetworkName::ALL {
        let _ = file.network(network, FILE, device);
    }
    let Ok(model) = file.model(FILE, device) else { return };
    let bytes = file.to_bytes(DType::F32).expect("a file that is a model can be written");
    let read = ModelFile::from_bytes(&bytes, FILE).expect("what was written can be read");
    assert_eq!(read.config, file.config);
    if model.record(1).is_ok_and(|graph| graph.flops() < MAX_FLOPS) {
        let _ = model.sample_seeds(&[7], device);
    }
}
