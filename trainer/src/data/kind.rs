//! The kinds of files that hold images, by the end of the name, and who reads them.

use std::path::{Path, PathBuf};

use super::DataError;
use super::cifar10::Cifar10;
use super::guard::guarded;
use super::image_file::ImageFile;
use super::lmdb::Lmdb;
use super::names::{counted, is_image};
use super::parquet::Parquet;
use super::prepared::PreparedFile;
use super::reader::{Reader, Sink, Stop};
use super::tar::Tar;
use super::zip::Zip;
use crate::files;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Image,
    Parquet,
    Tar,
    Zip,
    Cifar10,
    Lmdb,
    Prepared,
}

/// Of the kinds that hold many images.
const ENDS: [(&str, Kind); 8] = [
    (".parquet", Kind::Parquet),
    (".tar", Kind::Tar),
    (".tar.gz", Kind::Tar),
    (".tgz", Kind::Tar),
    (".zip", Kind::Zip),
    (".bin", Kind::Cifar10),
    (".mdb", Kind::Lmdb),
    (".safetensors", Kind::Prepared),
];

impl Kind {
    pub fn of(path: &Path) -> Option<Self> {
        if is_image(path) {
            return Some(Self::Image);
        }
        let name = files::name(path).to_ascii_lowercase();
        ENDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| *kind)
    }

    /// As [`Self::of`], for a file that was found in a folder: other programs give their files such names too.
    pub fn in_folder(path: &Path) -> Option<Self> {
        let name = files::name(path);
        Self::of(path).filter(|kind| match kind {
            Self::Image | Self::Parquet | Self::Tar | Self::Zip => true,
            Self::Cifar10 => name.starts_with("data_batch_") || name == "test_batch.bin",
            Self::Lmdb => name != "lock.mdb",
            Self::Prepared => false,
        })
    }

    pub fn reader(self, path: &Path, column: Option<&str>) -> FileReader {
        let path = path.to_path_buf();
        let reader: Box<dyn Reader> = match self {
            Self::Image => Box::new(ImageFile(path.clone())),
            Self::Parquet => Box::new(Parquet { path: path.clone(), column: column.map(str::to_string) }),
            Self::Tar => Box::new(Tar(path.clone())),
            Self::Zip => Box::new(Zip(path.clone())),
            Self::Cifar10 => Box::new(Cifar10(path.clone())),
            Self::Lmdb => Box::new(Lmdb(path.clone())),
            Self::Prepared => Box::new(PreparedFile(path.clone())),
        };
        FileReader { path, reader }
    }

    /// So many files of this kind, in words.
    pub fn files(self, count: usize) -> String {
        let kind = match self {
            Self::Image => "image",
            Self::Parquet => "Parquet",
            Self::Tar => "tar",
            Self::Zip => "zip",
            Self::Cifar10 => "CIFAR-10",
            Self::Lmdb => "LMDB",
            Self::Prepared => "prepared",
        };
        counted(count, &format!("{kind} file"))
    }

    /// The ends of all names, to show.
    pub fn ends() -> String {
        ENDS.map(|(end, _)| end).join(", ")
    }
}

/// A reader of any kind. One that panics gives an error.
#[derive(Debug)]
pub(super) struct FileReader {
    path: PathBuf,
    reader: Box<dyn Reader>,
}

impl FileReader {
    fn gave_up(&self) -> DataError {
        DataError::source(&self.path, "is damaged: its reader failed")
    }
}

impl Reader for FileReader {
    fn count(&self) -> Result<usize, DataError> {
        guarded(|| self.reader.count()).unwrap_or_else(|| Err(self.gave_up()))
    }

    fn read(&self, sink: &Sink) -> Result<(), Stop> {
        guarded(|| self.reader.read(sink)).unwrap_or_else(|| Err(self.gave_up().into()))
    }
}
