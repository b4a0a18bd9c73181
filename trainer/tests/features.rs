//! A feature network that others trained, against what ONNX Runtime computes with it.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use lddgan_trainer::autoencoder::backbone::Backbone;
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
    let features = Backbone::load(&path, &Device::Cpu).unwrap().features(&images).unwrap();
    let sizes: Vec<usize> = features.iter().map(|features| features.dims()[3]).collect();
    assert_eq!(sizes, [112, 56, 28, 14, 7]);
    let last = features.last().unwrap().mean((2, 3)).unwrap();
    for (found, by) in [(network.features(&images).unwrap(), "rten"), (last, "layers of our own")] {
        assert_eq!(found.dims(), expected["features"].dims());
        let largest = |x: Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let error = largest((found - &expected["features"]).unwrap()) / largest(expected["features"].clone());
        println!("{by}: largest error, relative to the largest feature: {error:e}");
        assert!(error < 1e-4, "{by}: {error}");
    }
}
