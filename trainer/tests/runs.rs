//! `lddgan train` over many sessions: resumed, killed, told to stop, out of time, out of room, with damaged files and bad
//! images.

mod common;
#[path = "common/folder.rs"]
mod folder;
#[path = "common/run.rs"]
mod run;

#[cfg(unix)]
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use candle_core::Device;
use lddgan::noise::Stream;
use sha2::{Digest, Sha256};

use common::{fail, program, succeed};
use folder::{AUTOENCODER, Folder, PRESET, bits};
use run::{assert_same_state, losses, names, newest};

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let folder = Folder::new();
    let said = succeed(&folder.train("autoencoder", "ae", &[]));
    assert!(said.contains("images: 10 images") && said.contains("skipped broken.jpg: unreadable"), "{said}");
    for (what, whole, parts) in [("autoencoder", "ae", "ae-parts"), ("gan", "gan", "gan-parts")] {
        if what == "gan" {
            succeed(&folder.train(what, whole, &[]));
        }
        // Interrupted by an exhausted time limit, which is checked before the first step, and by the image count.
        succeed(&folder.train(what, parts, &["--minutes", "0"]));
        let total = ["--images", "16", "--resume"];
        if what == "autoencoder" {
            succeed(&folder.train(what, parts, &["--images", "8", "--resume"]));
        }
        succeed(&folder.train(what, parts, &total));
        assert_same_state(&folder.path(whole), &folder.path(parts));
    }
}

/// Killed again and again at any moment, be it while it writes, a run ends as if nothing had happened.
#[cfg(unix)]
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
        // SIGKILL; it may have ended by itself.
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

/// Waits for what a running program does.
#[cfg(unix)]
fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..12_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing happened for two minutes");
}

/// The images of a run's newest checkpoint, 0 if there is none.
#[cfg(unix)]
fn images_saved(run: &Path) -> u64 {
    let numbers = |folder: PathBuf| names(&folder).iter().filter_map(|name| name.parse().ok()).max();
    Some(run.join("checkpoints")).filter(|folder| folder.exists()).and_then(numbers).unwrap_or(0)
}

/// A closed connection, a closed output, an end told by the system or the interrupt key: each leaves a checkpoint and its own
/// exit status, and the run ends as one that nobody stopped.
#[cfg(unix)]
#[test]
fn a_run_that_is_told_to_stop_leaves_a_checkpoint() {
    let folder = Folder::new();
    let run = folder.path("stopped");
    let endless = ["--images", "1000000000", "--checkpoint-steps", "5"];
    let stops = [(libc::SIGHUP, 129), (libc::SIGPIPE, 141), (libc::SIGTERM, 143), (libc::SIGINT, 130)];
    for (session, (signal, status)) in stops.into_iter().enumerate() {
        let before = images_saved(&run);
        let mut command = folder.train_command("autoencoder", "stopped", &endless);
        command.args((session > 0).then_some("--resume")).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The tests may themselves run where these are ignored, as in the background of a script.
        // SAFETY: sets the system's default, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                for signal in [libc::SIGHUP, libc::SIGINT] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        wait_until(|| images_saved(&run) > before);
        match signal {
            // Whoever reads the output is gone.
            libc::SIGPIPE => drop(child.stdout.take()),
            // SAFETY: the child was not waited for, so its number is its own.
            _ => assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0),
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        let words = format!("interrupted at {} of 1000000000 images; --resume goes on", images_saved(&run));
        assert!(said.contains(&words), "{said}");
    }
    let total = (images_saved(&run) + 8).to_string();
    succeed(&folder.train("autoencoder", "stopped", &["--images", &total, "--resume"]));
    succeed(&folder.train("autoencoder", "whole", &["--images", &total]));
    assert_same_state(&folder.path("whole"), &run);
}

/// As `nohup` starts a program.
#[cfg(unix)]
#[test]
fn a_signal_that_is_ignored_stays_so() {
    let folder = Folder::new();
    let run = folder.path("ae");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_lddgan"), "train", "autoencoder"]);
    command.args(["--preset", PRESET, "--images", "1000000000", "--checkpoint-steps", "5", "--data"]);
    command.arg(folder.path("images")).arg("--out").arg(&run).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    for signal in [libc::SIGHUP, libc::SIGTERM] {
        let before = images_saved(&run);
        // The second checkpoint from here was begun after this.
        wait_until(|| images_saved(&run) > before + 20);
        // SAFETY: the child was not waited for, so its number is its own.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    }
    assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGTERM));
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

/// A TensorBoard event file, taken apart without the library that wrote it: the step and the message of every record.
fn events(path: &Path) -> Vec<(u64, Message)> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<8>().unwrap();
        let (sum, after) = after.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*sum), masked_crc(length));
        let (data, after) = after.split_at(u64::from_le_bytes(*length) as usize);
        let (sum, after) = after.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*sum), masked_crc(data));
        rest = after;
        let event = message(data);
        let step = event.iter().find(|(field, _)| *field == 2).map_or(0, |(_, step)| step.number());
        events.push((step, event));
    }
    events
}

