//! Tells the program the git revision that it is built from; model files carry it as provenance.

use std::process::Command;

fn main() {
    // Grows with every commit and checkout, in a linked worktree too, where `.git` is no folder.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    if let Some(revision) = git(&["describe", "--always", "--dirty"]) {
        println!("cargo::rustc-env=LDDGAN_REVISION={revision}");
    }
}

/// What git prints, if it succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
