//! `lddgan name-directions`: names for the directions that images can be moved along.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device};
use clap::Args;
use lddgan::{Direction, Provenance};
use lddgan_trainer::files::{self, read_model};
use lddgan_trainer::say;

#[derive(Args)]
pub struct NameDirections {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// What a direction changes, in a word; the strongest one is 0. Give it once for each direction
    #[arg(long = "name", value_name = "NAME=NUMBER", required = true, value_parser = direction)]
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
        read.ok_or("needs a name of letters, digits and -, then `=` and the number of a direction: hair=3")?;
    Ok(Direction { mode, name: name.to_string() })
}

pub fn name_directions(options: &NameDirections) -> Result<()> {
    let (mut model, name) = read_model(&options.model)?;
    let count = model.model(&name, &Device::Cpu)?.directions().count();
    ensure!(count > 0, "{name}: has no directions; `lddgan directions` finds some");
    let beyond = options.names.iter().find(|direction| direction.mode >= count);
    if let Some(Direction { mode, name: direction }) = beyond {
        anyhow::bail!("--name {direction}={mode}: {name} has the directions 0 to {}", count - 1);
    }
    model.provenance.directions.clone_from(&options.names);
    files::write_atomic(&options.out, &model.to_bytes(DType::F16)?)?;
    say!("wrote {}, {name} with {} names", options.out.display(), options.names.len());
    Ok(())
}

/// Reads `NAME=AMOUNT`, where the name is one of the model's or the number of one of its `count` directions.
pub fn shift(text: &str, model: &Provenance, count: usize) -> Result<(usize, f32)> {
    let known = || {
        let names = model.directions.iter().map(|direction| direction.name.as_str());
        names.map(|name| format!("{name}, ")).collect::<String>()
    };
    let (name, amount) = text.split_once('=').with_context(|| format!("--direction {text}: needs NAME=AMOUNT"))?;
    let mode = model.direction(name).filter(|&mode| mode < count);
    let mode = mode.with_context(|| match count {
        0 => format!("--direction {text}: this model has no directions; `lddgan directions` finds some"),
        count => format!("--direction {text}: this model has the directions {}0 to {}", known(), count - 1),
    })?;
    let amount = amount.parse().with_context(|| format!("--direction {text}: `{amount}` is not a number"))?;
    Ok((mode, amount))
}