/// CRC-32C bit by bit, masked as the TFRecord format has it.
fn masked_crc(data: &[u8]) -> u32 {
    let byte =
        |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)));
    let crc = !data.iter().fold(!0, byte);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The fields of a protocol buffer message.
type Message = Vec<(u64, Field)>;

#[derive(Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Field {
    fn number(&self) -> u64 {
        if let Self::Number(number) = self { *number } else { panic!("{self:?}") }
    }

    fn bytes(&self) -> &[u8] {
        if let Self::Bytes(bytes) = self { bytes } else { panic!("{self:?}") }
    }
}

fn message(mut bytes: &[u8]) -> Message {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(bytes, 1)[0];
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            5 => Field::Number(u64::from(u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()))),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length).to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

#[test]
fn every_step_is_logged_once() {
    assert_eq!(masked_crc(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &["--images", "8"]));
    succeed(&folder.train("autoencoder", "ae", &["--resume"]));
    let run = folder.path("ae");
    let lines = losses(&run);
    let steps: Vec<_> =
        lines.iter().map(|line| (line["step"].as_u64().unwrap(), line["images"].as_u64().unwrap())).collect();
    assert_eq!(steps, [(0, 0), (1, 4), (2, 8), (3, 12), (4, 16)]);

    // An event file for each session, with the same numbers.
    let files: Vec<_> =
        names(&run.join("tensorboard")).iter().map(|name| events(&run.join("tensorboard").join(name))).collect();
    assert_eq!(files.len(), 2);
    let (mut scalars, mut pictures) = (Vec::new(), Vec::new());
    for (step, event) in files.iter().flatten() {
        let summaries = event.iter().filter(|(field, _)| *field == 5);
        for (_, value) in summaries.flat_map(|(_, summary)| message(summary.bytes())) {
            let value = message(value.bytes());
            let get = |number: u64| value.iter().find(|(field, _)| *field == number).map(|(_, field)| field);
            let tag = String::from_utf8(get(1).unwrap().bytes().to_vec()).unwrap();
            match get(4) {
                Some(image) => pictures.push((*step, message(image.bytes()))),
                None => scalars.push((*step, tag, f32::from_bits(get(2).unwrap().number() as u32))),
            }
        }
    }
    let l1: Vec<_> = scalars.iter().filter(|(_, tag, _)| tag == "l1").map(|(step, _, value)| (*step, *value)).collect();
    let expected = |line: &serde_json::Value| Some((line["step"].as_u64()?, line["l1"].as_f64()? as f32));
    assert_eq!(l1, lines.iter().filter_map(expected).collect::<Vec<_>>());
    assert!(scalars.iter().any(|(_, tag, value)| tag == "gradient_norm/autoencoder" && *value > 0.0));
    assert_eq!(pictures.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 2, 4]);
    let (_, last) = pictures.last().unwrap();
    let png = last.iter().find(|(field, _)| *field == 4).unwrap().1.bytes();
    assert_eq!(png, std::fs::read(run.join("grid-00000016.png")).unwrap());
    assert!(image::open(run.join("curves.png")).unwrap().width() > 1000);
}

/// Nothing that only tells of a run ends it.
#[test]
fn a_log_that_cannot_be_written_is_reported() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("ae/losses.jsonl/taken")).unwrap();
    std::fs::create_dir_all(folder.path("ae/curves.png/taken")).unwrap();
    std::fs::write(folder.path("ae/tensorboard"), b"taken").unwrap();
    let said = succeed(&folder.train("autoencoder", "ae", &[]));
    for name in ["losses.jsonl", "curves.png", "tensorboard"] {
        assert!(said.lines().any(|line| line.starts_with("warning") && line.contains(name)), "{name}: {said}");
    }
    assert!(folder.path("ae").join(AUTOENCODER).exists());
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
    succeed(&folder.train("autoencoder", "ae", &["--minutes", "0"]));
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

/// A limit on the size of files stands in for a full disk: the write fails half-way.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_previous_checkpoint_whole() {
    let folder = Folder::new();
    succeed(&folder.train("autoencoder", "ae", &["--images", "4"]));
    let run = folder.path("ae");
    let (checkpoints, state) = (names(&run.join("checkpoints")), newest(&run).join("state.safetensors"));
    let before = std::fs::read(&state).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_lddgan")]);
    command.args(["train", "autoencoder", "--resume", "--preset", PRESET, "--data"]);
    command.arg(folder.path("images")).arg("--out").arg(&run);
    fail(&command.output().unwrap(), &["00000016/state.safetensors", "cannot be written"]);
    assert_eq!(std::fs::read(&state).unwrap(), before);
    assert_eq!(names(&run.join("checkpoints")), checkpoints);
    assert!(names(&run).iter().all(|name| !name.starts_with(".lddgan-tmp")));
}
