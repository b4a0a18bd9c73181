//! What the tests of this crate share.

#![allow(dead_code, reason = "each test takes what it needs")]

use candle_core::{Device, Tensor};
use lddgan::compare::Difference;
use lddgan::noise::Stream;
use lddgan::{Model, ModelFile};

/// Normally distributed values that depend on the name and the shape alone.
pub fn normal(name: &str, shape: &[usize]) -> Tensor {
    let values = Stream::new(7, 0, name).normals(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The values of an f32 tensor in the order of its shape.
pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Panics unless all differences are at most 1e-4.
pub fn check_values(found: &[f32], expected: &[f32], label: &str) {
    let Difference { max, index, .. } = Difference::between(found, expected).unwrap();
    assert!(max <= 1e-4, "{label}: {} instead of {} at {index}", found[index], expected[index]);
}

/// A shipped model.
pub fn model(name: &str) -> Model {
    let path = format!("{}/../web/models/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let file = ModelFile::from_bytes(&std::fs::read(&path).unwrap(), &path).unwrap();
    file.model(&path, &Device::Cpu).unwrap()
}
