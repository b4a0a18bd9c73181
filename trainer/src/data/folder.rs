//! Which files of a folder are taken: those of one kind and, where its files are named by split, of one split.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::DataError;
use super::kind::Kind;
use super::names::{Endings, counted, is_clutter, is_image};
use super::reader::Reader;
use super::split::{self, TEST, TRAIN, VALIDATION};

/// How many times as many images as all others a kind of file must hold for the others to be left out.
const CLEARLY_MORE: usize = 10;

/// The word for files of every split.
const ALL: &str = "all";

/// What the images are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Training,
    Validation,
}

impl Purpose {
    /// The splits to take, the first before the others.
    fn splits(self) -> &'static [&'static str] {
        match self {
            Self::Training => &[TRAIN],
            Self::Validation => &[VALIDATION, TEST],
        }
    }

    /// What to do where the split is not clear.
    fn advice(self) -> &'static str {
        match self {
            Self::Training => {
                "Choose one with --data-split, take everything with `--data-split all`, or name the files"
            }
            Self::Validation => "Name the files",
        }
    }
}

/// What is taken from a folder.
#[derive(Default)]
pub(super) struct Folder {
    /// In the order of their names.
    pub files: Vec<Found>,
    pub not_read: Endings,
    /// What else was left out, and why.
    pub notes: Vec<String>,
}

pub(super) struct Found {
    pub kind: Kind,
    pub path: PathBuf,
    /// Below the folder.
    pub name: PathBuf,
}

impl Found {
    fn split(&self) -> Option<String> {
        let by_name = if self.kind == Kind::Image { None } else { split::of_file(&self.name) };
        by_name.or_else(|| split::of_folders(&self.name))
    }
}

impl Folder {
    /// Looks through a folder and all below it.
    pub fn open(path: &Path, chosen: Option<&str>, purpose: Purpose) -> Result<Self, DataError> {
        let mut folder = Self::scan(path)?;
        folder.choose_kind(path)?;
        folder.choose_split(path, chosen, purpose)?;
        if folder.files.is_empty() {
            let notes: String = folder.notes.iter().map(|note| format!("; {note}")).collect();
            let reason = format!(
                "holds no images (jpg, png, webp, gif, bmp, tiff) and no files of images (parquet, tar, zip, CIFAR-10's \
                 data_batch_*.bin, LMDB's data.mdb), but {}{notes}",
                folder.not_read
            );
            return Err(DataError::source(path, reason));
        }
        Ok(folder)
    }

    fn scan(path: &Path) -> Result<Self, DataError> {
        let mut folder = Self::default();
        let mut unread = Unread::default();
        let walk = WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || !is_clutter(Path::new(entry.file_name()))) {
            match entry {
                Ok(entry) if !entry.file_type().is_file() => {}
                Ok(entry) => folder.add(path, entry.path()),
                Err(error) if error.depth() == 0 => return Err(DataError::source(path, error)),
                Err(error) => match error.path() {
                    // A link to nothing: an image that cannot be read.
                    Some(link) if error.loop_ancestor().is_none() && link.is_symlink() && is_image(link) => {
                        folder.add(path, link);
                    }
                    Some(link) if is_clutter(link.strip_prefix(path).unwrap_or(link)) => {}
                    _ => unread.add(error),
                },
            }
        }
        folder.notes.extend(unread.note());
        Ok(folder)
    }

    fn add(&mut self, folder: &Path, path: &Path) {
        let name = path.strip_prefix(folder).unwrap_or(path).to_path_buf();
        match Kind::in_folder(path) {
            Some(kind) => self.files.push(Found { kind, path: path.to_path_buf(), name }),
            None => self.not_read.count(path),
        }
    }

    /// Keeps files of one kind: the one that clearly holds the most images, or else the only one that is named by split.
    fn choose_kind(&mut self, path: &Path) -> Result<(), DataError> {
        if self.files.iter().all(|file| file.kind == self.files[0].kind) {
            return Ok(());
        }
        let mut all: BTreeMap<Kind, OfKind> = BTreeMap::new();
        for file in &self.files {
            all.entry(file.kind).or_default().add(file)?;
        }
        let images: usize = all.values().map(|kind| kind.images).sum();
        let clearly = |kind: &&OfKind| kind.images >= CLEARLY_MORE * (images - kind.images);
        let taken = only(all.iter().filter(|(_, kind)| clearly(kind)));
        let taken = taken.or_else(|| only(all.iter().filter(|(_, kind)| kind.without_split == 0)));
        let Some((&taken, OfKind { files, .. })) = taken else {
            let kinds =
                all.iter().map(|(kind, of)| format!("{} in {}", counted(of.images, "image"), kind.files(of.files)));
            let reason = format!(
                "which images are meant is not clear: {}. Name one of these files or folders, or move the others away",
                kinds.collect::<Vec<_>>().join(", ")
            );
            return Err(DataError::source(path, reason));
        };
        let others = all.iter().filter(|(kind, _)| **kind != taken);
        let beside = if *files == 1 { "it" } else { "them" };
        self.notes.extend(others.map(|(kind, of)| format!("{} beside {beside} left out", kind.files(of.files))));
        self.files.retain(|file| file.kind == taken);
        Ok(())
    }

    /// Keeps files of one split, where all are named by split.
    fn choose_split(&mut self, path: &Path, chosen: Option<&str>, purpose: Purpose) -> Result<(), DataError> {
        let mut counts = Splits::new();
        for file in &self.files {
            *counts.entry(file.split()).or_default() += 1;
        }
        let wanted = wanted_split(&counts, chosen, purpose).map_err(|reason| DataError::source(path, reason))?;
        let Some(wanted) = wanted else { return Ok(()) };
        let others = counts.iter().filter(|(name, _)| name.as_deref() != Some(wanted));
        let others: Vec<_> = others.map(|(name, count)| of_split(name.as_deref(), *count)).collect();
        let others = if others.is_empty() { String::new() } else { format!(", left out {}", others.join(" and ")) };
        self.notes.push(format!("split {wanted}{others}"));
        self.files.retain(|file| file.split().as_deref() == Some(wanted));
        Ok(())
    }
}

