//! `cargo xtask gpu-visit`: all that a bare machine with a GPU needs, for the minutes that it is at hand.

mod aside;
mod pack;

use crate::cuda;
use crate::workspace;
use anyhow::{Result, ensure};
use aside::Aside;
use clap::{Args, Subcommand};
use pack::{Call, MIB};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum Options {
    /// Build the program and its checks, pack what each call needs, and move large files of the tree aside
    Pack(Pack),
    /// Move the files of the tree back
    Restore,
}

#[derive(Args)]
#[command(
    after_help = "For a machine that gets a copy of this checkout (the files that git tracks or does not ignore) and the \
    folders that are named to it, up to a limit. Large tracked files are in the packed folders where they are needed, so \
    they are moved into target/gpu-visit/aside until `cargo xtask gpu-visit restore`, which also mends what an interrupted \
    run left, as the next `pack` does. Commit nothing in between. xtask/gpu-visit/visit.sh is what runs there; if there is \
    a train.sh beside it, that trains."
)]
pub struct Pack {
    /// Compute capability of the GPU to build for, without the point; 90 is Hopper
    #[arg(long, default_value = "90")]
    compute_cap: String,
    /// The folder that `cargo xtask cuda` left, instead of building it anew
    #[arg(long, value_name = "FOLDER", conflicts_with = "compute_cap")]
    built: Option<PathBuf>,
    /// A file or folder to pack for every call, for train.sh; a folder named `run` holds what the last call brought back
    #[arg(long, value_name = "PATH")]
    add: Vec<PathBuf>,
    /// The most that may travel in one call, in MiB
    #[arg(long, default_value_t = 64)]
    limit: u64,
}

pub fn run(options: &Options) -> Result<()> {
    let root = workspace::root();
    let target = root.join("target/gpu-visit");
    let aside = Aside { root: root.to_path_buf(), folder: target.join("aside") };
    aside.restore()?;
    let Options::Pack(options) = options else {
        println!("all files are where they belong");
        return Ok(());
    };
    let built = match &options.built {
        Some(folder) => folder.clone(),
        None => cuda::build(&cuda::Options { compute_cap: options.compute_cap.clone(), nccl: false })?,
    };
    let mut travelling = Vec::new();
    for call in [Call::First, Call::Later] {
        let folder = target.join(call.name());
        pack::write(&folder, &pack::contents(call, &built, root, &options.add)?)?;
        travelling.push((call, folder));
    }
    let moved = aside.take(&pack::travelling(root)?)?;
    println!("moved {moved} large files of the tree aside: run `cargo xtask gpu-visit restore` afterwards");
    let checked = report(root, &travelling, options.limit);
    if checked.is_err() {
        aside.restore()?;
    }
    checked
}

/// States the sizes, fails if one is over the limit, and says what to run.
fn report(root: &Path, calls: &[(Call, PathBuf)], limit: u64) -> Result<()> {
    let tree = pack::size(&pack::travelling(root)?)?;
    for (call, folder) in calls {
        let packed = fs::metadata(folder.join(pack::ARCHIVE))?.len();
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        let total = tree + packed;
        println!(
            "{}: tree {:.1} MiB + {:.1} MiB = {:.1} MiB of {limit}",
            call.name(),
            mib(tree),
            mib(packed),
            mib(total)
        );
        ensure!(
            total <= limit * MIB,
            "{} does not fit: leave something out of --add, or commit, ignore or remove files that git does not track",
            folder.display()
        );
    }
    for (call, folder) in calls {
        let archive = folder.strip_prefix(root).unwrap_or(folder).join(pack::ARCHIVE);
        println!("\n{}, with {} copied along:\n{}", call.name(), archive.display(), call.command(&archive));
    }
    Ok(())
}
