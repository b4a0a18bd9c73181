//! `lddgan export`: a model for other runtimes.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lddgan_trainer::backend::Dtype;
use lddgan_trainer::files::read_model;
use lddgan_trainer::say;
use lddgan_trainer::{export, files};

#[derive(Args)]
pub struct Export {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Folder that gets generator.onnx and decoder.onnx
    #[arg(long, value_name = "FOLDER")]
    onnx: PathBuf,
    /// Numbers of weights and arithmetic; inputs and outputs are f32 either way
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
}

pub fn export(options: &Export) -> Result<()> {
    let (file, name) = read_model(&options.model)?;
    files::create_folder(&options.onnx)?;
    for file in export::onnx(&file, &name, options.dtype)? {
        let path = options.onnx.join(format!("{}.onnx", file.network));
        files::write_atomic(&path, &file.bytes)?;
        say!("{}: {:.2} MB", path.display(), file.bytes.len() as f64 / 1e6);
    }
    Ok(())
}
