//! `cargo xtask test`: every check of this workspace, in order, up to the first that fails.

use crate::command;
use crate::install::{Packages, install_missing};
use crate::page;
use crate::publish;
use crate::tools::{Purpose, WASM_TARGET};
use crate::workspace;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// Install the packages of the operating system that the tests need; as root, on Debian and Ubuntu
    #[arg(long)]
    install: bool,
    /// Run one part alone
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting, lints, documentation
    Lints,
    /// The tests of each crate
    Unit,
    /// Tests that span crates: executor against executor, the page in a browser
    Spanning,
}

type Step = (Part, &'static str, fn() -> Result<()>);

/// All are in the release profile: networks are too slow in the other, and so procedural macros and build scripts are
/// compiled once. The tests train in several processes too, so they are compiled with MPI, without which the trainer is linted
/// as well.
const CHECKS: [Step; 5] = [
    (Part::Lints, "format", || cargo("fmt --all --check")),
    (Part::Lints, "lints, native", || cargo("clippy --release --workspace --all-targets -- -D warnings")),
    (Part::Lints, "lints, native with MPI", || {
        cargo(&format!("clippy --release --workspace --all-targets {WITH_MPI} -- -D warnings"))
    }),
    (Part::Lints, "lints, wasm32", || {
        let crates = ["lddgan", "lddgan-cpu", "lddgan-kernels", "lddgan-webgpu", "lddgan-web"];
        let packages = crates.map(|name| format!("--package {name}"));
        let packages = format!("{} --features lddgan-web/bench", packages.join(" "));
        cargo(&format!("clippy --release --target {WASM_TARGET} {packages} -- -D warnings"))
    }),
    (Part::Lints, "documentation", || {
        let mut doc = cargo_command("doc --release --workspace --no-deps");
        command::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    }),
];

/// The page, which some of the tests that span crates open in a browser.
const PAGE: [Step; 3] = [
    (Part::Spanning, "page", page::build_published),
    (Part::Spanning, "page, as it is published", publish::all),
    (Part::Spanning, "size budget", publish::check_budget),
];

/// One part of the tests alone is compiled with other features of what it depends on than all of them together.
const TESTS: [Step; 2] = [
    (Part::Unit, "unit tests", || cargo(&format!("test --release --workspace --exclude lddgan-tests {WITH_MPI}"))),
    (Part::Spanning, "tests that span crates", || cargo("test --release --package lddgan-tests")),
];
const ALL_TESTS: Step =
    (Part::Spanning, "unit, parity and browser tests", || cargo(&format!("test --release --workspace {WITH_MPI}")));

/// The recordings that the repository does not carry. With the variable, they are compared with too.
const RECORDINGS: &str = "LDDGAN_FIXTURES";
const LARGE_RECORDINGS: Step = (Part::Spanning, "large recordings", || {
    cargo("test --release --package lddgan-tests --test reference -- --ignored")
});

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
    let tests: &[Step] = if options.only.is_some() { &TESTS } else { &[ALL_TESTS] };
    let steps = CHECKS.iter().chain(&PAGE).chain(tests).chain(&recordings);
    let mut steps = steps.filter(|(part, ..)| options.only.is_none_or(|only| only == *part));
    let result = steps.try_for_each(|(_, title, check)| {
        println!("\n=== {title}");
        let start = Instant::now();
        let result = check().with_context(|| format!("failed: {title}"));
        times.push((*title, start.elapsed()));
        result
    });
    print!("\n{}", table(&times, result.is_ok()));
    if recordings.is_none() {
        println!("{}: not run: set {RECORDINGS}", LARGE_RECORDINGS.1);
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
