//! LPIPS with weights made by formula, against its definition in PyTorch, in double precision:
//!
//! ```python
//! def features(x):                                     # VGG-16, after the last activation of each stage
//!     x = (x - shift) / scale                          # the constants of the authors' `ScalingLayer`
//!     for layer in vgg16.features: ...
//! unit = lambda f: f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
//! sum(F.conv2d((unit(f) - unit(g)).pow(2), lin).mean((2, 3)) for f, g, lin in zip(features(a), features(b), lins))
//! ```

use candle_core::{Device, Tensor, Var};
use lddgan::parameters::TensorMap;
use lddgan_trainer::eval::lpips::Lpips;

use crate::inception::uniform;

const WIDTHS: [&[usize]; 5] = [&[64, 64], &[128, 128], &[256, 256, 256], &[512, 512, 512], &[512, 512, 512]];

fn tensor(name: &str, shape: &[usize], value: impl Fn(f64) -> f64) -> Tensor {
    let values: Vec<f32> = uniform(name, shape.iter().product()).map(|u| value(u) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Weights uniform with variance 2 / fan-in, biases within 0.1 of zero, and those of the features with the sum 1/2.
fn weights() -> TensorMap {
    let mut tensors = TensorMap::new();
    let (mut layer, mut inputs) = (0, 3);
    for (k, widths) in WIDTHS.iter().enumerate() {
        for &width in *widths {
            let (weight, bias) = (format!("features.{layer}.weight"), format!("features.{layer}.bias"));
            let bound = (6.0 / (9 * inputs) as f64).sqrt();
            tensors.insert(weight.clone(), tensor(&weight, &[width, inputs, 3, 3], |u| (2.0 * u - 1.0) * bound));
            tensors.insert(bias.clone(), tensor(&bias, &[width], |u| 0.2 * (u - 0.5)));
            (layer, inputs) = (layer + 2, width);
        }
        layer += 1;
        let lin = format!("lin{k}.model.1.weight");
        tensors.insert(lin.clone(), tensor(&lin, &[1, inputs, 1, 1], |u| u / inputs as f64));
    }
    tensors
}

#[test]
fn distances_and_gradients_agree_with_the_definition() {
    let lpips = Lpips::new(weights(), "formula", &Device::Cpu).unwrap();
    let image = |name: &str| tensor(name, &[2, 3, 32, 32], |u| 2.0 * u - 1.0);
    let (a, b) = (Var::from_tensor(&image("a")).unwrap(), image("b"));
    let distances = lpips.distances(&a, &b).unwrap();
    let found = distances.to_vec1::<f32>().unwrap();
    for (found, expected) in found.iter().zip([0.00836575181199416, 0.00799225375230574]) {
        assert!((f64::from(*found) / expected - 1.0).abs() < 1e-4, "{found} instead of {expected}");
    }
    let gradients = distances.sum_all().unwrap().backward().unwrap();
    let gradient = gradients.get(&a).unwrap();
    let norm = gradient.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar::<f32>().unwrap();
    assert!((f64::from(norm) / 0.00030535658316632925 - 1.0).abs() < 1e-3, "{norm}");
    let values = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let expected = [
        (0, -1.965373894705958e-06),
        (1024 + 5 * 32 + 7, -1.929096159437941e-06),
        (3072 + 2 * 1024 + 31 * 32 + 31, 1.552005844793091e-07),
        (3072 + 16 * 32 + 3, 2.082165152583765e-06),
    ];
    for (index, expected) in expected {
        assert!((f64::from(values[index]) - expected).abs() < 2e-9, "{index}: {} not {expected}", values[index]);
    }
    // Of equal images: no distance, and no gradient that is not a number.
    let distances = lpips.distances(&a, &a).unwrap();
    assert_eq!(distances.to_vec1::<f32>().unwrap(), [0.0, 0.0]);
}

#[test]
fn missing_weights_are_named() {
    let mut incomplete = weights();
    incomplete.remove("features.28.bias");
    let error = Lpips::new(incomplete, "vgg.pth", &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("vgg.pth") && error.contains("features.28.bias"), "{error}");
}
