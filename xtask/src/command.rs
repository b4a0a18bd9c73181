//! Running other programs: what is run is printed, and what fails is named.

use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// A command that will run in the workspace's root.
pub fn command<const N: usize>(program: impl AsRef<Path>, args: [&str; N]) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(args).current_dir(workspace::root());
    command
}

/// Prints the command line, runs it with its output in view, and fails unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// What the command writes to standard output, or `None` if it cannot be run or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
