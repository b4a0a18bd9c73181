//! `cargo xtask test`: every check of this workspace, in order, up to the first that fails.

use crate::command;
use crate::install::{Packages, install_missing};
use crate::page;
use crate::publish;
use crate::tools::{Purpose, WASM_TARGET};
use crate::workspace;
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// Install the packages of the operating system that the tests need; as root, on Debian and Ubuntu
    #[arg(long)]
    install: bool,
}

type Step = (&'static str, fn() -> Result<()>);

/// All are in the release profile: networks are too slow in the other, and so procedural macros and build scripts are
/// compiled once. The page comes before the tests because some of them open it in a browser. The tests train in several
/// processes too, so they are compiled with MPI, without which the trainer is linted as well.
const STEPS: [Step; 9] = [
    ("format", || cargo("fmt --all --check")),
    ("lints, native", || cargo("clippy --release --workspace --all-targets -- -D warnings")),
    ("lints, native with MPI", || {
        cargo(&format!("clippy --release --workspace --all-targets {WITH_MPI} -- -D warnings"))
    }),
    ("lints, wasm32", || {
        let packages = "--package lddgan --package lddgan-webgpu --package lddgan-web --features lddgan-web/bench";
        cargo(&format!("clippy --release --target {WASM_TARGET} {packages} -- -D warnings"))
    }),
    ("documentation", || {
        let mut doc = cargo_command("doc --release --workspace --no-deps");
        command::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("page", page::build),
    ("page, as it is published", publish::all),
    ("size budget", publish::check_budget),
    ("unit, parity and browser tests", || cargo(&format!("test --release --workspace {WITH_MPI}"))),
];

/// The recordings that the repository does not carry. With the variable, they are compared with too.
const RECORDINGS: &str = "LDDGAN_FIXTURES";
const LARGE_RECORDINGS: Step =
    ("large recordings", || cargo("test --release --package lddgan-tests --test reference -- --ignored"));

const WITH_MPI: &str = "--features lddgan-trainer/mpi";

/// Names a file, which tests that cannot run here are appended to.
const NOT_RUN: &str = "LDDGAN_NOT_RUN";

pub fn run(options: &Options) -> Result<()> {
    match options.install {
        true => install_missing(Purpose::EveryTest, Packages::Install)?,
        false => install_missing(Purpose::Tests, Packages::Name)?,
    }
    let not_run = not_run();
    fs::write(&not_run, "").with_context(|| not_run.display().to_string())?;
    let mut times = Vec::new();
    let recordings = std::env::var_os(RECORDINGS).map(|_| LARGE_RECORDINGS);
    let result = STEPS.iter().chain(&recordings).try_for_each(|(title, check)| {
        println!("\n=== {title}");
        let start = Instant::now();
        let result = check().with_context(|| format!("failed: {title}"));
        times.push((*title, start.elapsed()));
        result
    });
    print!("\n{}", table(&times, result.is_ok()));
    if recordings.is_none() {
        println!("{}: not run: set {RECORDINGS}", LARGE_RECORDINGS.0);
    }
    let tests = fs::read_to_string(&not_run).unwrap_or_default();
    println!("{tests}tests that could not run here: {}", tests.lines().count());
    result
}

fn not_run() -> PathBuf {
    workspace::root().join("target/not-run.txt")
}

fn cargo(arguments: &str) -> Result<()> {
    command::run(cargo_command(arguments).env(NOT_RUN, not_run()))
}

fn cargo_command(arguments: &str) -> Command {
    let mut cargo = command::command("cargo", []);
    cargo.args(arguments.split_whitespace());
    cargo
}

/// One line for each step that ran, of which only the last can have failed, and one for their sum.
fn table(times: &[(&str, Duration)], passed: bool) -> String {
    let line = |title: &str, time: Duration, note: &str| format!("{title:32}{:>8.1} s  {note}\n", time.as_secs_f64());
    let mut table = String::new();
    for (index, (title, time)) in times.iter().enumerate() {
        let failed = !passed && index + 1 == times.len();
        table += &line(title, *time, if failed { "FAILED" } else { "ok" });
    }
    table + &line("total", times.iter().map(|(_, time)| *time).sum(), "")
}

#[cfg(test)]
mod tests {
    use super::table;
    use std::time::Duration;

    #[test]
    fn table_marks_the_last_step_of_a_failed_run() {
        let times = [("format", Duration::from_millis(1500)), ("page", Duration::from_secs(60))];
        let words = |text: String| -> Vec<Vec<String>> {
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
        };
        assert_eq!(
            words(table(&times, false)),
            [vec!["format", "1.5", "s", "ok"], vec!["page", "60.0", "s", "FAILED"], vec!["total", "61.5", "s"],]
        );
        assert!(!table(&times, true).contains("FAILED"));
    }
}
