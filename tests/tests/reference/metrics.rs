//! Fréchet distance, precision and recall.

use candle_core::DType;
use lddgan::parameters::TensorMap;
use lddgan_trainer::eval::frechet::{self, Moments};
use lddgan_trainer::eval::manifold::Manifold;

use crate::recorded::{check_values, kept, recorded, values};

fn moments(io: &TensorMap, name: &str) -> Moments {
    Moments::new(values(&io[&format!("fid/mu_{name}")]), values(&io[&format!("fid/sigma_{name}")])).unwrap()
}

#[test]
fn moments_of_features() {
    let io = recorded(&kept("metrics"));
    let found = Moments::of(&io["stats/features"]).unwrap();
    check_values("mean", found.mean(), &values(&io["stats/mu"]), 1e-12);
    check_values("covariance", found.covariance(), &values(&io["stats/sigma"]), 1e-12);
}

/// The distances are those of pytorch-fid 0.3.0. One covariance has rank 39 of 64, where its matrix root is inexact.
#[test]
fn frechet_distances() {
    let folder = kept("metrics");
    let io = recorded(&folder);
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let expected = |name: &str| config["values"][name].as_f64().unwrap();
    let distance = |a: &str, b: &str| frechet::distance(&moments(&io, a), &moments(&io, b)).unwrap();
    check_values("a, b", &[distance("a", "b")], &[expected("fid_ab")], 1e-10);
    check_values("b, a", &[distance("b", "a")], &[expected("fid_ab")], 1e-10);
    check_values("a, low rank", &[distance("a", "lowrank")], &[expected("fid_a_lowrank")], 1e-3);
    let same = distance("a", "a");
    println!("a, a: {same:e}");
    assert!(same.abs() < 1e-9, "{same}");
}

#[test]
fn precision_and_recall() {
    let io = recorded(&kept("metrics"));
    let (real, fake) = (&io["pr/real"], &io["pr/fake"]);
    let answers = |name: &str| values(&io[name]).into_iter().map(|value| value != 0.0).collect::<Vec<_>>();
    for (name, points, probes, radii, inside, expected) in [
        ("precision", real, fake, "pr/radius_real_k3", "pr/fake_in_real", 0.954),
        ("recall", fake, real, "pr/radius_fake_k3", "pr/real_in_fake", 0.554),
    ] {
        let manifold = Manifold::of(points, 3).unwrap();
        check_values(name, manifold.radii(), &values(&io[radii].to_dtype(DType::F64).unwrap()), 1e-10);
        let found: Vec<bool> = manifold.depths(probes).unwrap().into_iter().map(|depth| depth > 0).collect();
        assert_eq!(found, answers(inside), "{name}");
        let share = manifold.share_inside(probes).unwrap();
        assert!((share - expected).abs() < 1e-12, "{name}: {share}");
    }
}
