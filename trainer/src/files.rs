//! Reading files, and writing them so that a kill or a full disk never leaves half of one.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use lddgan::ModelFile;

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

/// A model file, and its name in errors.
pub fn read_model(path: &Path) -> anyhow::Result<(ModelFile, String)> {
    let name = path.display().to_string();
    Ok((ModelFile::from_bytes(&read(path)?, &name)?, name))
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
        sync_folder(folder(&self.path)).map_err(fail())
    }
}

/// A folder of files that is written beside its path, flushed to the disk, then renamed. Until then, and on an error,
/// there is no such folder, or the old one.
pub struct AtomicFolder {
    path: PathBuf,
    temporary: tempfile::TempDir,
}

impl AtomicFolder {
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let parent = folder(path);
        create_folder(parent)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(LEFTOVER);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let temporary = builder.tempdir_in(parent).map_err(FileError::new(path, CANNOT_WRITE))?;
        Ok(Self { path: path.to_path_buf(), temporary })
    }

    /// Adds a file.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let write = || {
            let mut file = std::fs::File::create_new(self.temporary.path().join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(FileError::new(&self.path.join(name), CANNOT_WRITE))
    }

    /// Gives the folder its name, in the place of one that is there.
    pub fn persist(self) -> Result<(), FileError> {
        let fail = || FileError::new(&self.path, CANNOT_WRITE);
        sync_folder(self.temporary.path()).map_err(fail())?;
        if self.path.exists() {
            remove_folder(&self.path)?;
        }
        std::fs::rename(self.temporary.path(), &self.path).map_err(fail())?;
        // It is not there any more under that name.
        let _ = self.temporary.keep();
        sync_folder(folder(&self.path)).map_err(fail())
    }
}

const CANNOT_WRITE: &str = "cannot be written";

/// How names of files and folders begin that have not got theirs yet. After a kill they are left over.
const LEFTOVER: &str = ".tmp";

/// The rename of a file must reach the disk as well.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file with the permissions of an ordinary one; by default only its owner could read it.
fn new_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(LEFTOVER);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// How the files begin that stand in for large ones in a clone without Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The content of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let fail = || FileError::new(path, "cannot be read");
    let bytes = std::fs::read(path).map_err(fail())?;
    if bytes.starts_with(LFS_POINTER) {
        let reason = "it is a Git LFS pointer, not the file itself: get that with `git lfs pull`, or download it";
        return Err(fail()(std::io::Error::other(reason)));
    }
    Ok(bytes)
}

/// The last part of a path, to show.
pub fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Makes a folder and those above it.
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(FileError::new(path, "cannot be created"))
}

/// Makes a file if it is not there, and locks it until what this returns is dropped or the program ends; `None` if another
/// program has locked it.
pub fn lock(path: &Path) -> Result<Option<std::fs::File>, FileError> {
    let fail = || FileError::new(path, "cannot be locked");
    create_folder(folder(path))?;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(fail())?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(fail()(error)),
    }
}

/// The names in a folder, none if there is no such folder.
pub fn list(folder: &Path) -> Result<Vec<String>, FileError> {
    let fail = || FileError::new(folder, "cannot be read");
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail()(error)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().map_err(fail())
}

pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(FileError::new(from, "cannot be renamed"))
}

/// Removes a folder and all in it, in one moment for those who look for it by its name.
pub fn remove_folder(path: &Path) -> Result<(), FileError> {
    let hidden = path.with_file_name(format!("{LEFTOVER}-{}", name(path)));
    let remove = || {
        if hidden.exists() {
            std::fs::remove_dir_all(&hidden)?;
        }
        std::fs::rename(path, &hidden)?;
        std::fs::remove_dir_all(&hidden)
    };
    remove().map_err(FileError::new(path, "cannot be removed"))
}

/// Removes what a killed program left half written in a folder. Nothing may be written there at the same time.
pub fn remove_leftovers(folder: &Path) -> Result<(), FileError> {
    for name in list(folder)?.into_iter().filter(|name| name.starts_with(LEFTOVER)) {
        let path = folder.join(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(FileError::new(&path, "cannot be removed"))?;
    }
    Ok(())
}
