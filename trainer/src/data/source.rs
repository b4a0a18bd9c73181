//! Where images come from: files of several kinds, read one after the other, a few images ahead of whoever takes them.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use image::RgbImage;
use walkdir::WalkDir;

use super::{DataError, cifar10, lmdb, parquet, prepared, tar};
use crate::files;

/// Images read ahead.
const READ_AHEAD: usize = 64;

/// What a file holds, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Parquet,
    Tar,
    Cifar10,
    Lmdb,
    Prepared,
}

const KINDS: [(&str, Kind); 11] = [
    (".jpg", Kind::Image),
    (".jpeg", Kind::Image),
    (".png", Kind::Image),
    (".webp", Kind::Image),
    (".parquet", Kind::Parquet),
    (".tar", Kind::Tar),
    (".tar.gz", Kind::Tar),
    (".tgz", Kind::Tar),
    (".bin", Kind::Cifar10),
    (".mdb", Kind::Lmdb),
    (".safetensors", Kind::Prepared),
];

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        let name = files::name(path).to_ascii_lowercase();
        KINDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| *kind)
    }

    /// Whether a folder without image files is searched for this one.
    fn is_part_of_folder(self, path: &Path) -> bool {
        let name = files::name(path);
        match self {
            Self::Parquet | Self::Tar => true,
            Self::Cifar10 => name.starts_with("data_batch_"),
            Self::Lmdb => name != "lock.mdb",
            Self::Image | Self::Prepared => false,
        }
    }
}

/// Whether the name is that of an image file.
pub(super) fn is_image(path: &Path) -> bool {
    Kind::of(path) == Some(Kind::Image)
}

/// An image before it is brought to its size.
pub(super) struct SourceImage {
    /// Below the source.
    pub name: String,
    pub content: Content,
}

pub(super) enum Content {
    /// The bytes of an image file.
    Encoded(Vec<u8>),
    Pixels(RgbImage),
    /// The reason.
    Unreadable(String),
}

/// A file or folder of images.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    kind: Kind,
    path: PathBuf,
    /// Of its image, or before the names of its images.
    name: String,
}

impl Source {
    /// A folder, with all below it: its image files (jpg, png, webp) or, where it has none, its files of images. Or one
    /// such file: Parquet, tar (also with gzip), CIFAR-10's binary files, LMDB, or what `lddgan data prepare` wrote.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let metadata = std::fs::metadata(path).map_err(|error| DataError::source(path, error))?;
        let parts = if metadata.is_dir() {
            folder_parts(path)?
        } else {
            let ends = || KINDS.map(|(end, _)| end).join(", ");
            let unknown = || format!("what it holds is told by the end of its name, which is none of {}", ends());
            let kind = Kind::of(path).ok_or_else(|| DataError::source(path, unknown()))?;
            let name = if kind == Kind::Image { files::name(path) } else { String::new() };
            vec![Part { kind, path: path.to_path_buf(), name }]
        };
        Ok(Self { path: path.to_path_buf(), parts })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that `lddgan data prepare` wrote, if the source is one.
    pub fn prepared(&self) -> Option<&Path> {
        self.parts.iter().find(|part| part.kind == Kind::Prepared).map(|part| part.path.as_path())
    }

    /// How many images there are, readable or not.
    pub fn count(&self) -> Result<usize, DataError> {
        let count = |part: &Part| match part.kind {
            Kind::Image => Ok(1),
            Kind::Parquet => parquet::count(&part.path),
            Kind::Tar => tar::count(&part.path),
            Kind::Cifar10 => cifar10::count(&part.path),
            Kind::Lmdb => lmdb::count(&part.path),
            Kind::Prepared => Ok(prepared::Prepared::open(&part.path)?.manifest().images),
        };
        self.parts.iter().map(count).sum()
    }

    /// All images in their order, read by a thread of their own. An error ends them.
    pub(super) fn images(&self) -> Images {
        let (sender, receiver) = sync_channel(READ_AHEAD);
        let parts = self.parts.clone();
        let thread = std::thread::spawn(move || {
            for part in &parts {
                match part.read(&Sink { sender: &sender, part: &part.name }) {
                    Ok(()) => {}
                    Err(Stop::NotWanted) => return,
                    // Nobody may be left to hear it.
                    Err(Stop::Failed(error)) => return drop(sender.send(Err(error))),
                }
            }
        });
        Images { path: self.path.clone(), receiver, thread: Some(thread) }
    }
}

fn folder_parts(folder: &Path) -> Result<Vec<Part>, DataError> {
    let mut parts = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            // A link to nothing: an image that cannot be read.
            Err(error) if error.path().is_some_and(|path| path.is_symlink() && is_image(path)) => {
                parts.extend(error.path().map(|path| part_below(folder, Kind::Image, path)));
                continue;
            }
            Err(error) => return Err(DataError::source(folder, error)),
        };
        if let Some(kind) = Kind::of(entry.path()).filter(|_| entry.file_type().is_file()) {
            parts.push(part_below(folder, kind, entry.path()));
        }
    }
    if parts.iter().any(|part| part.kind == Kind::Image) {
        parts.retain(|part| part.kind == Kind::Image);
    } else {
        parts.retain(|part| part.kind.is_part_of_folder(&part.path));
    }
    if parts.is_empty() {
        let reason = "holds no images (jpg, png, webp) and no files of images (parquet, tar, tar.gz, \
                      CIFAR-10's data_batch_*.bin, LMDB's data.mdb)";
        return Err(DataError::source(folder, reason));
    }
    Ok(parts)
}

fn part_below(folder: &Path, kind: Kind, path: &Path) -> Part {
    let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
    Part { kind, path: path.to_path_buf(), name: if kind == Kind::Image { name } else { name + "/" } }
}

impl Part {
    fn read(&self, sink: &Sink) -> Result<(), Stop> {
        match self.kind {
            Kind::Image => {
                let unreadable = |error: std::io::Error| Content::Unreadable(error.to_string());
                sink.push("", std::fs::read(&self.path).map_or_else(unreadable, Content::Encoded))
            }
            Kind::Parquet => parquet::read(&self.path, sink),
            Kind::Tar => tar::read(&self.path, sink),
            Kind::Cifar10 => cifar10::read(&self.path, sink),
            Kind::Lmdb => lmdb::read(&self.path, sink),
            Kind::Prepared => prepared::read(&self.path, sink),
        }
    }
}

/// Why a source was not read to its end.
pub(super) enum Stop {
    NotWanted,
    Failed(DataError),
}

impl From<DataError> for Stop {
    fn from(error: DataError) -> Self {
        Self::Failed(error)
    }
}

/// Takes the images of one file, while somebody wants them.
pub(super) struct Sink<'a> {
    sender: &'a SyncSender<Result<SourceImage, DataError>>,
    part: &'a str,
}

impl Sink<'_> {
    /// Waits until there is room.
    pub fn push(&self, name: &str, content: Content) -> Result<(), Stop> {
        let image = SourceImage { name: format!("{}{name}", self.part), content };
        self.sender.send(Ok(image)).map_err(|_| Stop::NotWanted)
    }
}

/// The images of a [`Source`].
pub(super) struct Images {
    path: PathBuf,
    receiver: Receiver<Result<SourceImage, DataError>>,
    thread: Option<JoinHandle<()>>,
}

impl Iterator for Images {
    type Item = Result<SourceImage, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(image) = self.receiver.recv() {
            return Some(image);
        }
        // The end, unless the reader of some format gave up: that must not pass for a shorter source.
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        (!ended).then(|| Err(DataError::source(&self.path, "is damaged, its reader gave up")))
    }
}
