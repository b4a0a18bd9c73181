//! Training, sampling and measuring of Latent Denoising Diffusion GANs: what the `lddgan` program is made of.

#![warn(clippy::unwrap_used)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod adam;
mod adversarial;
pub mod allocation;
pub mod autoencoder;
pub mod backend;
pub mod bench;
pub mod checkpoint;
pub mod data;
pub mod directions;
pub mod distributed;
pub mod eval;
pub mod export;
pub mod files;
pub mod gan;
pub mod grid;
pub mod import;
pub mod interrupts;
pub mod loaded_model;
pub mod log;
pub mod memory;
pub mod network;
mod noise;
pub mod output;
pub mod precision;
pub mod preset;
mod principal;
pub mod progress;
pub mod run;
pub mod second_order;
pub mod threads;
pub mod tuning;

/// The git revision that the program was built from, `unknown` outside a checkout.
pub fn revision() -> String {
    option_env!("LDDGAN_REVISION").unwrap_or("unknown").to_string()
}
