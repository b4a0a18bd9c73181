//! One image in a file of its own.

use std::fs::File;
use std::path::PathBuf;

use super::DataError;
use super::reader::{Content, Reader, Sink, Stop};

#[derive(Debug)]
pub(super) struct ImageFile(pub PathBuf);

impl Reader for ImageFile {
    fn count(&self) -> Result<usize, DataError> {
        Ok(1)
    }

    /// A file that cannot be opened is an image that cannot be read.
    fn read(&self, sink: &Sink) -> Result<(), Stop> {
        let content = File::open(&self.0).and_then(Content::read);
        sink.image("", content.unwrap_or_else(|error| Content::Unreadable(error.to_string())))
    }
}
