//! What was taken from a source, and what was not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why an image was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Unreadable,
    TooSmall,
    Duplicate,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::TooSmall => "too small",
            Self::Duplicate => "duplicate",
        })
    }
}

/// Every image of a source by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// Those taken, in their order.
    pub images: Vec<Listed>,
    pub skipped: Vec<Skipped>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub name: String,
    /// Of the pixels at their final size, channel after channel.
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    pub name: String,
    pub reason: Reason,
    pub detail: String,
}

/// A summary; its length does not grow with the number of images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// File or folder name.
    pub source: String,
    /// Width and height of every image.
    pub size: usize,
    pub images: usize,
    /// The shortest and the longest shorter side of the originals.
    pub sides: (u32, u32),
    /// Over the [`Listed::sha256`] of all images, one after the other.
    pub sha256: String,
    pub skipped: BTreeMap<Reason, usize>,
}

impl Manifest {
    pub(super) fn new(source: String, size: usize, sides: (u32, u32), listing: &Listing) -> Self {
        let mut skipped = BTreeMap::new();
        for image in &listing.skipped {
            *skipped.entry(image.reason).or_default() += 1;
        }
        let hashes: String = listing.images.iter().map(|image| image.sha256.as_str()).collect();
        Self { source, size, images: listing.images.len(), sides, sha256: sha256(hashes.as_bytes()), skipped }
    }
}

/// In hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
