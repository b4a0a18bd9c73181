//! The JavaScript around the program in other forms than the page's.

use anyhow::{Context, Result};
use std::fs;

use super::files::{self, Files};
use crate::command::{command, run as run_command};
use crate::tools::find_program;
use crate::{page, workspace};

/// What wasm-bindgen makes of the program that was built for the page: `program.js` and `program_bg.wasm`.
/// `target` is one of its own, such as `web`.
pub fn run(target: &str) -> Result<Files> {
    let folder = workspace::root().join("target/bindgen").join(target);
    // Of an earlier version there may be other files.
    drop(fs::remove_dir_all(&folder));
    let wasm_bindgen = find_program("wasm-bindgen").context("wasm-bindgen is not installed")?;
    let mut wasm_bindgen =
        command(wasm_bindgen, ["--target", target, "--no-typescript", "--out-name", "program", "--out-dir"]);
    run_command(wasm_bindgen.arg(&folder).arg(page::program()))?;
    files::read(&folder)
}
