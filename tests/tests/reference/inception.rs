//! The Inception network of pytorch-fid, with weights made by the recording's formula.

use candle_core::{Device, Tensor};
use lddgan::parameters::TensorMap;
use lddgan_trainer::eval::inception::{Inception, resize};

use crate::recorded::{OUTPUTS, check, kept, recorded};

/// A weight between 0 and 1 for each element, from the tensor's name and the element's index.
pub fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed = crc32fast::hash(name.as_bytes());
    (0..count as u32).map(move |index| {
        let mut h = seed ^ index.wrapping_mul(0x9E37_79B9);
        h ^= h >> 16;
        h = h.wrapping_mul(0x85EB_CA6B);
        h ^= h >> 13;
        h = h.wrapping_mul(0xC2B2_AE35);
        h ^= h >> 16;
        f64::from(h >> 8) / f64::from(1 << 24)
    })
}

/// A tensor of the state dictionary by the formula.
fn weight(name: &str, shape: &[usize]) -> Tensor {
    let fan_in: usize = shape.iter().skip(1).product();
    let value = |u: f64| match name.rsplit('.').next() {
        Some("running_var") => 0.75 + 0.5 * u,
        Some("running_mean" | "bias") => 0.2 * (u - 0.5),
        _ if name.ends_with("bn.weight") => 0.9 + 0.2 * u,
        _ => (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt(),
    };
    let values: Vec<f32> = uniform(name, shape.iter().product()).map(|u| value(u) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn state_dictionary(folder: &std::path::Path) -> TensorMap {
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let shapes = config["weights"]["keys_and_shapes"].as_object().unwrap();
    let tensor = |(name, shape): (&String, &serde_json::Value)| {
        let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
        (name.clone(), weight(name, &shape))
    };
    shapes.iter().map(tensor).collect()
}

#[test]
fn features_and_blocks() {
    let folder = kept("inception");
    let io = recorded(&folder);
    let weights = state_dictionary(&folder);
    for name in ["Conv2d_1a_3x3.conv.weight", "Conv2d_1a_3x3.bn.running_var", "Mixed_6b.branch7x7_1.bn.weight"] {
        check(name, &weights[name], &io[&format!("weight_check/{name}")], 0.0);
    }
    let network = Inception::new(weights, "formula", &Device::Cpu).unwrap();
    let images = ((&io["x"] * 2.0).unwrap() - 1.0).unwrap();

    let resized = resize(&images).unwrap();
    let crop = resized.narrow(2, 140, 32).unwrap().narrow(3, 140, 32).unwrap();
    check("resized", &((crop + 1.0).unwrap() / 2.0).unwrap(), &io["resized_crop"], 1e-5);
    let blocks = network.blocks(&resized).unwrap();
    for (index, block) in blocks[..3].iter().enumerate() {
        let crop = block.narrow(1, 0, 16).unwrap().narrow(2, 0, 8).unwrap().narrow(3, 0, 8).unwrap();
        check(&format!("block {index}"), &crop, &io[&format!("block{index}_crop")], OUTPUTS);
        let means = block.mean((2, 3)).unwrap();
        check(&format!("block {index}, means"), &means, &io[&format!("block{index}_channel_mean")], OUTPUTS);
    }
    check("pool3", &network.features(&images).unwrap(), &io["pool3"], OUTPUTS);
}

#[test]
fn weights_of_another_network_are_listed() {
    let mut weights = state_dictionary(&kept("inception"));
    weights.remove("Mixed_7c.branch_pool.bn.bias");
    let narrow = weights["Mixed_5b.branch1x1.conv.weight"].narrow(0, 0, 3).unwrap();
    weights.insert("Mixed_5b.branch1x1.conv.weight".to_string(), narrow);
    let error = Inception::new(weights, "other.pth", &Device::Cpu).err().unwrap().to_string();
    for words in ["other.pth", "missing: Mixed_7c.branch_pool.bn.bias", "wrong shape: Mixed_5b.branch1x1.conv.weight"] {
        assert!(error.contains(words), "{error}");
    }
}
