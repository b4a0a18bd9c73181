//! The split of a data set that a file is of: training, validation or test, by its name or those of its folders.

use std::path::{Component, Path};

use crate::files;

pub(super) const TRAIN: &str = "train";
pub(super) const VALIDATION: &str = "validation";
pub(super) const TEST: &str = "test";

/// What a name says in words of its own, such as `training`, `val2017` or `test_sft`.
pub(super) fn canonical(name: &str) -> Option<&'static str> {
    let words = name.split(|letter: char| !letter.is_ascii_alphabetic());
    words.map(str::to_ascii_lowercase).find_map(|word| match word.as_str() {
        "val" | "valid" | "validation" | "dev" => Some(VALIDATION),
        "eval" | "evaluation" => Some(TEST),
        word if word.starts_with(TRAIN) => Some(TRAIN),
        word if word.starts_with(TEST) => Some(TEST),
        _ => None,
    })
}

/// The split by the name of a file of images, such as `train-00000-of-00002.parquet`.
pub(super) fn of_file(path: &Path) -> Option<String> {
    let name = files::name(path);
    // CIFAR-10's, beside test_batch.bin.
    if name.starts_with("data_batch_") {
        return Some(TRAIN.to_string());
    }
    canonical(&name).map(str::to_string).or_else(|| sharded(&name))
}

/// A name of any kind before the number of a part: `extra` of `extra-00001-of-00002`.
fn sharded(name: &str) -> Option<String> {
    let (before, _) = name.rsplit_once("-of-")?;
    let (split, number) = before.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !split.is_empty()).then(|| split.to_string())
}

/// The split by the folders above a file, the nearest first.
pub(super) fn of_folders(path: &Path) -> Option<String> {
    let folders = path.parent()?.components().rev();
    let names = folders.filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    names.into_iter().find_map(|name| canonical(&name).map(str::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_told_by_words() {
        let of_file = |name: &str| of_file(Path::new(name)).unwrap_or_default();
        for (name, split) in [
            ("data/train-00000-of-00002-a09b74b3ef9c3b56.parquet", "train"),
            ("imagenet1k-validation-0007.tar", "validation"),
            ("test_sft.parquet", "test"),
            ("extra-00001-of-00002.parquet", "extra"),
            ("data_batch_1.bin", "train"),
            ("test_batch.bin", "test"),
            ("constrained.parquet", ""),
            ("valley.parquet", ""),
        ] {
            assert_eq!(of_file(name), split, "{name}");
        }
        let of_folders = |name: &str| of_folders(Path::new(name)).unwrap_or_default();
        for (name, split) in [
            ("val2017/a.jpg", "validation"),
            ("default/partial-train/0000.parquet", "train"),
            ("church_outdoor_train_lmdb/data.mdb", "train"),
            ("test/train/a.jpg", "train"),
            ("train.jpg", ""),
        ] {
            assert_eq!(of_folders(name), split, "{name}");
        }
    }
}
