//! `lddgan train` over many sessions: resumed, killed, out of time, with damaged files and bad images.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use candle_core::Device;
use lddgan::noise::Stream;
use sha2::{Digest, Sha256};

use crate::common::{fail, program, succeed};
use crate::folder::{AUTOENCODER, Folder, PRESET, bits};
use crate::run_folder::{assert_same_state, losses, names, newest};

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let folder = Folder::new();
    let said = succeed(&folder.train("autoencoder", "ae", &[]));
    assert!(said.contains("images: 10 images") && said.contains("skipped broken.jpg: unreadable"), "{said}");
    for (what, whole, parts) in [("autoencoder", "ae", "ae-parts"), ("gan", "gan", "gan-parts")] {
        if what == "gan" {
            succeed(&folder.train(what, whole, &[]));
        }
        // Ended by the image count, before the first step and after some.
        succeed(&folder.train(what, parts, &["--images", "0"]));
        let total = ["--images", "16", "--resume"];
        if what == "autoencoder" {
            succeed(&folder.train(what, parts, &["--images", "8", "--resume"]));
        }
        succeed(&folder.train(what, parts, &total));
        assert_same_state(&folder.path(whole), &folder.path(parts));
    }
}

/// Killed again and again at any moment, be it while it writes, a run ends as if nothing had happened.
#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    let options = ["--images", "240", "--checkpoint-steps", "2", "--keep", "2"];
    succeed(&folder.train("gan", "whole", &options));
    let mut stream = Stream::new(0, 0, "kills");
    for _ in 0..8 {
        let mut command = session(&folder, "killed", &options);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(stream.below(600))));
        // With SIGKILL, or TerminateProcess; it may have ended by itself.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    succeed(&session(&folder, "killed", &options).output().unwrap());
    let (whole, killed) = (folder.path("whole"), folder.path("killed"));
    assert_same_state(&whole, &killed);
    assert_eq!(names(&whole.join("checkpoints")), names(&killed.join("checkpoints")));
    assert_eq!(bits(&whole.join("model-best.safetensors")), bits(&killed.join("model-best.safetensors")));
    let without_time = |run: &Path| {
        let mut lines = losses(run);
        lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds")));
        lines
    };
    assert_eq!(without_time(&whole).len(), 61);
    assert_eq!(without_time(&whole), without_time(&killed));
}

#[test]
fn what_a_user_keeps_in_the_folder_of_a_run_stays() {
    let folder = Folder::new();
    let kept = [".tmp/thesis/chapter.txt", ".tmpfs-notes", "checkpoints/00000000/notes.txt"];
    for name in kept {
        let path = folder.path("ae").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"precious").unwrap();
    }
    // The folder with the notes is in the way of the first checkpoint.
    fail(&folder.train("autoencoder", "ae", &[]), &["already holds a run"]);
    std::fs::rename(folder.path("ae/checkpoints/00000000/notes.txt"), folder.path("notes.txt")).unwrap();
    std::fs::remove_dir(folder.path("ae/checkpoints/00000000")).unwrap();
    succeed(&folder.train("autoencoder", "ae", &["--images", "4"]));
    std::fs::rename(folder.path("notes.txt"), folder.path("ae/checkpoints/00000000/notes.txt")).unwrap();
    let options = ["--images", "40", "--checkpoint-steps", "1", "--keep", "1", "--resume"];
    succeed(&folder.train("autoencoder", "ae", &options));
    for name in kept {
        assert_eq!(std::fs::read(folder.path("ae").join(name)).unwrap(), b"precious", "{name}");
    }
    // Pictures go with their checkpoints.
    let whole = |name: &String| folder.path("ae/checkpoints").join(name).join("SHA256SUMS").exists();
    let checkpoints = names(&folder.path("ae/checkpoints")).into_iter().filter(whole);
    let pictures = names(&folder.path("ae")).into_iter().filter(|name| name.starts_with("grid-"));
    assert_eq!(pictures.collect::<Vec<_>>(), checkpoints.map(|name| format!("grid-{name}.png")).collect::<Vec<_>>());
}

