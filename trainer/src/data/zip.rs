//! Images in a zip archive, as the tools of StyleGAN2-ADA and StyleGAN3 write their data sets.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::DataError;
use super::names::{is_clutter, is_image};
use super::reader::{Content, Reader, Sink, Stop};

type Archive = ZipArchive<BufReader<File>>;

#[derive(Debug)]
pub(super) struct Zip(pub PathBuf);

impl Zip {
    fn open(&self) -> Result<Archive, DataError> {
        let file = File::open(&self.0).map_err(|error| DataError::source(&self.0, error))?;
        ZipArchive::new(BufReader::new(file))
            .map_err(|error| DataError::source(&self.0, format!("truncated, damaged, or not a zip archive ({error})")))
    }

    /// Indices and names of the data set's files, in the order of their names: that of an archive may be any.
    fn files(&self, archive: &Archive) -> Vec<(usize, String)> {
        let name = |index| Some((index, archive.name_for_index(index)?.ok()?.into_owned()));
        let is_file = |name: &str| !name.ends_with('/') && !is_clutter(Path::new(name));
        let mut files: Vec<_> = (0..archive.len()).filter_map(name).filter(|(_, name)| is_file(name)).collect();
        files.sort_by(|(_, a), (_, b)| a.cmp(b));
        files
    }
}

impl Reader for Zip {
    fn count(&self) -> Result<usize, DataError> {
        let files = self.files(&self.open()?);
        Ok(files.iter().filter(|(_, name)| is_image(Path::new(name))).count())
    }

    /// An entry that is damaged, encrypted or compressed in an unknown way is an image that cannot be read.
    fn read(&self, sink: &Sink) -> Result<(), Stop> {
        let mut archive = self.open()?;
        for (index, name) in self.files(&archive) {
            if is_image(Path::new(&name)) {
                let content = archive.by_index(index).map_err(std::io::Error::from).and_then(Content::read);
                sink.image(&name, content.unwrap_or_else(|error| Content::Unreadable(error.to_string())))?;
            } else {
                sink.not_read(&name)?;
            }
        }
        Ok(())
    }
}
