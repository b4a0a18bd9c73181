//! `lddgan train` when it is told to stop by a signal, or a full disk stops it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{fail, succeed};
use crate::folder::{Folder, PRESET};
use crate::run_folder::{assert_same_state, names, newest};

/// Waits for what a running program does.
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
fn images_saved(run: &Path) -> u64 {
    let numbers = |folder: PathBuf| names(&folder).iter().filter_map(|name| name.parse().ok()).max();
    Some(run.join("checkpoints")).filter(|folder| folder.exists()).and_then(numbers).unwrap_or(0)
}

/// A closed connection, a closed output, an end told by the system or the interrupt key: each leaves a checkpoint and its own
/// exit status, and the run ends as one that nobody stopped.
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

/// A folder of pictures that take some seconds to read: links to one of many pixels.
fn many_pictures(folder: &Folder) {
    let pictures = folder.path("many");
    std::fs::create_dir(&pictures).unwrap();
    let first = pictures.join("0.png");
    image::RgbImage::from_fn(1500, 1500, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8])).save(&first).unwrap();
    (1..600).for_each(|i| std::fs::hard_link(&first, pictures.join(format!("{i}.png"))).unwrap());
}

/// Sends a signal once the program says what it reads, and gives how it ended.
fn stop_while_reading(mut command: Command, signal: i32) -> std::process::Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: as above.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut String::new()).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    child.wait_with_output().unwrap()
}

/// While images are read there is nothing to save: a signal ends a run, and the making of a set, at once and without a trace.
#[test]
fn a_signal_while_images_are_read_leaves_nothing() {
    let folder = Folder::new();
    many_pictures(&folder);
    for (signal, status) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let mut train =
            crate::common::program(&["train", "autoencoder", "--preset", PRESET, "--images", "4", "--data"]);
        train.arg(folder.path("many")).arg("--out").arg(folder.path("run"));
        let mut prepare = crate::common::program(&["data", "prepare", "--size", "256", "--data"]);
        prepare.arg(folder.path("many")).arg("--out").arg(folder.path("set.safetensors"));
        for command in [train, prepare] {
            let output = stop_while_reading(command, signal);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{said}");
            assert!(said.ends_with("error: interrupted; nothing was written\n"), "{said}");
        }
        assert_eq!(names(&folder.path("run")), ["run.lock"]);
        assert_eq!(names(&folder.path("")), ["images", "many", "run"]);
    }
}

/// The time of a run includes reading.
#[test]
fn time_that_is_over_while_images_are_read_leaves_nothing() {
    let folder = Folder::new();
    fail(&folder.train("autoencoder", "ae", &["--minutes", "0"]), &["time was over", "--minutes"]);
    assert_eq!(names(&folder.path("ae")), ["run.lock"]);
}

/// As `nohup` starts a program.
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

/// A limit on the size of files stands in for a full disk: the write fails half-way.
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
