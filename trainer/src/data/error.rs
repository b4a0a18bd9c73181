//! What can be wrong with images as a whole.

use std::path::{Path, PathBuf};

use super::manifest::Listing;
use crate::files::FileError;
use crate::interrupts::Stopped;

/// What went wrong with a data source as a whole.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: {reason}", .path.display())]
    Source { path: PathBuf, reason: String },
    #[error("{source_name}: no image of {tried} can be used ({reasons}); the first: {first}")]
    NoneUsable { source_name: String, tried: usize, reasons: String, first: String },
    #[error("{source_name}: holds no images ({not_read})")]
    Empty { source_name: String, not_read: String },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl DataError {
    pub(super) fn source(path: &Path, reason: impl ToString) -> Self {
        Self::Source { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(super) fn none_usable(source: &str, listing: &Listing) -> Self {
        let source_name = source.to_string();
        match listing.skipped.first() {
            Some(first) => Self::NoneUsable {
                source_name,
                tried: listing.skipped.len(),
                reasons: listing.reasons(),
                first: first.to_string(),
            },
            None => Self::Empty { source_name, not_read: listing.not_read.to_string() },
        }
    }
}
