//! The binary version of CIFAR-10: records of a label and the pixels of one image, channel after channel.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use super::DataError;
use super::planes::picture;
use super::reader::{Content, Reader, Sink, Stop};

const SIZE: usize = 32;
/// Label and pixels.
const RECORD: usize = 1 + 3 * SIZE * SIZE;

#[derive(Debug)]
pub(super) struct Cifar10(pub PathBuf);

impl Reader for Cifar10 {
    fn count(&self) -> Result<usize, DataError> {
        let bytes = std::fs::metadata(&self.0).map_err(|error| DataError::source(&self.0, error))?.len();
        let record = RECORD as u64;
        if bytes == 0 || bytes % record != 0 {
            let reason = format!(
                "truncated, or not CIFAR-10's binary layout: {bytes} bytes are not a multiple of {record}, a label and an \
                 image"
            );
            return Err(DataError::source(&self.0, reason));
        }
        Ok((bytes / record) as usize)
    }

    fn read(&self, sink: &Sink) -> Result<(), Stop> {
        let fail = |error| DataError::source(&self.0, error);
        let mut file = BufReader::new(File::open(&self.0).map_err(fail)?);
        let mut record = [0; RECORD];
        for number in 0..self.count()? {
            file.read_exact(&mut record).map_err(fail)?;
            let [_label, planes @ ..] = &record;
            sink.image(&number.to_string(), Content::Pixels(picture(planes, SIZE)))?;
        }
        Ok(())
    }
}
