//! `lddgan`: trains, samples, imports and inspects Latent Denoising Diffusion GANs.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod commands;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use lddgan_trainer::interrupts::{self, SIGPIPE, Stopped};
use lddgan_trainer::run::Ended;
use lddgan_trainer::{allocation, autoencoder, gan, output, second_order, threads, warn};

/// Latent Denoising Diffusion GAN: train it, make images with it
#[derive(Parser)]
#[command(name = "lddgan", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a set of images for training, or look at one
    #[command(subcommand)]
    Data(commands::Data),
    /// Train an autoencoder, or generator and discriminator on its latents
    #[command(subcommand)]
    Train(Train),
    /// Make images from seeds
    Sample(commands::Sample),
    /// Encode and decode images, and measure what is lost
    Reconstruct(commands::Reconstruct),
    /// Measure how good a model's images are
    Eval(Box<commands::Eval>),
    /// Find the training images that are nearest to a model's images: does it repeat them?
    Neighbours(commands::Neighbours),
    /// Make one model of the mean weights of several checkpoints of a training
    Average(commands::Average),
    /// Put another decoder under the generator of a model: one that went on learning
    ReplaceDecoder(commands::ReplaceDecoder),
    /// Set the variances of a model's Gaussian start, so that its samples vary as much as the data
    Calibrate(commands::Calibrate),
    /// Find directions that a model's images can be moved along, and write them into its file
    Directions(commands::Directions),
    /// Write names into a model file, for the directions that its images can be moved along
    NameDirections(commands::NameDirections),
    /// Turn the authors' PyTorch checkpoints into a model file
    Import(Box<commands::Import>),
    /// Write generator and decoder as ONNX files, for other runtimes
    Export(commands::Export),
    /// Run one network of a model file on given tensors
    Run(commands::Run),
    /// Show what a model file or a preset holds
    Info(commands::Info),
    /// Record what a model makes of a few seeds, for checks on other machines
    Golden(commands::MakeGolden),
    /// Compare what a backend makes of a model, stage by stage, with the CPU or with recorded tensors
    Check(commands::Check),
    /// Time sampling or training
    #[command(subcommand)]
    Bench(commands::Bench),
}

#[derive(Subcommand)]
enum Train {
    /// Train the autoencoder: images to latents and back
    Autoencoder(autoencoder::Options),
    /// Train generator and discriminator on the latents of an autoencoder
    Gan(gan::Options),
}

fn main() -> ExitCode {
    // SAFETY: the program has no other thread yet.
    unsafe { threads::limit() };
    // The R1 penalty needs second-order gradients.
    // SAFETY: as above.
    unsafe { second_order::start() };
    allocation::keep_freed();
    match run(&Cli::parse().command) {
        Ok(ended) => status(ended),
        Err(error) => {
            // Without anyhow's backtrace, which would bury the message.
            warn!("error: {error:#}");
            failure(&error)
        }
    }
}

/// The exit status after an error; as shells have it, 128 and the signal where that ended the program.
fn failure(error: &anyhow::Error) -> ExitCode {
    match interrupts::stopped(error) {
        Some(Stopped::Signal(signal)) => (128 + signal).into(),
        Some(Stopped::OutOfTime) | None => ExitCode::FAILURE,
    }
}

/// The exit status. That its output was lost is an error, unless its reader had enough (`lddgan info … | head`).
fn status(ended: Ended) -> ExitCode {
    match output::failure() {
        None => ended.status().into(),
        Some(_) if ended.status() != 0 => ended.status().into(),
        Some(_) if output::is_closed() => (128 + SIGPIPE).into(),
        Some(error) => {
            warn!("error: standard output cannot be written: {error}; everything else was done");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<Ended> {
    match command {
        Command::Train(Train::Autoencoder(options)) => return autoencoder::train(options),
        Command::Train(Train::Gan(options)) => return gan::train(options),
        Command::Data(command) => commands::data(command),
        Command::Sample(options) => commands::sample(options),
        Command::Reconstruct(options) => commands::reconstruct(options),
        Command::Eval(options) => commands::eval(options),
        Command::Neighbours(options) => commands::neighbours(options),
        Command::Average(options) => commands::average(options),
        Command::ReplaceDecoder(options) => commands::replace_decoder(options),
        Command::Calibrate(options) => commands::calibrate(options),
        Command::Directions(options) => commands::directions(options),
        Command::NameDirections(options) => commands::name_directions(options),
        Command::Import(options) => commands::import(options),
        Command::Export(options) => commands::export(options),
        Command::Run(options) => commands::run(options),
        Command::Info(options) => commands::info(options),
        Command::Golden(options) => commands::golden(options),
        Command::Check(options) => commands::check(options),
        Command::Bench(options) => commands::bench(options),
    }?;
    Ok(Ended::Finished)
}
