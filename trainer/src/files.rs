//! Reading files, and writing them so that a kill or a full disk never leaves half of one.

use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};

use lddgan::ModelFile;

use crate::warn;

/// A file or folder that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {action}: {reason}", .path.display())]
pub struct FileError {
    path: PathBuf,
    action: &'static str,
    reason: Error,
}

impl FileError {
    fn new(path: &Path, action: &'static str) -> impl FnOnce(Error) -> Self {
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
        sync_folder(folder(&self.path));
        Ok(())
    }
}

/// A folder of files that is written beside its path, flushed to the disk, then renamed. Until then, and on an error,
/// there is no such folder.
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
            let mut file = File::create_new(self.temporary.path().join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(FileError::new(&self.path.join(name), CANNOT_WRITE))
    }

    /// Gives the folder its name, which no other may have.
    pub fn persist(self) -> Result<(), FileError> {
        let fail = || FileError::new(&self.path, CANNOT_WRITE);
        sync_folder(self.temporary.path());
        std::fs::rename(self.temporary.path(), &self.path).map_err(fail())?;
        // It is not there any more under that name.
        let _ = self.temporary.keep();
        sync_folder(folder(&self.path));
        Ok(())
    }
}

const CANNOT_WRITE: &str = "cannot be written";

/// How names of files and folders begin that have not got theirs yet; a random part follows. After a kill they are left
/// over. Nobody else has such names.
const LEFTOVER: &str = ".lddgan-tmp-";

/// The rename of a file should reach the disk as well. Windows and some network file systems do not know how; the file
/// is whole without it.
fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
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
        return Err(fail()(Error::other(reason)));
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
/// program has locked it. Where the file system knows no locks, it is a warning, and the file is not locked.
pub fn lock(path: &Path) -> Result<Option<File>, FileError> {
    lock_by(path, File::try_lock)
}

/// As [`lock`], by this system call.
fn lock_by(
    path: &Path,
    mut try_lock: impl FnMut(&File) -> Result<(), TryLockError>,
) -> Result<Option<File>, FileError> {
    let fail = || FileError::new(path, "cannot be locked");
    create_folder(folder(path))?;
    let file = File::options().create(true).append(true).open(path).map_err(fail())?;
    loop {
        match try_lock(&file) {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) if knows_no_locks(&error) => {
                warn!("warning: {}: cannot be locked ({error}); start no second run here", path.display());
                return Ok(Some(file));
            }
            Err(TryLockError::Error(error)) => return Err(fail()(error)),
        }
    }
}

/// As Lustre and NFS answer: ENOSYS, EOPNOTSUPP, or ENOLCK.
fn knows_no_locks(error: &Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::ENOLCK) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported
}

/// The names in a folder, none if there is no such folder.
pub fn list(folder: &Path) -> Result<Vec<String>, FileError> {
    let fail = || FileError::new(folder, "cannot be read");
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail()(error)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().map_err(fail())
}

pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(FileError::new(from, "cannot be renamed"))
}

/// Removes a file, if it is there.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::new(path, "cannot be removed")(error)),
        _ => Ok(()),
    }
}

/// Removes the files in a folder whose names are `ours`, and the folder, in one moment for those who look for it by its
/// name. If it holds anything else, that stays, and the folder with it.
pub fn remove_folder(path: &Path, ours: impl Fn(&str) -> bool) -> Result<(), FileError> {
    let fail = || FileError::new(path, "cannot be removed");
    if !list(path)?.iter().all(|name| ours(name)) {
        return remove_files(path, ours).map_err(fail());
    }
    // A name that is free: the folder that had it is gone at once.
    let hidden = tempfile::Builder::new().prefix(LEFTOVER).tempdir_in(folder(path)).map_err(fail())?.path().to_owned();
    std::fs::rename(path, &hidden).and_then(|()| remove_files(&hidden, ours)).map_err(fail())
}

/// Removes what a killed program left half written in a folder. Nothing may be written there at the same time.
pub fn remove_leftovers(folder: &Path) -> Result<(), FileError> {
    for name in list(folder)?.into_iter().filter(|name| name.starts_with(LEFTOVER)) {
        let path = folder.join(name);
        let removed = match path.is_dir() && !path.is_symlink() {
            true => remove_files(&path, |_| true),
            false => std::fs::remove_file(&path),
        };
        removed.map_err(FileError::new(&path, "cannot be removed"))?;
    }
    Ok(())
}

/// Removes the files in a folder whose names are `ours`, and the folder if nothing is left.
fn remove_files(folder: &Path, ours: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let mut left = false;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match !entry.file_type()?.is_dir() && ours(&entry.file_name().to_string_lossy()) {
            true => std::fs::remove_file(entry.path())?,
            false => left = true,
        }
    }
    if left { Ok(()) } else { std::fs::remove_dir(folder) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What network file systems answer, in the place of this machine's.
    #[test]
    fn a_file_system_without_locks_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.lock");
        let answer = |answers: Vec<TryLockError>| {
            let mut answers = answers.into_iter();
            lock_by(&path, move |_| answers.next().map_or(Ok(()), Err))
        };
        assert!(answer(vec![]).unwrap().is_some());
        assert!(answer(vec![TryLockError::WouldBlock]).unwrap().is_none());
        let error = |kind: ErrorKind| TryLockError::Error(kind.into());
        assert!(answer(vec![error(ErrorKind::Unsupported)]).unwrap().is_some());
        assert!(answer(vec![error(ErrorKind::Interrupted), TryLockError::WouldBlock]).unwrap().is_none());
        let refused = answer(vec![error(ErrorKind::PermissionDenied)]).unwrap_err().to_string();
        assert!(refused.contains("run.lock") && refused.contains("cannot be locked"), "{refused}");
        #[cfg(unix)]
        for number in [libc::ENOSYS, libc::EOPNOTSUPP, libc::ENOLCK] {
            let answered = answer(vec![TryLockError::Error(Error::from_raw_os_error(number))]);
            assert!(answered.unwrap().is_some(), "{number}");
        }
    }

    #[test]
    fn what_others_wrote_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"text").unwrap();
        };
        [".tmp/thesis/chapter", ".tmpfs-notes", ".lddgan", ".lddgan-tmp-Ab12Cd", ".lddgan-tmp-Ef34Gh/state"]
            .into_iter()
            .for_each(write);
        [".lddgan-tmp-Ij56Kl/folder/chapter", "1/state", "1/notes", "2/state"].into_iter().for_each(write);
        remove_leftovers(folder.path()).unwrap();
        for name in ["1", "2"] {
            remove_folder(&folder.path().join(name), |name| name == "state").unwrap();
        }
        let files = walkdir::WalkDir::new(folder.path()).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        let left: Vec<_> = files.map(|file| file.path().strip_prefix(folder.path()).unwrap().to_owned()).collect();
        let expected =
            [".lddgan", ".lddgan-tmp-Ij56Kl/folder/chapter", ".tmp/thesis/chapter", ".tmpfs-notes", "1/notes"];
        assert_eq!(left, expected.map(PathBuf::from));
        assert!(!folder.path().join("2").exists());
    }

    /// As where a folder may be written in and not be read; its owner's rights do not hold back everyone.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_flushed_is_no_error() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let set = |mode| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o300);
        let written = write_atomic(&folder.path().join("file"), b"bytes");
        set(0o700);
        written.unwrap();
        assert_eq!(read(&folder.path().join("file")).unwrap(), b"bytes");
    }
}
