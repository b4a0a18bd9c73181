//! `trainer/train.sh`, which trains both stages unattended.

use std::process::Command;

use crate::common::{fail, succeed};
use crate::folder::{AUTOENCODER, Folder, PRESET, bits};

/// `train.sh` with the tiny preset's images.
fn train_script(folder: &Folder, more: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/train.sh"));
    command.args(["--lddgan", env!("CARGO_BIN_EXE_lddgan"), "--count", "10"]);
    command.arg("--data").arg(folder.path("images")).arg("--validation").arg(folder.path("images"));
    command.arg("--out").arg(folder.path("trained")).args(more);
    command
}

#[test]
fn train_sh_leaves_a_model_and_its_report_and_goes_on() {
    let folder = Folder::new();
    let text = std::fs::read_to_string(PRESET).unwrap();
    let preset = |images: &str| {
        let path = folder.path("preset.toml");
        std::fs::write(&path, text.replace("images = 16", &format!("images = {images}"))).unwrap();
        path.to_string_lossy().into_owned()
    };
    let said = succeed(&train_script(&folder, &["--preset", &preset("16")]).output().unwrap());
    assert!(said.contains("16 images"), "{said}");
    let report = folder.path("trained/report");
    for name in
        ["contact-sheet.jpg", "neighbours.jpg", "reconstructions.jpg", "curves-gan.png", "curves-autoencoder.png"]
    {
        assert!(image::open(report.join(name)).is_ok(), "{name}");
    }
    let figures: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report.join("figures.json")).unwrap()).unwrap();
    assert!(figures["measured"][0]["figures"]["swd"].as_f64().unwrap() > 0.0, "{figures}");
    let info = std::fs::read_to_string(report.join("info.txt")).unwrap();
    assert!(info.contains("swd") && info.contains("recall"), "{info}");

    // The next leg trains the decoder alone: the generator's latents stay what they are.
    let encoder = |run: &str| {
        let tensors = bits(&folder.path(run).join("autoencoder").join(AUTOENCODER));
        tensors.into_iter().partition::<Vec<_>, _>(|(name, _)| name.starts_with("encoder."))
    };
    let (before, decoder_before) = encoder("trained");
    let said = succeed(&train_script(&folder, &["--preset", &preset("24")]).output().unwrap());
    assert!(said.contains("24 images"), "{said}");
    let (after, decoder_after) = encoder("trained");
    assert!(!before.is_empty() && before == after);
    assert_ne!(decoder_before, decoder_after);
}

#[test]
fn train_sh_says_what_is_wrong() {
    let folder = Folder::new();
    fail(&train_script(&folder, &["--minutes", "soon"]).output().unwrap(), &["--minutes soon"]);
    fail(&train_script(&folder, &["--speed", "fast"]).output().unwrap(), &["--speed"]);
    fail(&train_script(&folder, &["--lddgan", "/nowhere/lddgan"]).output().unwrap(), &["/nowhere/lddgan"]);
}
