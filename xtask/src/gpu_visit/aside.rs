//! Large files of the tree, moved aside for a while. Each move is one renaming, so that an interruption at any moment
//! leaves every file in one of two places, and [`Aside::restore`] mends it.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Files of this many bytes and more go aside.
const LARGE: u64 = 256 << 10;

pub struct Aside {
    pub root: PathBuf,
    /// Has the files under the same names; on the same disk.
    pub folder: PathBuf,
}

impl Aside {
    /// Moves the large ones of these files of the tree; how many.
    pub fn take(&self, files: &[PathBuf]) -> Result<usize> {
        let mut moved = 0;
        for file in files {
            if fs::symlink_metadata(file)?.len() < LARGE {
                continue;
            }
            let name = file.strip_prefix(&self.root).with_context(|| format!("{} is elsewhere", file.display()))?;
            rename(file, &self.folder.join(name))?;
            moved += 1;
        }
        Ok(moved)
    }

    /// Moves all files back.
    pub fn restore(&self) -> Result<()> {
        for entry in WalkDir::new(&self.folder).into_iter().filter(|_| self.folder.exists()) {
            let entry = entry?;
            if entry.file_type().is_dir() {
                continue;
            }
            let file = self.root.join(entry.path().strip_prefix(&self.folder)?);
            ensure!(
                !file.exists() || same(&file, entry.path())?,
                "{} is there again and differs from {}: remove one of them, and run `cargo xtask gpu-visit restore`",
                file.display(),
                entry.path().display()
            );
            rename(entry.path(), &file)?;
        }
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| format!("cannot remove {}", self.folder.display()))?;
        }
        Ok(())
    }
}

fn same(a: &Path, b: &Path) -> Result<bool> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    Ok(read(a)? == read(b)?)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::{Aside, LARGE};
    use std::fs;
    use std::path::PathBuf;

    /// A tree of a large model, a large picture in a folder, and a small text.
    fn tree() -> (tempfile::TempDir, Aside, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        fs::create_dir_all(root.join("docs/pictures")).unwrap();
        let files = ["model", "docs/pictures/face", "text"].map(|name| root.join(name));
        for (file, size) in files.iter().zip([LARGE + 1, LARGE, 3]) {
            fs::write(file, vec![size as u8; size as usize]).unwrap();
        }
        let aside = Aside { root: root.clone(), folder: root.join("target/aside") };
        (folder, aside, files.to_vec())
    }

    fn sizes(files: &[PathBuf]) -> Vec<Option<u64>> {
        files.iter().map(|file| Some(fs::metadata(file).ok()?.len())).collect()
    }

    #[test]
    fn large_files_go_and_come_back() {
        let (_folder, aside, files) = tree();
        let before = sizes(&files);
        assert_eq!(aside.take(&files).unwrap(), 2);
        assert_eq!(sizes(&files), [None, None, Some(3)]);
        aside.restore().unwrap();
        assert_eq!(sizes(&files), before);
        assert!(!aside.folder.exists());
        aside.restore().unwrap();
    }

    #[test]
    fn what_an_interruption_leaves_is_mended() {
        let (_folder, aside, files) = tree();
        let before = sizes(&files);
        aside.take(&files[..1]).unwrap();
        aside.restore().unwrap();
        assert_eq!(sizes(&files), before);
        // Interrupted while it restores.
        aside.take(&files).unwrap();
        fs::rename(aside.folder.join("model"), &files[0]).unwrap();
        aside.restore().unwrap();
        assert_eq!(sizes(&files), before);
    }

    #[test]
    fn a_file_that_is_there_again_is_not_overwritten() {
        let (_folder, aside, files) = tree();
        aside.take(&files).unwrap();
        fs::write(&files[0], "other").unwrap();
        let error = aside.restore().unwrap_err().to_string();
        assert!(error.contains("is there again and differs"), "{error}");
        assert_eq!(fs::read(&files[0]).unwrap(), b"other");
        fs::remove_file(&files[0]).unwrap();
        aside.restore().unwrap();
        assert_eq!(sizes(&files), [Some(LARGE + 1), Some(LARGE), Some(3)]);
    }
}
