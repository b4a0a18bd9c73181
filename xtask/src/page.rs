//! The page, built and served by trunk from the workspace's `index.html` as `Trunk.toml` says.

use crate::command::{command, run};
use crate::install::{Packages, install_missing};
use crate::tools::{Purpose, WASM_TARGET, find_program, search_path};
use crate::workspace;
use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Builds the page in release mode into `dist/`, with the program for every browser.
pub fn build() -> Result<()> {
    install_missing(Purpose::Page, Packages::Name)?;
    run(&mut trunk(["build", "--release"])?)
}

/// Builds what others get: the page, and its program with relaxed SIMD.
pub fn build_published() -> Result<()> {
    build()?;
    Program::Relaxed.build(&[])
}

/// The forms that the page's program is built in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// For every browser
    Baseline,
    /// With the fused multiply-add of relaxed SIMD, for browsers that know it
    Relaxed,
}

impl Program {
    /// Builds the program without the page.
    pub fn build(self, features: &[&str]) -> Result<()> {
        let mut cargo = command("cargo", ["build", "--profile", "page", "--target", WASM_TARGET]);
        cargo.args(["--package", "lddgan-web", "--target-dir"]).arg(self.target());
        for feature in features {
            cargo.args(["--features", feature]);
        }
        if self == Self::Relaxed {
            // Beside the flags of .cargo/config.toml.
            let flag = format!("target.{WASM_TARGET}.rustflags = [\"-C\", \"target-feature=+relaxed-simd\"]");
            cargo.args(["--features", "relaxed-simd", "--config", &flag]);
        }
        run(&mut cargo)
    }

    /// Where it was compiled last.
    pub fn compiled(self) -> PathBuf {
        self.target().join(WASM_TARGET).join("page/lddgan_web.wasm")
    }

    fn target(self) -> PathBuf {
        workspace::root().join(match self {
            Self::Baseline => "target",
            Self::Relaxed => "target/relaxed",
        })
    }
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
