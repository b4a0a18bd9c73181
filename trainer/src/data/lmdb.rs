//! Images in an LMDB database, one per key: encoded files (as LSUN is distributed) or the bytes of square RGB images
//! (as NVAE's scripts store CelebA-HQ).

use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{CommitOrAbort, Env, EnvFlags, EnvOpenOptions};
use image::{ImageFormat, RgbImage};

use super::DataError;
use super::reader::{Content, Reader, Sink, Stop};

/// Most pages at the end that LMDB may have set aside without writing them, in all and as a part of the whole.
const UNWRITTEN_PAGES: u64 = 256;
const UNWRITTEN_PART: u64 = 16;

fn open(path: &Path) -> Result<Env, DataError> {
    let fail =
        |error: &dyn std::fmt::Display| DataError::source(path, format!("not a readable LMDB database ({error})"));
    let mut options = EnvOpenOptions::new();
    // SAFETY: the database is only read. As every reader without a lock we rely on nobody writing to it meanwhile, which
    // nobody does with a data set; so it may lie on a disk that cannot be written to.
    let env = unsafe {
        options.flags(EnvFlags::READ_ONLY | EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK);
        options.open(path).map_err(|error| fail(&error))?
    };
    // Reading beyond the end of the file would end the program.
    let pages = env.info().last_page_number as u64 + 1;
    let wanted =
        (pages - UNWRITTEN_PAGES.min(pages / UNWRITTEN_PART)) * u64::from(env.unnamed_database_stat().page_size);
    let bytes = env.real_disk_size().map_err(|error| fail(&error))?;
    if bytes < wanted {
        return Err(fail(&format!("truncated: it has {bytes} bytes and should have at least {wanted}")));
    }
    Ok(env)
}

#[derive(Debug)]
pub(super) struct Lmdb(pub PathBuf);

impl Reader for Lmdb {
    fn count(&self) -> Result<usize, DataError> {
        Ok(open(&self.0)?.unnamed_database_stat().entries)
    }

    /// In the order of the keys, which are the names.
    fn read(&self, sink: &Sink) -> Result<(), Stop> {
        let fail = |error| DataError::source(&self.0, error);
        let env = open(&self.0)?;
        let opened = env.open_databases_and_commit(env.read_txn().map_err(fail)?, |opener, transaction| {
            opener.open_database::<Bytes, Bytes>(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        });
        let CommitOrAbort::Commit(Some(database)) = opened.map_err(fail)? else { return Ok(()) };
        let transaction = env.read_txn().map_err(fail)?;
        for entry in database.iter(&transaction).map_err(fail)? {
            let (key, value) = entry.map_err(fail)?;
            sink.image(&String::from_utf8_lossy(key), content(value))?;
        }
        Ok(())
    }
}

/// Without the marks of an image file, as many bytes as a square has are its pixels.
fn content(value: &[u8]) -> Content {
    let size = (value.len() / 3).isqrt();
    // Of the other formats some have marks so short that pixels have them by chance.
    let is_file = matches!(image::guess_format(value), Ok(ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP));
    if !is_file && size > 0 && 3 * size * size == value.len() {
        let side = u32::try_from(size).unwrap_or(u32::MAX);
        if let Some(picture) = RgbImage::from_raw(side, side, value.to_vec()) {
            return Content::Pixels(picture);
        }
    }
    Content::Encoded(value.to_vec())
}
