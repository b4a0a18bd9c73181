//! `cargo xtask bench launches`: what a training step asks of a GPU, counted without one.

use crate::command::{command, run};
use crate::{cuda, workspace};
use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The libraries that the program is linked with. All names are of one file.
const LIBRARIES: [&str; 6] =
    ["libcuda.so.1", "libcublas.so.13", "libcudart.so.13", "libcudnn.so.9", "libcurand.so.10", "libnvrtc.so.13"];
/// Steps before those that are counted: by then all that can be recorded is.
const BEFORE: u64 = 48;
/// Steps that are counted, whose losses are read at once: two of the rounds that the R1 penalty comes once in.
const STEPS: u64 = 16;

#[derive(Args)]
#[command(
    after_help = "Runs the program for NVIDIA GPUs with a library in the place of CUDA, cuDNN and cuBLAS whose kernels do \
    nothing and are counted. Its times mean nothing. Linux alone."
)]
pub struct Options {
    /// Preset to train
    #[arg(long, default_value = "faces256")]
    preset: String,
    /// The folder that `cargo xtask cuda` left, instead of building it anew
    #[arg(long, value_name = "FOLDER")]
    built: Option<PathBuf>,
}

/// What a program asked for, as stand_in.c writes it.
#[derive(Debug, PartialEq, Deserialize)]
struct Counts {
    /// Kernels, copies and sets of memory that were launched by themselves.
    launches: u64,
    /// Recordings that were launched, …
    replays: u64,
    /// … and what they launch.
    replayed: u64,
    /// Copies from or to the host.
    copies: u64,
    /// For the GPU: to read what it computed, or until it is done.
    waits: u64,
    allocations: u64,
    /// Launches by name.
    kernels: BTreeMap<String, u64>,
}

pub fn launches(options: &Options) -> Result<()> {
    let built = match &options.built {
        Some(folder) => folder.clone(),
        None => cuda::build(&cuda::Options::default())?,
    };
    let program = built.join("lddgan");
    let libraries = workspace::root().join("target/stand-in-cuda");
    compile(&libraries)?;
    let count = |recording| -> Result<Counts> {
        let count = |steps| run_steps(&program, &libraries, &options.preset, recording, steps);
        Ok(difference(count(BEFORE)?, count(BEFORE + STEPS)?))
    };
    print!("{}", table(&[("launched one by one", count("refused")?), ("recorded and replayed", count("done")?)]));
    Ok(())
}

