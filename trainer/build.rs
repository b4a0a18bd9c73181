//! Tells the program the git revision that it is built from; model files carry it as provenance.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/refs/heads");
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    if let Some(output) = output.ok().filter(|output| output.status.success()) {
        println!("cargo::rustc-env=LDDGAN_REVISION={}", String::from_utf8_lossy(&output.stdout).trim());
    }
}
