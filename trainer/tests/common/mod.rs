//! Running the program and judging what it says.

use std::process::{Command, Output};

pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lddgan"));
    command.args(arguments).env_remove("RUST_BACKTRACE");
    command
}

/// What a program said, with paths as tests name them.
fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if cfg!(windows) { text.replace('\\', "/") } else { text.into_owned() }
}

pub fn succeed(output: &Output) -> String {
    let (out, error) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}");
    format!("{out}{error}")
}

/// Checks that a command failed, with all of `words` in its message.
pub fn fail(output: &Output, words: &[&str]) {
    let error = said(&output.stderr);
    assert!(!output.status.success(), "succeeded: {}", said(&output.stdout));
    assert!(words.iter().all(|word| error.contains(word)) && !error.contains("panicked"), "{error}");
}
