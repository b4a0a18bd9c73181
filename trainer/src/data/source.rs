//! Where images come from: files of several kinds, read one after the other, a few images ahead of whoever takes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::DataError;
use super::folder::{Folder, Found, Purpose};
use super::kind::{FileReader, Kind};
use super::names::{self, Endings, counted};
use super::reader::{Item, Reader, Sink, Stop};
use crate::files;

/// Images read ahead.
const READ_AHEAD: usize = 64;

/// Files and folders of images.
#[derive(Debug)]
pub struct Source {
    name: String,
    parts: Arc<Vec<Part>>,
    /// Images, readable or not.
    count: usize,
    /// What each path holds and what is left out of it, in words; not of image files.
    notes: Vec<String>,
    /// Files of folders that hold no images by their names.
    not_read: Endings,
    prepared: Option<PathBuf>,
}

/// A file.
#[derive(Debug)]
struct Part {
    /// What the names of its images begin with, or the name of its image.
    prefix: String,
    reader: FileReader,
}

/// What to take from paths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub split: Option<&'a str>,
    pub purpose: Purpose,
    /// Of Parquet files.
    pub column: Option<&'a str>,
}

impl Source {
    /// Opens folders, with all below them, and files: images, or files of images.
    pub(super) fn open(paths: &[PathBuf], choice: Choice) -> Result<Self, DataError> {
        let mut source = Self {
            name: name(paths),
            parts: Arc::default(),
            count: 0,
            notes: Vec::new(),
            not_read: Endings::default(),
            prepared: None,
        };
        let mut parts = Vec::new();
        for path in paths {
            // Of several, each lends its name to its images.
            let prefix = if paths.len() > 1 { files::name(path) } else { String::new() };
            let metadata = std::fs::metadata(path).map_err(|error| DataError::source(path, error))?;
            if metadata.is_dir() {
                parts.extend(source.open_folder(path, &prefix, choice)?);
            } else {
                parts.push(source.open_file(path, &prefix, choice)?);
            }
        }
        source.parts = Arc::new(parts);
        Ok(source)
    }

    fn open_folder(&mut self, path: &Path, prefix: &str, choice: Choice) -> Result<Vec<Part>, DataError> {
        let folder = Folder::open(path, choice.split, choice.purpose)?;
        let kind = folder.files[0].kind;
        let files = kind.files(folder.files.len());
        let part = |file: &Found| {
            let name = names::portable(&Path::new(prefix).join(&file.name));
            Part::new(kind, &file.path, name, choice.column)
        };
        let parts: Vec<_> = folder.files.iter().map(part).collect();
        let count = parts.iter().map(|part| part.reader.count()).sum::<Result<usize, _>>()?;
        self.count += count;
        self.not_read.add(&folder.not_read);
        let images = if kind == Kind::Image { files } else { format!("{} from {files}", counted(count, "image")) };
        let notes = folder.notes.iter().map(|note| format!("; {note}")).collect::<String>();
        self.notes.push(format!("{}: {images}{notes}", path.display()));
        Ok(parts)
    }

    fn open_file(&mut self, path: &Path, prefix: &str, choice: Choice) -> Result<Part, DataError> {
        let unknown = || {
            let ends = Kind::ends();
            format!("its name must end as an image's does (.jpg, .png, …) or in one of {ends}")
        };
        let kind = Kind::of(path).ok_or_else(|| DataError::source(path, unknown()))?;
        let name = if kind == Kind::Image { files::name(path) } else { prefix.to_string() };
        let part = Part::new(kind, path, name, choice.column);
        let count = part.reader.count()?;
        self.count += count;
        match kind {
            Kind::Image => {}
            Kind::Prepared => self.prepared = Some(path.to_path_buf()),
            _ => self.notes.push(format!("{}: {}", path.display(), counted(count, "image"))),
        }
        Ok(part)
    }

    /// The last part of the path; of several paths, those of the first ones.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is taken and left out, a line for each folder and file of images.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The file that `lddgan data prepare` wrote, if the source is nothing else.
    pub fn prepared(&self) -> Option<&Path> {
        self.prepared.as_deref().filter(|_| self.parts.len() == 1)
    }

    /// How many images there are, readable or not.
    pub fn count(&self) -> usize {
        self.count
    }

    pub(super) fn not_read(&self) -> &Endings {
        &self.not_read
    }

    /// All images in their order, read by a thread of their own. An error ends them.
    pub(super) fn items(&self) -> Receiver<Result<Item, DataError>> {
        let (sender, receiver) = sync_channel(READ_AHEAD);
        let parts = self.parts.clone();
        std::thread::spawn(move || {
            for part in parts.iter() {
                match part.reader.read(&Sink { sender: &sender, prefix: &part.prefix }) {
                    Ok(()) => {}
                    Err(Stop::NotWanted) => return,
                    // Nobody may be left to hear it.
                    Err(Stop::Failed(error)) => return drop(sender.send(Err(error))),
                }
            }
        });
        receiver
    }
}

/// Names of paths that are listed in that of a source.
const NAMED: usize = 3;

/// The name of a set of paths, to show.
pub(super) fn name(paths: &[PathBuf]) -> String {
    let names = paths.iter().take(NAMED).map(|path| files::name(path)).collect::<Vec<_>>().join(", ");
    let others = paths.len().saturating_sub(NAMED);
    if others == 0 { names } else { format!("{names} and {others} others") }
}

impl Part {
    fn new(kind: Kind, path: &Path, name: String, column: Option<&str>) -> Self {
        let prefix = if kind == Kind::Image || name.is_empty() { name } else { name + "/" };
        Self { prefix, reader: kind.reader(path, column) }
    }
}
