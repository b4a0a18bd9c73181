//! A feature network that others trained, against what ONNX Runtime computes with it.

use std::path::PathBuf;

use candle_core::{DType, Device};
use lddgan_trainer::eval::onnx::FeatureNetwork;

/// Names the folder of `efficientnet-lite0.onnx` and `efficientnet-lite0.expected.safetensors`: images (`image`, u8, N x 3 x
/// 224 x 224) and their `features` (f32, N x 1280).
const FOLDER: &str = "LDDGAN_EFFICIENTNET";

#[test]
fn efficientnet_computes_what_onnx_runtime_does() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        println!("left out: the network is not part of this project; name its folder in {FOLDER}");
        return;
    };
    let path = folder.join("efficientnet-lite0.onnx");
    let network = FeatureNetwork::from_bytes(std::fs::read(&path).unwrap(), &path).unwrap();
    assert_eq!(network.side(), 224);
    let expected = folder.join("efficientnet-lite0.expected.safetensors");
    let expected = candle_core::safetensors::load(expected, &Device::Cpu).unwrap();
    let images = expected["image"].to_dtype(DType::F32).unwrap().affine(1.0 / 127.5, -1.0).unwrap();
    let found = network.features(&images).unwrap();
    assert_eq!(found.dims(), expected["features"].dims());
    let largest = |x: candle_core::Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let error = largest((found - &expected["features"]).unwrap()) / largest(expected["features"].clone());
    println!("largest error, relative to the largest feature: {error:e}");
    assert!(error < 1e-4, "{error}");
}
