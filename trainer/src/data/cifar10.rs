//! The binary version of CIFAR-10: records of a label and the pixels of one image, channel after channel.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::DataError;
use super::decode::picture;
use super::source::{Content, Sink, Stop};

const SIZE: usize = 32;
/// Label and pixels.
const RECORD: usize = 1 + 3 * SIZE * SIZE;

/// How many images the file has.
pub(super) fn count(path: &Path) -> Result<usize, DataError> {
    let bytes = std::fs::metadata(path).map_err(|error| DataError::source(path, error))?.len();
    let record = RECORD as u64;
    if bytes == 0 || bytes % record != 0 {
        let reason = format!(
            "truncated, or not CIFAR-10's binary layout: {bytes} bytes are no multiple of {record}, a label and an image"
        );
        return Err(DataError::source(path, reason));
    }
    Ok((bytes / record) as usize)
}

/// Every image of the file, in its order.
pub(super) fn read(path: &Path, sink: &Sink) -> Result<(), Stop> {
    let fail = |error| DataError::source(path, error);
    let count = count(path)?;
    let mut file = BufReader::new(File::open(path).map_err(fail)?);
    let mut record = [0; RECORD];
    for number in 0..count {
        file.read_exact(&mut record).map_err(fail)?;
        let [_label, planes @ ..] = &record;
        sink.push(&number.to_string(), Content::Pixels(picture(planes, SIZE)))?;
    }
    Ok(())
}
