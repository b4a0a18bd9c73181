//! `lddgan import`: the authors' checkpoints as model files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};
use clap::Args;
use lddgan::compare::Difference;
use lddgan::parameters::TensorMap;
use lddgan::{ModelFile, NetworkName, Provenance};
use lddgan_trainer::backend::BackendName;
use lddgan_trainer::import::pytorch::PytorchFile;
use lddgan_trainer::import::{self, settings};
use lddgan_trainer::network;
use lddgan_trainer::preset::Preset;
use lddgan_trainer::{files, revision};
use lddgan_trainer::{say, warn};

use super::read_tensors;

#[derive(Args)]
pub struct Import {
    /// A whole model: the preset (a name, or the path of a TOML file) that says what its networks are
    #[arg(long, requires = "generator", required_unless_present = "network")]
    preset: Option<String>,
    /// Checkpoint of the generator (netG_….pth)
    #[arg(long, value_name = "FILE", requires = "preset")]
    generator: Option<PathBuf>,
    /// Checkpoint of the autoencoder (….ckpt), where the preset's has weights
    #[arg(long, value_name = "FILE", requires = "preset")]
    autoencoder: Option<PathBuf>,
    /// Recorded tensors to compare with: x, t, z and x0; latent and image (or as the authors' tests call them)
    #[arg(long, value_name = "FILE", requires = "preset")]
    verify: Option<PathBuf>,
    /// One network alone
    #[arg(long, value_parser = ["generator", "discriminator", "autoencoder"], conflicts_with = "preset")]
    #[arg(requires_all = ["config", "weights"])]
    network: Option<String>,
    /// Settings of the network: ours (.toml, .json), or the authors' (args as .json, autoencoder as .yaml)
    #[arg(long, value_name = "FILE", requires = "network")]
    config: Option<PathBuf>,
    /// Checkpoint of the network
    #[arg(long, value_name = "FILE", requires = "network")]
    weights: Option<PathBuf>,
    /// Model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub fn import(options: &Import) -> Result<()> {
    let file = match (&options.preset, &options.generator) {
        (Some(preset), Some(generator)) => {
            let autoencoder = options.autoencoder.as_deref().map(open).transpose()?;
            import::model(&Preset::load(preset)?, &open(generator)?, autoencoder.as_ref())?
        }
        _ => import_network(options)?,
    };
    if let Some(recorded) = &options.verify {
        verify(&file, recorded)?;
    }
    files::write_atomic(&options.out, &file.to_bytes(DType::F32)?)?;
    say!("{} tensors, wrote {}", file.tensors.len(), options.out.display());
    Ok(())
}

/// Reads a checkpoint, and says what in it is passed over.
fn open(path: &Path) -> Result<PytorchFile> {
    let file = PytorchFile::open(path)?;
    if !file.foreign().is_empty() {
        let names = file.foreign().iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        warn!("note: {}: passed over objects of {names}; nothing of them was run", path.display());
    }
    Ok(file)
}

fn import_network(options: &Import) -> Result<ModelFile> {
    let name = options.network.as_deref().context("say what to import: --preset or --network")?;
    let config = options.config.as_deref().context("--config is missing")?;
    let weights = options.weights.as_deref().context("--weights is missing")?;
    let network = settings::read(config, name)?;
    let tensors = import::load(&network, &open(weights)?)?;
    let data = format!("imported from {}", files::name(weights));
    let provenance = Provenance { name: name.to_string(), data, revision: revision(), ..Default::default() };
    Ok(ModelFile { config: network.file_config(), provenance, tensors })
}

/// Largest difference to a recorded tensor, relative to its largest value.
const MAX_RELATIVE_ERROR: f64 = 1e-4;

/// Network, its inputs as recorded and as the network takes them, and its output likewise.
type Case = (NetworkName, &'static [(&'static str, &'static str)], (&'static str, &'static str));

const CASES: [Case; 5] = [
    (NetworkName::Generator, &[("x", "x"), ("t", "t"), ("z", "z")], ("x0", "x0")),
    (NetworkName::Generator, &[("x", "x"), ("t", "t"), ("z", "z")], ("x0_pred", "x0")),
    (NetworkName::Decoder, &[("latent", "latent")], ("image", "image")),
    (NetworkName::Decoder, &[("z_in", "latent")], ("decode_of_z_in", "image")),
    (NetworkName::Decoder, &[("z_in", "latent")], ("decode_quant_of_z_in", "image")),
];

/// Runs what the recorded tensors have inputs and an output for, and compares.
fn verify(file: &ModelFile, path: &Path) -> Result<()> {
    let recorded = read_tensors(path)?;
    let mut compared = 0;
    for (network, inputs, (expected, output)) in CASES {
        let Some(expected_tensor) = recorded.get(expected) else { continue };
        let input =
            |(recorded_name, name): &(&str, &str)| Some((name.to_string(), recorded.get(*recorded_name)?.clone()));
        let Some(inputs) = inputs.iter().map(input).collect::<Option<TensorMap>>() else { continue };
        let outputs = network::run(file, "the imported model", network, &inputs, BackendName::Candle, true)?;
        let found = outputs.get(output).with_context(|| format!("the network gave no {output}"))?;
        let error =
            relative_error(found, expected_tensor).with_context(|| format!("{}: {expected}", path.display()))?;
        say!("{expected}: largest error {error:.1e} of the largest value");
        ensure!(
            error <= MAX_RELATIVE_ERROR,
            "{}: {expected} differs by {error:.1e} of its largest value, more than {MAX_RELATIVE_ERROR:e}: \
             another checkpoint or other settings; nothing was written",
            path.display()
        );
        compared += 1;
    }
    ensure!(compared > 0, "{}: holds no inputs and outputs of generator or decoder to compare", path.display());
    Ok(())
}

fn relative_error(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let expected = expected.to_dtype(DType::F32)?;
    ensure!(found.dims() == expected.dims(), "is {:?}, the network gives {:?}", expected.dims(), found.dims());
    let values = |tensor: &Tensor| -> Result<Vec<f32>> { Ok(tensor.flatten_all()?.to_vec1()?) };
    Ok(Difference::between(&values(found)?, &values(&expected)?)?.relative())
}
