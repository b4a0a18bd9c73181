//! The page in the forms that others get it in, each made from one build of it.

mod bindgen;
mod budget;
mod bundle;
mod compress;
mod files;
mod package;
mod relaxed;
mod site;

use crate::page;
use crate::workspace;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

const BUNDLE: &str = "lddgan-offline.html";

#[derive(Args)]
pub struct Options {
    /// Where to write it, instead of into target/
    #[arg(long)]
    out: Option<PathBuf>,
}

/// `cargo xtask dist`: a folder for any web host.
pub fn dist(options: &Options) -> Result<()> {
    page::build_published()?;
    site::write(&page(), &options.out("site"))
}

/// `cargo xtask bundle`: one file that opens without a server.
pub fn bundle(options: &Options) -> Result<()> {
    page::build()?;
    bundle::write(&page(), &options.out(BUNDLE))
}

/// `cargo xtask npm`: the program as a package for other pages.
pub fn npm(options: &Options) -> Result<()> {
    page::build_published()?;
    package::write(&options.out("npm"))
}

/// Everything, from the page as it was built last, where the tests look for it.
pub fn all() -> Result<()> {
    site::write(&page(), &target("site"))?;
    bundle::write(&page(), &target(BUNDLE))?;
    package::write(&target("npm"))
}

/// Fails if a visitor of the page as [`all`] wrote it downloads more than planned.
pub fn check_budget() -> Result<()> {
    budget::check(&target("site"))
}

impl Options {
    fn out(&self, name: &str) -> PathBuf {
        self.out.clone().unwrap_or_else(|| target(name))
    }
}

/// Where trunk puts the page.
fn page() -> PathBuf {
    workspace::root().join("dist")
}

fn target(name: &str) -> PathBuf {
    workspace::root().join("target").join(name)
}

/// A size in megabytes, as the figures of this project are given.
fn megabytes(bytes: usize) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
