//! Files from the network, and from what the browser keeps.

mod download;
mod model_cache;

use lddgan::hash::sha256;
use serde::{Deserialize, Serialize};

pub use download::{Download, Progress};
pub use model_cache::{ModelCache, folder};

/// A file of the page, as its build recorded it.
#[derive(Clone, Serialize, Deserialize)]
pub struct FileRecord {
    pub bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

impl FileRecord {
    /// Whether these are the file's bytes.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        self.bytes == bytes.len() as u64 && self.sha256 == sha256(bytes)
    }
}