/// The checkpoints of a finished run may be removed to save space, and newer ones may be lost.
#[test]
fn a_model_is_not_replaced_by_one_that_has_seen_less() {
    let folder = Folder::new();
    let (run, train) = (folder.path("ae"), |more: &[&str]| folder.train("autoencoder", "ae", more));
    let model = || std::fs::read(run.join(AUTOENCODER)).unwrap();
    let seen = || {
        let file = lddgan::ModelFile::from_bytes(&model(), AUTOENCODER).unwrap();
        file.provenance.images["autoencoder"]
    };
    succeed(&train(&["--checkpoint-steps", "1"]));
    let (finished, log) = (model(), losses(&run).len());
    std::fs::remove_dir_all(newest(&run)).unwrap();
    let said = succeed(&train(&["--images", "12", "--resume"]));
    assert!(said.contains("has seen 16 images") && said.contains("stays"), "{said}");
    assert!(model() == finished);
    succeed(&train(&["--images", "16", "--resume"]));
    assert_eq!((seen(), losses(&run).len()), (16, log));
    std::fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let finished = model();
    for images in ["0", "80"] {
        let words = ["autoencoder.safetensors", "16 images seen", "no checkpoint", "--overwrite"];
        fail(&train(&["--images", images]), &words);
    }
    assert!(model() == finished);
    assert_eq!(losses(&run).len(), log);
    succeed(&train(&["--images", "8", "--overwrite"]));
    assert_eq!((seen(), losses(&run).len()), (8, 3));
    // A whole run is replaced in the same way, and not before there is something in its place.
    fail(&train(&["--images", "4", "--overwrite", "--lpips", "nowhere"]), &["nowhere"]);
    assert_eq!(names(&run.join("checkpoints")), ["00000000", "00000008"]);
    succeed(&train(&["--images", "4", "--overwrite"]));
    assert_eq!(names(&run.join("checkpoints")), ["00000000", "00000004"]);
    assert_eq!(seen(), 4);
}

#[test]
fn a_run_goes_on_with_what_it_was_made_from() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "gan", &["--images", "8"]));
    let text = std::fs::read_to_string(PRESET).unwrap();
    let preset = |from: &str, to: &str| {
        assert!(text.contains(from));
        std::fs::write(folder.path("preset.toml"), text.replace(from, to)).unwrap();
        folder.path("preset.toml").display().to_string()
    };
    let gan = |more: &[&str]| {
        let mut command = program(&["train", "gan", "--resume", "--out"]);
        command.arg(folder.path("gan")).arg("--data").arg(folder.path("images")).arg("--autoencoder");
        command.arg(folder.path("ae").join(AUTOENCODER)).args(more).output().unwrap()
    };
    fail(&gan(&["--seed", "1"]), &["checkpoints/00000008", "seed 0, not 1"]);
    let batch = preset("[train_gan]\nimages = 16\nbatch = 4", "[train_gan]\nimages = 16\nbatch = 8");
    fail(&gan(&["--preset", &batch]), &["checkpoints/00000008", "train_gan.batch was 4, the preset has 8"]);
    let decay = preset("ema_decay = 0.9", "ema_decay = 0.5");
    fail(&gan(&["--preset", &decay]), &["train_gan.ema_decay was 0.9, the preset has 0.5"]);
    std::fs::rename(folder.path("images/3.png"), folder.path("3.png")).unwrap();
    fail(&gan(&[]), &["data was 16x16"]);
    std::fs::rename(folder.path("3.png"), folder.path("images/3.png")).unwrap();
    std::fs::rename(folder.path("ae"), folder.path("first-ae")).unwrap();
    succeed(&folder.train("autoencoder", "ae", &["--seed", "7"]));
    fail(&gan(&[]), &["encoder was"]);
    std::fs::remove_dir_all(folder.path("ae")).unwrap();
    std::fs::rename(folder.path("first-ae"), folder.path("ae")).unwrap();
    // What a run may go on with, and the preset that it had.
    let rate = preset("\ngenerator_learning_rate = 1e-3", "\ngenerator_learning_rate = 5e-4");
    let said = succeed(&gan(&["--preset", &rate, "--images", "12"]));
    let change = "going on with a change: train_gan.generator_learning_rate was 0.001, the preset has 0.0005";
    assert!(said.contains(change), "{said}");
    assert!(!succeed(&gan(&["--images", "16"])).contains("change"));
    assert!(succeed(&gan(&["--preset", PRESET])).contains("was 0.0005, the preset has 0.001"));
}

/// A session of a run: its first one, or a further one.
fn session(folder: &Folder, run: &str, options: &[&str]) -> Command {
    let checkpoints = folder.path(run).join("checkpoints");
    let started = checkpoints.exists() && names(&checkpoints).iter().any(|name| name.parse::<u64>().is_ok());
    let mut command = folder.train_command("gan", run, options);
    command.args(started.then_some("--resume"));
    command
}