/// How many files there are of each split, and of none.
type Splits = BTreeMap<Option<String>, usize>;

/// The split to take, `None` for all files, or why that is not clear.
fn wanted_split<'a>(counts: &'a Splits, chosen: Option<&str>, purpose: Purpose) -> Result<Option<&'a str>, String> {
    let names: Vec<&str> = counts.keys().flatten().map(String::as_str).collect();
    let find = |wanted: &str| names.iter().copied().find(|name| *name == wanted);
    match chosen {
        Some(ALL) => Ok(None),
        Some(name) => match find(name).or_else(|| find(split::canonical(name)?)) {
            Some(found) => Ok(Some(found)),
            None if names.is_empty() => Err(format!("has no split `{name}`, nor any other")),
            None => Err(format!("has no split `{name}`; it has {}", names.join(", "))),
        },
        None if names.len() < 2 => Ok(None),
        None => {
            let preferred = purpose.splits().iter().find_map(|name| find(name));
            if preferred.is_some() && !counts.contains_key(&None) {
                return Ok(preferred);
            }
            let files: Vec<_> = counts.iter().map(|(name, count)| of_split(name.as_deref(), *count)).collect();
            Err(format!("which split is meant is not clear: it has {}. {}", files.join(", "), purpose.advice()))
        }
    }
}

fn of_split(name: Option<&str>, count: usize) -> String {
    match name {
        Some(name) => format!("{} of {name}", counted(count, "file")),
        None => format!("{} of no split", counted(count, "file")),
    }
}

/// What the files of a kind hold.
#[derive(Default)]
struct OfKind {
    files: usize,
    images: usize,
    without_split: usize,
}

impl OfKind {
    fn add(&mut self, file: &Found) -> Result<(), DataError> {
        self.files += 1;
        self.images += file.kind.reader(&file.path, None).count()?;
        self.without_split += usize::from(file.split().is_none());
        Ok(())
    }
}

/// The only item, if there is one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

/// Folders and links that could not be followed.
#[derive(Default)]
struct Unread {
    count: usize,
    first: String,
}

impl Unread {
    fn add(&mut self, error: walkdir::Error) {
        if self.count == 0 {
            self.first = error.to_string();
        }
        self.count += 1;
    }

    fn note(&self) -> Option<String> {
        let first = &self.first;
        match self.count {
            0 => None,
            1 => Some(format!("1 folder or link that cannot be read left out: {first}")),
            count => Some(format!("{count} folders or links that cannot be read left out, the first: {first}")),
        }
    }
}
