//! What is in the folder of a run.

use std::path::{Path, PathBuf};

use crate::folder::bits;

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The newest checkpoint of a run.
pub fn newest(run: &Path) -> PathBuf {
    let checkpoints = run.join("checkpoints");
    checkpoints.join(names(&checkpoints).iter().rfind(|name| name.parse::<u64>().is_ok()).unwrap())
}

/// Compares the newest checkpoints and the model files of two runs, bit for bit.
pub fn assert_same_state(a: &Path, b: &Path) {
    for name in names(&newest(a)).iter().filter(|name| name.ends_with(".safetensors")) {
        let (a, b) = (bits(&newest(a).join(name)), bits(&newest(b).join(name)));
        assert!(!a.is_empty() && a.len() == b.len());
        for ((tensor, a), (_, b)) in a.iter().zip(&b) {
            assert_eq!(a, b, "{name}: {tensor}");
        }
    }
}

/// The lines of `losses.jsonl`.
pub fn losses(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("losses.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
