//! The fastest kernels of this machine's GPU, remembered in a file between runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lddgan::Graph;
use lddgan_webgpu::Gpu;
use lddgan_webgpu::executor::ConvTimes;

use crate::files;
use crate::warn;

/// The most seconds that measuring takes at a time; what is left over is measured by the next run.
const SECONDS: f64 = 20.0;

/// The times of a graph's convolutions on this GPU: those that earlier runs measured, completed and kept for others.
pub fn tuned(gpu: &Gpu, graph: &Graph) -> Result<ConvTimes> {
    let path = path(gpu)?;
    let mut times = if path.exists() { known(&path)? } else { ConvTimes::default() };
    if pollster::block_on(times.measure(gpu, graph, SECONDS))? {
        files::write_atomic(&path, &serde_json::to_vec_pretty(&times)?)?;
    }
    Ok(times)
}

fn known(path: &Path) -> Result<ConvTimes> {
    Ok(serde_json::from_slice(&files::read(path)?).unwrap_or_else(|error| {
        warn!("warning: {}: {error}; the kernels are timed again", path.display());
        ConvTimes::default()
    }))
}

/// In the user's folder for what can be made again: `$XDG_CACHE_HOME` or ~/.cache, on Windows `%LOCALAPPDATA%`.
fn path(gpu: &Gpu) -> Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("LOCALAPPDATA"));
    let cache = cache.or_else(|| Some(folder("HOME")?.join(".cache")));
    let cache = cache.context("there is no folder for kernel times: set XDG_CACHE_HOME")?;
    Ok(cache.join("lddgan").join(format!("kernels-{}.json", ConvTimes::key(&gpu.identity()))))
}
