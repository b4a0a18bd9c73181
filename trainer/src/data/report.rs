//! What is said about images that were read.

use std::collections::BTreeMap;

use super::manifest::{Listing, Manifest};
use super::source::Source;
use crate::say;

/// Skipped images that are named for each reason.
const NAMED: usize = 20;

/// Prints what is taken from each path.
pub fn taken(source: &Source) {
    for note in source.notes() {
        say!("{note}");
    }
}

/// Prints what was skipped and what was taken.
pub fn result(manifest: &Manifest, listing: &Listing) {
    let mut counts = BTreeMap::new();
    for image in &listing.skipped {
        let count = counts.entry(image.reason).or_insert(0);
        *count += 1;
        if *count <= NAMED {
            say!("skipped {image}");
        }
    }
    for (reason, count) in counts.into_iter().filter(|(_, count)| *count > NAMED) {
        say!("skipped {} more: {reason}", count - NAMED);
    }
    if !listing.not_read.is_empty() {
        say!("not read: {}", listing.not_read);
    }
    say!("{manifest}");
}
