//! What was taken from a source, and what was not.

use std::collections::BTreeMap;

use lddgan::hash::sha256;
use serde::{Deserialize, Serialize};

use super::names::Endings;

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
    /// Files beside them that are no images by their names.
    #[serde(default)]
    pub not_read: Endings,
}

impl Listing {
    fn skipped(&self) -> BTreeMap<Reason, usize> {
        let mut skipped = BTreeMap::new();
        for image in &self.skipped {
            *skipped.entry(image.reason).or_default() += 1;
        }
        skipped
    }

    /// How many images were skipped for each reason, in words.
    pub(super) fn reasons(&self) -> String {
        reasons(&self.skipped())
    }
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

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}, {}", self.name, self.reason, self.detail)
    }
}

/// A summary; its length does not grow with the number of images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Names of files and folders.
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
        let skipped = listing.skipped();
        let hashes: String = listing.images.iter().map(|image| image.sha256.as_str()).collect();
        Self { source, size, images: listing.images.len(), sides, sha256: sha256(hashes.as_bytes()), skipped }
    }
}

impl std::fmt::Display for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, size, images, sides: (shortest, longest), sha256, skipped } = self;
        writeln!(
            f,
            "{source}: {images} images, here {size}x{size}; shorter sides of the originals: {shortest} to {longest}"
        )?;
        writeln!(f, "skipped: {}", reasons(skipped))?;
        write!(f, "SHA-256 of all: {sha256}")
    }
}

fn reasons(skipped: &BTreeMap<Reason, usize>) -> String {
    let counts: Vec<String> = skipped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if counts.is_empty() { "none".to_string() } else { counts.join(", ") }
}
