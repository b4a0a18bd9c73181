//! Taking images from a source: which are kept, at which size, and the file that they go to.

use std::collections::HashMap;
use std::path::Path;

use super::DataError;
use super::manifest::{Listed, Listing, Manifest, Reason, Skipped};
use super::prepared::Writer;
use super::reader::Item;
use super::source::Source;
use super::square::{Decoded, Square, squares};
use crate::interrupts;
use crate::progress::Progress;
use lddgan::hash::sha256;

/// Which images of a source are kept.
#[derive(Debug, Clone, Copy)]
pub struct Selection {
    /// Width and height that the central squares are resized to.
    pub size: usize,
    /// Images with a shorter side below this are left out.
    pub min_size: usize,
    /// Most images taken.
    pub limit: Option<usize>,
}

/// Writes the images of a source to a file from which training loads them without decoding.
pub fn prepare(source: &Source, selection: Selection, out: &Path) -> Result<(Manifest, Listing), DataError> {
    let mut writer = Writer::create(out)?;
    let (manifest, listing) = select(source, selection, |_, planes| writer.push(planes))?;
    writer.finish(&manifest, &listing)?;
    Ok((manifest, listing))
}

/// Goes through a source in its order, with a progress bar. `keep` gets the number of each image taken, and its pixels
/// channel after channel. An image that cannot be used is listed as skipped; a source with none that can is an error.
pub fn select(
    source: &Source,
    selection: Selection,
    mut keep: impl FnMut(usize, &[u8]) -> Result<(), DataError>,
) -> Result<(Manifest, Listing), DataError> {
    let limit = selection.limit.unwrap_or(usize::MAX);
    let total = source.count().min(limit);
    let mut progress = Progress::new(0, total as u64);
    let mut listing = Listing::default();
    let mut names = HashMap::new();
    let mut sides = (u32::MAX, 0);
    let mut not_read = source.not_read().clone();
    let images = source.items().into_iter().filter_map(|item| match item {
        Ok(Item::Image(image)) => Some(Ok(image)),
        Ok(Item::NotRead(name)) => {
            not_read.count(Path::new(&name));
            None
        }
        Err(error) => Some(Err(error)),
    });
    for (tried, image) in (1..).zip(squares(images, selection.size)) {
        if listing.images.len() >= limit {
            break;
        }
        interrupts::check()?;
        let Decoded { name, square } = image?;
        if let Ok(square) = &square {
            sides = (sides.0.min(square.side), sides.1.max(square.side));
        }
        match usable(square, selection.min_size, &names) {
            Ok((planes, sha256)) => {
                keep(listing.images.len(), &planes)?;
                names.insert(sha256.clone(), name.clone());
                listing.images.push(Listed { name, sha256 });
            }
            Err((reason, detail)) => listing.skipped.push(Skipped { name, reason, detail }),
        }
        progress.update(tried.min(total) as u64, &[]);
    }
    listing.not_read = not_read;
    if listing.images.is_empty() {
        return Err(DataError::none_usable(source.name(), &listing));
    }
    Ok((Manifest::new(source.name().to_string(), selection.size, sides, &listing), listing))
}

/// The pixels of an image and their hash, or why it is skipped. `names` has those taken before it by their hash.
fn usable(
    square: Result<Square, String>,
    min_size: usize,
    names: &HashMap<String, String>,
) -> Result<(Vec<u8>, String), (Reason, String)> {
    let Square { planes, side } = square.map_err(|error| (Reason::Unreadable, error))?;
    if (side as usize) < min_size {
        return Err((Reason::TooSmall, format!("{side} pixels, {min_size} are wanted (--min-size)")));
    }
    let sha256 = sha256(&planes);
    match names.get(&sha256) {
        Some(name) => Err((Reason::Duplicate, format!("same pixels as {name}"))),
        None => Ok((planes, sha256)),
    }
}
