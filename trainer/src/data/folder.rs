//! Images in a folder.

use std::path::{Path, PathBuf};

use super::{DataError, Encoded};

const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Every image file below `path`, in the order of the names.
pub(super) fn read(path: &Path) -> Result<Vec<Encoded>, DataError> {
    let mut files = Vec::new();
    collect(path, &mut files)?;
    files.sort();
    let read = |file: PathBuf| {
        let bytes = std::fs::read(&file).map_err(|error| DataError::source(&file, error))?;
        Ok(Encoded { name: file.display().to_string(), bytes })
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let entries = std::fs::read_dir(folder).map_err(|error| DataError::source(folder, error))?;
    for entry in entries {
        let path = entry.map_err(|error| DataError::source(folder, error))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        if path.is_dir() {
            collect(&path, files)?;
        } else if extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) {
            files.push(path);
        }
    }
    Ok(())
}