/// Builds the library that stands in for CUDA, under all its names.
fn compile(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let source = workspace::root().join("xtask/src/bench/launches/stand_in.c");
    let mut cc = command(std::env::var_os("CC").unwrap_or("cc".into()), ["-O1", "-shared", "-fPIC", "-o"]);
    cc.arg(folder.join(LIBRARIES[0])).arg(&source);
    run(cc.arg(format!("-Wl,--version-script={}", source.with_extension("versions").display())))?;
    for name in &LIBRARIES[1..] {
        let link = folder.join(name);
        if !link.exists() {
            symlink(LIBRARIES[0], &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
    }
    Ok(())
}

fn run_steps(program: &Path, libraries: &Path, preset: &str, recording: &str, steps: u64) -> Result<Counts> {
    let counts = libraries.join("counts.json");
    let mut train = command(program, ["bench", "train", "--backend", "cuda", "--batch", "4", "--warm-up", "0"]);
    let trials = (steps / STEPS).to_string();
    train.args(["--preset", preset, "--at-once", &STEPS.to_string(), "--trials", &trials]);
    train.env("LD_LIBRARY_PATH", libraries).env("COUNTS", &counts).env("RECORDING", recording);
    run(&mut train)?;
    let text = fs::read(&counts).with_context(|| format!("cannot read {}", counts.display()))?;
    serde_json::from_slice(&text).context("the library wrote no counts")
}

/// What the steps beyond those of `before` asked for.
fn difference(before: Counts, after: Counts) -> Counts {
    let kernels = after.kernels.into_iter().map(|(name, count)| {
        let earlier = before.kernels.get(&name).copied().unwrap_or(0);
        (name, count - earlier)
    });
    Counts {
        launches: after.launches - before.launches,
        replays: after.replays - before.replays,
        replayed: after.replayed - before.replayed,
        copies: after.copies - before.copies,
        waits: after.waits - before.waits,
        allocations: after.allocations - before.allocations,
        kernels: kernels.collect(),
    }
}

/// In Markdown: a step's mean of each count, and the kernels that are launched most.
fn table(counts: &[(&str, Counts)]) -> String {
    const MAX_LISTED: usize = 12;
    let mean = |count: u64| format!("{:.1}", count as f64 / STEPS as f64);
    let mut text =
        "| a step | launches | replays | launches inside | copies from or to the host | waits | allocations |\n\
                    |---|---:|---:|---:|---:|---:|---:|\n"
            .to_string();
    for (what, counts) in counts {
        let Counts { launches, replays, replayed, copies, waits, allocations, .. } = counts;
        let cells = [launches, replays, replayed, copies, waits, allocations].map(|&count| mean(count));
        text += &format!("| {what} | {} |\n", cells.join(" | "));
    }
    for (what, counts) in counts {
        let mut kernels: Vec<(&String, &u64)> = counts.kernels.iter().filter(|(_, count)| **count > 0).collect();
        kernels.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let listed = kernels.into_iter().take(MAX_LISTED).map(|(name, &count)| format!("{name} {}", mean(count)));
        text += &format!("\n{what}: {}\n", listed.collect::<Vec<_>>().join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(json: &str) -> Counts {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_later_steps_ask_for_is_counted() {
        let before = counts(
            r#"{"launches": 10, "replays": 0, "replayed": 0, "copies": 3, "waits": 1, "allocations": 5, "kernels": {"add": 8}}"#,
        );
        let after = counts(
            r#"{"launches": 42, "replays": 32, "replayed": 160, "copies": 19, "waits": 33, "allocations": 5,
                "kernels": {"add": 24, "matrix product": 16}}"#,
        );
        let text = table(&[("recorded", difference(before, after))]);
        assert!(text.contains("| recorded | 2.0 | 2.0 | 10.0 | 1.0 | 2.0 | 0.0 |"), "{text}");
        assert!(text.ends_with("recorded: add 1.0, matrix product 1.0\n"), "{text}");
    }

    /// What the program is linked with needs nothing that the library does not have.
    #[test]
    fn the_stand_in_compiles_and_counts() {
        let folder = tempfile::tempdir().unwrap();
        compile(folder.path()).unwrap();
        let program = folder.path().join("program.c");
        fs::write(
            &program,
            "int cuLaunchKernel(const char *); int cudnnConvolutionForward(void); int cuStreamBeginCapture_v2(void *, int);\n\
             int cuStreamEndCapture(void *, long **); int cuGraphLaunch(long *, void *);\n\
             int main(void) { long *graph; cuLaunchKernel(\"add\"); cuLaunchKernel(\"add\"); cuStreamBeginCapture_v2(0, 0);\n\
             cudnnConvolutionForward(); cuStreamEndCapture(0, &graph); return cuGraphLaunch(graph, 0); }",
        )
        .unwrap();
        let built = folder.path().join("program");
        run(command("cc", ["-o"]).arg(&built).arg(&program).args(LIBRARIES.map(|name| folder.path().join(name))))
            .unwrap();
        let path = folder.path().join("counts.json");
        run(command(&built, []).env("LD_LIBRARY_PATH", folder.path()).env("COUNTS", &path)).unwrap();
        let expected = r#"{"launches": 2, "replays": 1, "replayed": 1, "copies": 0, "waits": 0, "allocations": 0, "kernels": {"add": 2}}"#;
        assert_eq!(counts(&fs::read_to_string(&path).unwrap()), counts(expected));
    }
}