#[test]
fn the_newest_checkpoints_and_the_best_are_kept() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &["--images", "40", "--checkpoint-steps", "1", "--keep", "2"]));
    let run = folder.path("ae");
    let lines = losses(&run);
    let psnr = |line: &serde_json::Value| line["psnr"].as_f64().unwrap();
    assert_eq!(lines.len(), 11);
    let best = lines.iter().max_by(|a, b| psnr(a).total_cmp(&psnr(b))).unwrap()["images"].as_u64().unwrap();
    let mut expected = vec![36, 40, best];
    expected.sort_unstable();
    expected.dedup();
    let expected: Vec<String> = expected.iter().map(|images| format!("{images:08}")).collect();
    assert_eq!(names(&run.join("checkpoints")), expected);
    let kept = bits(&run.join(format!("checkpoints/{best:08}")).join(AUTOENCODER));
    assert_eq!(kept, bits(&run.join("autoencoder-best.safetensors")));
}

#[test]
fn a_damaged_checkpoint_is_named_and_passed_over() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "whole", &[]));
    let split = ["--checkpoint-steps", "1", "--split", "0.01"];
    succeed(&folder.train("autoencoder", "ae", &split));
    let newest = newest(&folder.path("ae"));
    let parts = names(&newest).iter().filter(|name| name.starts_with("state.safetensors.")).count();
    assert!(parts > 2, "{:?}", names(&newest));
    let resume = |split: &[&str]| folder.train("autoencoder", "ae", &[split, &["--resume"]].concat());
    // A part is altered, then, of what is written in its place, one is missing.
    let part = newest.join(format!("state.safetensors.2-of-{parts}"));
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&part, &bytes).unwrap();
    let said = succeed(&resume(&split));
    assert!(said.contains("2-of-") && said.contains("altered") && said.contains("going on from"), "{said}");
    std::fs::remove_file(&part).unwrap();
    assert!(newest.with_file_name("00000016.damaged").exists());
    let said = succeed(&resume(&[]));
    assert!(said.contains("2-of-") && said.contains("cannot be read") && said.contains("going on from"), "{said}");
    assert_same_state(&folder.path("whole"), &folder.path("ae"));
    // When none is whole, that is an error.
    let checkpoints = folder.path("ae/checkpoints");
    for name in names(&checkpoints) {
        std::fs::write(checkpoints.join(name).join(AUTOENCODER), b"other").unwrap();
    }
    fail(&resume(&[]), &["00000016/autoencoder.safetensors", "altered"]);
}

/// Where files have a limit, those of the state suffice.
#[test]
fn a_run_goes_on_without_the_model_file_of_its_checkpoint() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "whole", &[]));
    succeed(&folder.train("autoencoder", "ae", &["--images", "8", "--split", "0.01"]));
    std::fs::remove_file(newest(&folder.path("ae")).join(AUTOENCODER)).unwrap();
    succeed(&folder.train("autoencoder", "ae", &["--resume"]));
    assert_same_state(&folder.path("whole"), &folder.path("ae"));
}

/// Runs of version 0.1 had one checkpoint, `state.safetensors`.
#[test]
fn a_run_of_the_first_version_goes_on() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "whole", &[]));
    succeed(&folder.train("autoencoder", "new", &["--images", "8"]));
    std::fs::create_dir(folder.path("old")).unwrap();
    let state = newest(&folder.path("new")).join("state.safetensors");
    std::fs::copy(state, folder.path("old/state.safetensors")).unwrap();
    fail(&folder.train("autoencoder", "old", &[]), &["already holds a run", "--resume"]);
    succeed(&folder.train("autoencoder", "old", &["--resume"]));
    assert_same_state(&folder.path("whole"), &folder.path("old"));
}

