//! `cargo xtask`: the set-up, build, serve and test commands of this workspace.

mod bench;
mod command;
#[cfg(unix)]
mod cuda;
mod demo;
mod doctor;
mod fuzz;
#[cfg(unix)]
mod gpu_visit;
mod install;
mod page;
mod publish;
mod recorded;
mod test;
mod tools;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Set up, build, serve and test this workspace.
///
/// Each command installs what it needs and lacks; `doctor` shows what that would be.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the page in release mode, serve it on this machine and open it in a browser
    Demo(demo::Options),
    /// Write the page as a folder of static files for any web host, with compressed forms beside them
    Dist(publish::Options),
    /// Write the page as one file, lddgan-offline.html, that opens from a disk or stick without a server
    Bundle(publish::Options),
    /// Write the program as a package for other pages, with TypeScript types and an example
    Npm(publish::Options),
    /// Make the faces that the page shows while it loads, from the card of its model
    Recorded(recorded::Options),
    /// Run every check: formatting, lints, unit and parity tests, the page in a headless browser
    Test(test::Options),
    /// Time this project beside others
    #[command(subcommand)]
    Bench(bench::Options),
    /// List the tools that the other commands need, which are missing, and how to get them
    Doctor,
    /// Feed damaged and hostile files to a reader until it fails or the time is over
    Fuzz(fuzz::Options),
    /// Build the program and its checks for NVIDIA GPUs
    #[cfg(unix)]
    Cuda(cuda::Options),
    /// Prepare a short visit to a bare machine with a GPU that takes a copy of this tree and has no network
    #[cfg(unix)]
    #[command(subcommand)]
    GpuVisit(gpu_visit::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Dist(options) => publish::dist(&options),
        Command::Bundle(options) => publish::bundle(&options),
        Command::Npm(options) => publish::npm(&options),
        Command::Recorded(options) => recorded::write(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::bench(&options),
        Command::Doctor => doctor::run(),
        Command::Fuzz(options) => fuzz::run(&options),
        #[cfg(unix)]
        Command::Cuda(options) => cuda::run(&options),
        #[cfg(unix)]
        Command::GpuVisit(options) => gpu_visit::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without anyhow's backtrace, which would bury the message.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
