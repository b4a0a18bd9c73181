//! Images in a tar archive, also one compressed with gzip.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry};

use super::DataError;
use super::source::{Content, Sink, Stop, is_image};

fn open(path: &Path) -> Result<BufReader<File>, DataError> {
    File::open(path).map(BufReader::new).map_err(|error| DataError::source(path, error))
}

/// Where a damaged archive breaks off.
fn damaged(path: &Path, images: usize, error: impl std::fmt::Display) -> DataError {
    DataError::source(path, format!("damaged or no tar archive, after {images} images: {error}"))
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz") || end.eq_ignore_ascii_case("tgz"))
}

/// How many image files the archive has.
pub(super) fn count(path: &Path) -> Result<usize, DataError> {
    let file = open(path)?;
    if is_compressed(path) {
        let mut archive = Archive::new(MultiGzDecoder::new(file));
        count_entries(path, archive.entries())
    } else {
        count_entries(path, Archive::new(file).entries_with_seek())
    }
}

fn count_entries<R: Read>(path: &Path, entries: std::io::Result<tar::Entries<'_, R>>) -> Result<usize, DataError> {
    let mut count = 0;
    for entry in entries.map_err(|error| damaged(path, count, error))? {
        count += usize::from(image_name(&entry.map_err(|error| damaged(path, count, error))?).is_some());
    }
    Ok(count)
}

/// Every image of the archive, in its order.
pub(super) fn read(path: &Path, sink: &Sink) -> Result<(), Stop> {
    let file = open(path)?;
    let content: Box<dyn Read> = if is_compressed(path) { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut archive = Archive::new(content);
    let mut count = 0;
    for entry in archive.entries().map_err(|error| damaged(path, count, error))? {
        let mut entry = entry.map_err(|error| damaged(path, count, error))?;
        let Some(name) = image_name(&entry) else { continue };
        let mut bytes = Vec::new();
        let read = entry.read_to_end(&mut bytes).map_err(|error| damaged(path, count, error))?;
        if read as u64 != entry.size() {
            return Err(damaged(path, count, format!("it ends within {name}")).into());
        }
        sink.push(&name, Content::Encoded(bytes))?;
        count += 1;
    }
    Ok(())
}

/// The name of an entry that is an image file.
fn image_name<R: Read>(entry: &Entry<'_, R>) -> Option<String> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    (entry.header().entry_type().is_file() && is_image(Path::new(&name))).then_some(name)
}
