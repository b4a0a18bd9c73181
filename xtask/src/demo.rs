//! `cargo xtask demo`: the page on this machine.

use crate::page;
use anyhow::{Context, Result};
use clap::Args;
use std::net::TcpListener;

#[derive(Args)]
pub struct Options {
    /// Port of 127.0.0.1 on which the page is served
    #[arg(long, default_value_t = 8080)]
    port: u16,

    /// Do not open a browser
    #[arg(long)]
    no_open: bool,
}

pub fn run(options: &Options) -> Result<()> {
    // Trunk would find out only after the build, which takes minutes the first time.
    TcpListener::bind(("127.0.0.1", options.port)).with_context(|| {
        let port = options.port;
        format!("cannot serve on port {port} of 127.0.0.1; choose another with --port")
    })?;
    page::serve(options.port, !options.no_open)
}
