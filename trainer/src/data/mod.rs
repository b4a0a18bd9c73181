//! Images for training and evaluation: from folders, archives and databases to pixels of one size.

mod cifar10;
mod decode;
mod image_set;
mod lmdb;
pub mod manifest;
mod parquet;
mod prefetch;
mod prepare;
mod prepared;
mod source;
mod tar;

use std::path::{Path, PathBuf};

pub use decode::picture;
pub use image_set::{ImageSet, load};
pub use prefetch::prefetch;
pub use prepare::{Selection, prepare, select};
pub use prepared::Prepared;
pub use source::Source;

use crate::files::FileError;
use manifest::Skipped;

/// What went wrong with a data source as a whole.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: {reason}", .path.display())]
    Source { path: PathBuf, reason: String },
    #[error("no image of {tried} in {} can be used; the first failed with: {first}", .path.display())]
    NoneUsable { path: PathBuf, tried: usize, first: String },
    #[error(transparent)]
    File(#[from] FileError),
}

impl DataError {
    fn source(path: &Path, reason: impl ToString) -> Self {
        Self::Source { path: path.to_path_buf(), reason: reason.to_string() }
    }

    fn none_usable(path: &Path, skipped: &[Skipped]) -> Self {
        match skipped.first() {
            Some(first) => {
                let first_reason = format!("{}: {}, {}", first.name, first.reason, first.detail);
                Self::NoneUsable { path: path.to_path_buf(), tried: skipped.len(), first: first_reason }
            }
            None => Self::source(path, "holds no images (jpg, png or webp)"),
        }
    }
}
