//! The folder of a run: whether a run may start or go on there, and where it goes on.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::RunOptions;
use crate::checkpoint::changes::{self, Change};
use crate::checkpoint::{Checkpoint, Position, Stage, Store};
use crate::preset::Preset;
use crate::{files, log, say};

/// Keeps other programs from training in the folder.
pub fn lock(out: &Path) -> Result<Option<File>> {
    let lock = files::lock(&out.join("run.lock"))?;
    ensure!(lock.is_some(), "{}: another program is training in this folder", out.display());
    Ok(lock)
}

/// Checks that the folder is for what the options say: a fresh run, or one to go on with.
pub fn check_folder(options: &RunOptions, stage: Stage, store: &Store) -> Result<()> {
    let out = options.out.display();
    match (store.is_empty()?, options.resume) {
        _ if options.overwrite => return Ok(()),
        (false, true) => return Ok(()),
        (false, false) => {
            bail!(
                "{out} already holds a run: go on with --resume, choose another --out, or replace it with --overwrite"
            )
        }
        (true, true) => bail!("{out}: no checkpoint to resume from; leave --resume out to start"),
        (true, false) => {}
    }
    let names = [stage.model_file(), stage.best_model_file(), log::LOSSES.to_string()];
    if let Some(name) = names.iter().find(|name| options.out.join(name).is_file()) {
        let seen = images_seen(&options.out, stage).map(|seen| format!(" ({seen} images seen)")).unwrap_or_default();
        bail!(
            "{out} holds {name} of an earlier run{seen}, but no checkpoint to go on from: choose another --out, or \
             replace what is there with --overwrite"
        );
    }
    Ok(())
}

/// The training images that the model file in a folder says it has seen.
pub fn images_seen(out: &Path, stage: Stage) -> Option<u64> {
    let (file, _) = files::read_model(&out.join(stage.model_file())).ok()?;
    file.provenance.images.get(stage.key()).copied()
}

/// Where a run goes on, with the preset that it goes on with.
pub fn resumed(
    checkpoint: &Checkpoint,
    path: &Path,
    stage: Stage,
    given: Option<Preset>,
    seed: Option<u64>,
) -> Result<Position> {
    checkpoint.check(stage, path)?;
    let position = checkpoint.position.clone();
    if let Some(seed) = seed.filter(|seed| *seed != position.seed) {
        bail!("{}: the run has the seed {}, not {seed}: leave --seed out to go on", path.display(), position.seed);
    }
    let Some(preset) = given else { return Ok(position) };
    accept_changes(&changes::of_presets(stage, &position.preset, &preset), path)?;
    Ok(Position { preset, ..position })
}

/// Says what differs from the run in `path`; what must not differ is an error.
pub fn accept_changes(changes: &[Change], path: &Path) -> Result<()> {
    let (allowed, refused): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(|change| change.allowed);
    if !refused.is_empty() {
        let refused = refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        bail!(
            "{}: {refused}. Go on with what the run had (without --preset it takes its own), or start another in a new \
             folder",
            path.display()
        );
    }
    for change in allowed {
        say!("going on with a change: {change}");
    }
    Ok(())
}
