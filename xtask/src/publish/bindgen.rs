//! The JavaScript around the program in other forms than the page's.

use anyhow::{Context, Result};
use std::fs;

use super::files::{self, Files};
use crate::command::{command, run as run_command};
use crate::page::Program;
use crate::tools::find_program;
use crate::workspace;

/// What wasm-bindgen makes of a program that was built: `NAME.js` and `NAME_bg.wasm`. `target` is one of its own, such as
/// `web`.
pub fn run(program: Program, target: &str, name: &str) -> Result<Files> {
    let folder = workspace::root().join("target/bindgen").join(target).join(name);
    // Of an earlier version there may be other files.
    drop(fs::remove_dir_all(&folder));
    let wasm_bindgen = find_program("wasm-bindgen").context("wasm-bindgen is not installed")?;
    let mut wasm_bindgen =
        command(wasm_bindgen, ["--target", target, "--no-typescript", "--out-name", name, "--out-dir"]);
    run_command(wasm_bindgen.arg(&folder).arg(program.compiled()))?;
    files::read(&folder)
}
