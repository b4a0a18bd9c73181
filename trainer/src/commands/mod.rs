//! The commands of the program, apart from training.

mod average;
mod bench;
mod check;
mod data;
mod eval;
mod export;
mod import;
mod info;
mod kernels;
mod neighbours;
mod reconstruct;
mod run;
mod sample;

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Device;
use lddgan::parameters::TensorMap;
use lddgan_trainer::files;

pub use average::{Average, average};
pub use bench::{Bench, bench};
pub use check::{Check, MakeGolden, check, golden};
pub use data::{Data, data};
pub use eval::{Eval, eval};
pub use export::{Export, export};
pub use import::{Import, import};
pub use info::{Info, info};
pub use neighbours::{Neighbours, neighbours};
pub use reconstruct::{Reconstruct, reconstruct};
pub use run::{Run, run};
pub use sample::{Sample, sample};

fn read_tensors(path: &Path) -> Result<TensorMap> {
    let tensors = candle_core::safetensors::load_buffer(&files::read(path)?, &Device::Cpu);
    let tensors = tensors.with_context(|| format!("{}: no readable safetensors file", path.display()))?;
    Ok(tensors.into_iter().collect())
}
