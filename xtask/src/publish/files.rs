//! Reading, copying and recording the files of a folder.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use walkdir::WalkDir;

/// The contents of files by their paths in a folder, with `/` between the parts.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What tells whether a file is whole and the right one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    pub bytes: u64,
    pub sha256: String,
}

/// Reads a folder and those in it.
pub fn read(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(folder)?;
            let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
            files.insert(parts.join("/"), read_file(entry.path())?);
        }
    }
    Ok(files)
}

pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes the files into `folder`, in place of what an earlier call wrote there. `mark` is one of the files, by which
/// such a folder is known: any other folder with something in it is left alone.
pub fn write(files: &Files, folder: &Path, mark: &str) -> Result<()> {
    if folder.join(mark).is_file() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    let is_free = !folder.exists() || folder.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    ensure!(is_free, "{} is not empty and no earlier result; choose another folder with --out", folder.display());
    for (path, bytes) in files {
        write_file(&folder.join(path), bytes)?;
    }
    Ok(())
}

/// Writes a file, and makes the folder that it is in.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}

pub fn records(files: &Files) -> BTreeMap<&str, Record> {
    let record = |bytes: &Vec<u8>| Record { bytes: bytes.len() as u64, sha256: sha256(bytes) };
    files.iter().map(|(path, bytes)| (path.as_str(), record(bytes))).collect()
}

/// In hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replaced_only_if_an_earlier_call_wrote_it() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        let file = |name: &str| (name.to_owned(), name.as_bytes().to_vec());
        write(&Files::from([file("mark"), file("a/old")]), &site, "mark").unwrap();
        let second = Files::from([file("mark"), file("a/new")]);
        write(&second, &site, "mark").unwrap();
        assert_eq!(read(&site).unwrap(), second);

        let error = write(&second, folder.path(), "mark").unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
        assert_eq!(read(&site).unwrap(), second);
    }

    #[test]
    fn records_hold_the_hash_that_everyone_computes() {
        let files = Files::from([("a".to_owned(), b"abc".to_vec())]);
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        assert_eq!(records(&files)["a"], Record { bytes: 3, sha256 });
    }
}
