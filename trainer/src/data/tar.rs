//! Images in a tar archive, also one compressed with gzip.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry};

use super::DataError;
use super::names::{is_clutter, is_image};
use super::reader::{Content, Reader, Sink, Stop};

#[derive(Debug)]
pub(super) struct Tar(pub PathBuf);

impl Tar {
    fn open(&self) -> Result<BufReader<File>, DataError> {
        File::open(&self.0).map(BufReader::new).map_err(|error| DataError::source(&self.0, error))
    }

    /// Where a damaged archive breaks off.
    fn damaged(&self, images: usize, error: impl std::fmt::Display) -> DataError {
        DataError::source(&self.0, format!("damaged, or not a tar archive, after {images} images: {error}"))
    }

    fn is_compressed(&self) -> bool {
        self.0.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz") || end.eq_ignore_ascii_case("tgz"))
    }

    fn count_entries<R: Read>(&self, entries: std::io::Result<tar::Entries<'_, R>>) -> Result<usize, DataError> {
        let mut count = 0;
        for entry in entries.map_err(|error| self.damaged(count, error))? {
            let entry = entry.map_err(|error| self.damaged(count, error))?;
            count += usize::from(file_name(&entry).is_some_and(|name| is_image(Path::new(&name))));
        }
        Ok(count)
    }
}

impl Reader for Tar {
    fn count(&self) -> Result<usize, DataError> {
        let file = self.open()?;
        if self.is_compressed() {
            let mut archive = Archive::new(MultiGzDecoder::new(file));
            self.count_entries(archive.entries())
        } else {
            self.count_entries(Archive::new(file).entries_with_seek())
        }
    }

    fn read(&self, sink: &Sink) -> Result<(), Stop> {
        let file = self.open()?;
        let content: Box<dyn Read> =
            if self.is_compressed() { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut archive = Archive::new(content);
        let mut count = 0;
        for entry in archive.entries().map_err(|error| self.damaged(count, error))? {
            let mut entry = entry.map_err(|error| self.damaged(count, error))?;
            let Some(name) = file_name(&entry) else { continue };
            if !is_image(Path::new(&name)) {
                sink.not_read(&name)?;
                continue;
            }
            let content = Content::read(&mut entry).map_err(|error| self.damaged(count, error))?;
            if let Content::Encoded(bytes) = &content
                && bytes.len() as u64 != entry.size()
            {
                return Err(self.damaged(count, format!("it ends within {name}")).into());
            }
            sink.image(&name, content)?;
            count += 1;
        }
        Ok(())
    }
}

/// The name of an entry that is a file of the data set.
fn file_name<R: Read>(entry: &Entry<'_, R>) -> Option<String> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    (entry.header().entry_type().is_file() && !is_clutter(Path::new(&name))).then_some(name)
}
