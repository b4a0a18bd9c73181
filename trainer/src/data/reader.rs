//! What every reader of a kind of file does: it counts the images of a file, and gives them one after the other.

use std::io::Read;
use std::sync::mpsc::SyncSender;

use image::RgbImage;

use super::DataError;

/// Bytes of an encoded image, and of its pixels, at most: a few bytes of an archive may stand for any number.
pub(super) const LARGEST_IMAGE: u64 = 512 << 20;

/// One file with images in it.
pub(super) trait Reader: std::fmt::Debug + Send + Sync {
    /// How many images it has, readable or not.
    fn count(&self) -> Result<usize, DataError>;

    /// Sends every image, in the order of the file.
    fn read(&self, sink: &Sink) -> Result<(), Stop>;
}

/// What a reader comes upon.
pub(super) enum Item {
    Image(SourceImage),
    /// A file in an archive that is no image by its name.
    NotRead(String),
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

impl Content {
    /// The rest of a file that holds one image.
    pub fn read(file: impl Read) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        let length = file.take(LARGEST_IMAGE + 1).read_to_end(&mut bytes)?;
        Ok(if length as u64 > LARGEST_IMAGE {
            Self::Unreadable(format!("has more than {} MiB", LARGEST_IMAGE >> 20))
        } else {
            Self::Encoded(bytes)
        })
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
    pub sender: &'a SyncSender<Result<Item, DataError>>,
    /// What the names of its images begin with.
    pub prefix: &'a str,
}

impl Sink<'_> {
    /// Waits until there is room.
    pub fn image(&self, name: &str, content: Content) -> Result<(), Stop> {
        self.send(Item::Image(SourceImage { name: format!("{}{name}", self.prefix), content }))
    }

    pub fn not_read(&self, name: &str) -> Result<(), Stop> {
        self.send(Item::NotRead(name.to_string()))
    }

    fn send(&self, item: Item) -> Result<(), Stop> {
        self.sender.send(Ok(item)).map_err(|_| Stop::NotWanted)
    }
}
