//! Writing files so that a kill or a full disk never leaves half of one.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

/// A file or folder that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {action}: {reason}", .path.display())]
pub struct FileError {
    path: PathBuf,
    action: &'static str,
    reason: std::io::Error,
}

impl FileError {
    fn new(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |reason| Self { path, action, reason }
    }
}

/// Replaces the file at `path`, see [`AtomicFile`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.persist()
}

/// A file that is written beside its path, flushed to the disk, then renamed. Until then, and on an error, the old file
/// stays as it was.
pub struct AtomicFile {
    path: PathBuf,
    file: tempfile::NamedTempFile,
}

impl AtomicFile {
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let folder = folder(path);
        create_folder(folder)?;
        let file = new_file(folder).map_err(FileError::new(path, CANNOT_WRITE))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(FileError::new(&self.path, CANNOT_WRITE))
    }

    /// What is written next replaces what stands at the beginning.
    pub fn rewind(&mut self) -> Result<(), FileError> {
        self.file.rewind().map_err(FileError::new(&self.path, CANNOT_WRITE))
    }

    /// Gives the file its name.
    pub fn persist(self) -> Result<(), FileError> {
        let fail = || FileError::new(&self.path, CANNOT_WRITE);
        self.file.as_file().sync_all().map_err(fail())?;
        self.file.persist(&self.path).map_err(|error| fail()(error.error))?;
        // The rename itself must reach the disk as well.
        std::fs::File::open(folder(&self.path)).and_then(|folder| folder.sync_all()).map_err(fail())
    }
}

const CANNOT_WRITE: &str = "cannot be written";

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file with the permissions of an ordinary one; by default only its owner could read it.
fn new_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// The content of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(FileError::new(path, "cannot be read"))
}

/// The last part of a path, to show.
pub fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Makes a folder and those above it.
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(FileError::new(path, "cannot be created"))
}
