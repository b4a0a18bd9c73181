//! The page, built and served by trunk from the workspace's `index.html` as `Trunk.toml` says.

use crate::command::{command, run};
use crate::install::{Packages, install_missing};
use crate::tools::{Purpose, WASM_TARGET, find_program, search_path};
use crate::workspace;
use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Builds the page in release mode into `dist/`.
pub fn build() -> Result<()> {
    install_missing(Purpose::Page, Packages::Name)?;
    run(&mut trunk(["build", "--release"])?)
}

/// The compiled program of the page that was built last.
pub fn program() -> PathBuf {
    workspace::root().join("target").join(WASM_TARGET).join("page/lddgan_web.wasm")
}

/// Builds the page and serves it on this machine until the user stops it, with a rebuild when a source changes.
pub fn serve(port: u16, open: bool) -> Result<()> {
    // `trunk serve` alone would go on, without a page, after a failed build.
    build()?;
    let mut trunk = trunk(["serve", "--release", "--port", &port.to_string()])?;
    run(trunk.args((open && has_display()).then_some("--open")))
}

/// Whether a browser can show itself. On Linux trunk would report the lack of one as an error.
fn has_display() -> bool {
    let is_set = |variable| env::var_os(variable).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

fn trunk<const N: usize>(args: [&str; N]) -> Result<Command> {
    let trunk = find_program("trunk").context("trunk is not installed")?;
    let mut trunk = command(trunk, args);
    // There trunk finds wasm-bindgen, which it would download otherwise.
    trunk.env("PATH", search_path()?);
    trunk.env("TRUNK_SKIP_VERSION_CHECK", "true");
    // A backtrace of trunk would bury the compiler's message.
    trunk.env("RUST_BACKTRACE", "0");
    // Trunk 0.21 refuses the usual NO_COLOR=1.
    trunk.env_remove("NO_COLOR");
    Ok(trunk)
}
