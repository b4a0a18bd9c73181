//! The commands of the program, apart from training.

mod average;
mod bench;
mod calibrate;
mod check;
mod data;
mod directions;
mod eval;
mod export;
mod import;
mod info;
mod kernels;
mod name_directions;
mod neighbours;
mod paper;
mod reconstruct;
mod replace_decoder;
mod run;
mod sample;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use clap::Args;
use lddgan::parameters::TensorMap;
use lddgan_trainer::eval::EvalError;
use lddgan_trainer::eval::features::Extractor;
use lddgan_trainer::files;

pub use average::{Average, average};
pub use bench::{Bench, bench};
pub use calibrate::{Calibrate, calibrate};
pub use check::{Check, MakeGolden, check, golden};
pub use data::{Data, data};
pub use directions::{Directions, directions};
pub use eval::{Eval, eval};
pub use export::{Export, export};
pub use import::{Import, import};
pub use info::{Info, info};
pub use name_directions::{NameDirections, name_directions};
pub use neighbours::{Neighbours, neighbours};
pub use reconstruct::{Reconstruct, reconstruct};
pub use replace_decoder::{ReplaceDecoder, replace_decoder};
pub use run::{Run, run};
pub use sample::{Sample, sample};

fn read_tensors(path: &Path) -> Result<TensorMap> {
    let tensors = candle_core::safetensors::load_buffer(&files::read(path)?, &Device::Cpu);
    let tensors = tensors.with_context(|| format!("{}: not a readable safetensors file", path.display()))?;
    Ok(tensors.into_iter().collect())
}

/// A network whose features of images are compared.
#[derive(Args)]
struct FeatureNetwork {
    /// A network in an ONNX file whose features of images are compared: input N x 3 x S x S, RGB from 0 to 255 in f32,
    /// output N x D (default: none, principal components of pixels alone)
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// Weights of the standard Inception network, in place of --features (pytorch-fid's .pth, or .safetensors with the same names)
    #[arg(long, value_name = "FILE", conflicts_with = "features")]
    inception: Option<PathBuf>,
}

impl FeatureNetwork {
    fn load(&self) -> Result<Option<Extractor>, EvalError> {
        let onnx = self.features.as_deref().map(Extractor::onnx);
        onnx.or_else(|| self.inception.as_deref().map(Extractor::inception)).transpose()
    }
}

/// Paths in one line of a report.
fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
