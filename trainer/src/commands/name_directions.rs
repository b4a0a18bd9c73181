//! `lddgan name-directions`: names for the directions that images can be moved along.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::DType;
use clap::Args;
use lddgan::{Direction, ModelFile};
use lddgan_trainer::files::{self, read_model};
use lddgan_trainer::say;

#[derive(Args)]
pub struct NameDirections {
    /// Model file, whose generator starts from the normal distribution of the data
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// What a mode changes, in a word; the strongest mode is 0. Give it once for each direction
    #[arg(long = "name", value_name = "NAME=MODE", required = true, value_parser = direction)]
    names: Vec<Direction>,
    /// File that gets the model with these names, in place of those that it had, with weights in f16
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn direction(text: &str) -> Result<Direction, String> {
    let read = text.split_once('=').and_then(|(name, mode)| Some((name.trim(), mode.trim().parse().ok()?)));
    let allowed =
        |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && name.parse::<u64>().is_err();
    let read = read.filter(|(name, _)| !name.is_empty() && allowed(name));
    let (name, mode) =
        read.ok_or("needs a name of letters, digits and -, then `=` and the number of a mode: hair=3")?;
    Ok(Direction { mode, name: name.to_string() })
}

pub fn name_directions(options: &NameDirections) -> Result<()> {
    let (mut model, name) = read_model(&options.model)?;
    let modes = modes(&model);
    ensure!(modes > 0, "{name}: its generator does not start from the normal distribution of the data");
    let beyond = options.names.iter().find(|direction| direction.mode >= modes);
    if let Some(Direction { mode, name: direction }) = beyond {
        anyhow::bail!("--name {direction}={mode}: {name} has the modes 0 to {}", modes - 1);
    }
    model.provenance.directions.clone_from(&options.names);
    files::write_atomic(&options.out, &model.to_bytes(DType::F16)?)?;
    say!("wrote {}, {name} with {} names", options.out.display(), options.names.len());
    Ok(())
}

/// Along how many modes images of a model can be moved.
pub fn modes(model: &ModelFile) -> usize {
    model.config.generator.as_ref().map_or(0, |generator| generator.gaussian_modes)
}

/// Reads `NAME=AMOUNT`, where the name is one of the model's or the number of a mode.
pub fn shift(text: &str, model: &ModelFile) -> Result<(usize, f32)> {
    let known = || {
        let names = model.provenance.directions.iter().map(|direction| direction.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let (name, amount) = text.split_once('=').with_context(|| format!("--direction {text}: needs NAME=AMOUNT"))?;
    let mode = model.provenance.direction(name).filter(|&mode| mode < modes(model));
    let mode = mode.with_context(|| match modes(model) {
        0 => format!("--direction {text}: this model has no directions"),
        modes => format!("--direction {text}: this model has the directions {} and 0 to {}", known(), modes - 1),
    })?;
    let amount = amount.parse().with_context(|| format!("--direction {text}: `{amount}` is no number"))?;
    Ok((mode, amount))
}
