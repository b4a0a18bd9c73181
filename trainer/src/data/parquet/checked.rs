//! A file whose metadata is checked before the library decodes it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::mem::replace;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::FooterTail;
use parquet::file::reader::{ChunkReader, Length};

use super::format::{FILE_METADATA, PAGE_HEADER};
use super::thrift;

/// A file whose footer may be decoded.
pub struct Checked(File);

impl Checked {
    pub fn new(file: File) -> ParquetResult<Self> {
        if let Some(mut footer) = footer(&file) {
            thrift::check(&mut footer, &FILE_METADATA).map_err(|error| ParquetError::External(error.into()))?;
        }
        Ok(Self(file))
    }
}

/// The bytes of the metadata, or `None` where the library will say that there are none.
fn footer(file: &File) -> Option<impl BufRead + use<>> {
    let end = Length::len(file).checked_sub(FOOTER_SIZE as u64)?;
    let tail = file.get_bytes(end, FOOTER_SIZE).ok()?;
    let length = FooterTail::try_from(&tail[..]).ok()?.metadata_length() as u64;
    Some(file.get_read(end.checked_sub(length)?).ok()?.take(length))
}

impl Length for Checked {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for Checked {
    type T = CheckedHeader;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        // The library reads the last bytes like this as well, which say where the footer is.
        let is_checked = start + FOOTER_SIZE as u64 >= self.len();
        Ok(CheckedHeader { file: self.0.get_read(start)?, start, is_checked })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// The file from the header of a page on. Where the library opens it without reading there may be something else.
pub struct CheckedHeader {
    file: BufReader<File>,
    start: u64,
    is_checked: bool,
}

impl Read for CheckedHeader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !replace(&mut self.is_checked, true) {
            thrift::check(&mut self.file, &PAGE_HEADER).map_err(io::Error::other)?;
            self.file.seek(SeekFrom::Start(self.start))?;
        }
        self.file.read(buffer)
    }
}