/// Makes the first number of each of the generator's tensors in a checkpoint no number, and its sums right.
fn spoil(checkpoint: &Path) {
    let path = checkpoint.join("state.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let length = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..length]).unwrap();
    for (_, tensor) in header.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("generator/")) {
        let start = length + tensor["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let sum = |bytes: &[u8]| -> String { Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect() };
    let sums = std::fs::read_to_string(checkpoint.join("SHA256SUMS")).unwrap();
    let before = sum(&std::fs::read(&path).unwrap());
    assert!(sums.contains(&before));
    std::fs::write(checkpoint.join("SHA256SUMS"), sums.replace(&before, &sum(&bytes))).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &[]));
    succeed(&folder.train("gan", "gan", &["--images", "4"]));
    let checkpoint = folder.path("gan/checkpoints/00000004");
    let whole = std::fs::read(checkpoint.join("state.safetensors")).unwrap();
    let sums = std::fs::read(checkpoint.join("SHA256SUMS")).unwrap();
    spoil(&checkpoint);
    let output = folder.train("gan", "gan", &["--resume"]);
    fail(&output, &["step 1:", "not-finite-00000001.safetensors", "gradient_clip"]);
    // What went into the step: its batch, and parameters that were not spoilt.
    let inputs =
        candle_core::safetensors::load(folder.path("gan/not-finite-00000001.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(inputs["batch"].dims(), [4, 3, 8, 8]);
    assert_eq!(inputs["indices"].to_vec1::<u32>().unwrap().len(), 4);
    let discriminator: Vec<_> = inputs.iter().filter(|(name, _)| name.starts_with("discriminator/")).collect();
    assert!(!discriminator.is_empty());
    for (name, tensor) in discriminator {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(values.iter().all(|value| value.is_finite()), "{name}");
    }
    // Checkpoints stay as they are, and the run goes on from a whole one.
    assert_eq!(names(&folder.path("gan/checkpoints")).last().unwrap(), "00000004");
    std::fs::write(checkpoint.join("state.safetensors"), whole).unwrap();
    std::fs::write(checkpoint.join("SHA256SUMS"), sums).unwrap();
    succeed(&folder.train("gan", "gan", &["--resume"]));
    assert_eq!(names(&folder.path("gan/checkpoints")).last().unwrap(), "00000016");
}

#[test]
fn bad_images_among_thousands_are_skipped_and_listed() {
    let folder = Folder::new();
    let good = std::fs::read(folder.path("images/0.png")).unwrap();
    for i in 0..2000 {
        std::fs::write(folder.path(&format!("images/many-{i}.png")), &good).unwrap();
    }
    std::fs::write(folder.path("images/cut.png"), &good[..good.len() / 2]).unwrap();
    std::fs::write(folder.path("images/empty.webp"), b"").unwrap();
    let said = succeed(&folder.train("autoencoder", "ae", &[]));
    assert!(said.contains("images: 10 images") && said.contains("skipped: 3 unreadable, 2000 duplicate"), "{said}");
    for name in ["broken.jpg", "cut.png", "empty.webp"] {
        assert_eq!(said.lines().filter(|line| line.starts_with("skipped") && line.contains(name)).count(), 1, "{said}");
    }
}

/// How long it takes is not tested; that it ends, and with everything written, is.
#[test]
fn a_run_ends_when_its_time_is_over() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &["--minutes", "0.02", "--images", "1000000000"]));
    let run = folder.path("ae");
    let last = losses(&run).last().unwrap()["images"].as_u64().unwrap();
    assert_eq!(newest(&run), run.join(format!("checkpoints/{last:08}")));
    assert!(run.join(format!("grid-{last:08}.png")).exists());
    assert_eq!(bits(&run.join(AUTOENCODER)), bits(&newest(&run).join(AUTOENCODER)));
}

#[test]
fn a_run_is_not_overwritten_nor_resumed_with_other_networks() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &["--images", "0"]));
    fail(&folder.train("autoencoder", "ae", &[]), &["already holds a run", "--resume"]);
    fail(&folder.train("autoencoder", "other", &["--resume"]), &["no checkpoint"]);
    let preset = std::fs::read_to_string(PRESET).unwrap().replace("codes = 16", "codes = 17");
    std::fs::write(folder.path("other.toml"), preset).unwrap();
    let mut command = program(&["train", "autoencoder", "--resume", "--preset"]);
    command.arg(folder.path("other.toml")).arg("--data").arg(folder.path("images")).arg("--out").arg(folder.path("ae"));
    fail(&command.output().unwrap(), &["checkpoints/00000000", "autoencoder.codes was 16, the preset has 17"]);
    let mut command = folder.train_command("gan", "ae", &["--resume"]);
    fail(&command.output().unwrap(), &["checkpoints/00000000", "training the autoencoder, not the GAN"]);
}

#[test]
fn a_folder_is_trained_in_by_one_program_at_a_time() {
    let folder = Folder::new();
    let run = folder.path("ae");
    std::fs::create_dir(&run).unwrap();
    let lock = std::fs::File::create(run.join("run.lock")).unwrap();
    lock.lock().unwrap();
    fail(&folder.train("autoencoder", "ae", &[]), &["another program is training in this folder"]);
    assert_eq!(names(&run), ["run.lock"]);
    drop(lock);
    succeed(&folder.train("autoencoder", "ae", &["--images", "4"]));
}
