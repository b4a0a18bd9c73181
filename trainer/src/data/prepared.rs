//! The file that `lddgan data prepare` writes: safetensors with the tensor `images`, 8-bit values (N, 3, size, size); the
//! [`Manifest`] as JSON in the metadata; and the [`Listing`], as JSON too, in the tensor `listing`.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use image::RgbImage;
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::DataError;
use super::manifest::{Listing, Manifest};
use super::planes::picture;
use super::reader::{Content, Reader, Sink, Stop};
use crate::files::AtomicFile;
use lddgan::hash::sha256;

const IMAGES: &str = "images";
const LISTING: &str = "listing";
const MANIFEST: &str = "manifest";

/// Bytes before the images: the length of the header, and the header with blanks after it. Its content is known last.
const HEADER: usize = 8192;
const LENGTH: usize = size_of::<u64>();

/// A prepared file under way: it takes its name when it is whole.
pub(super) struct Writer {
    path: PathBuf,
    file: AtomicFile,
    bytes: usize,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Self, DataError> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(&[b' '; HEADER])?;
        Ok(Self { path: path.to_path_buf(), file, bytes: 0 })
    }

    /// Adds an image, channel after channel.
    pub fn push(&mut self, planes: &[u8]) -> Result<(), DataError> {
        self.bytes += planes.len();
        Ok(self.file.write_all(planes)?)
    }

    pub fn finish(mut self, manifest: &Manifest, listing: &Listing) -> Result<(), DataError> {
        let listing = serde_json::to_vec(listing).map_err(|error| DataError::source(&self.path, error))?;
        self.file.write_all(&listing)?;
        let header = header(manifest, self.bytes, listing.len());
        let header = header.map_err(|reason| DataError::source(&self.path, reason))?;
        self.file.rewind()?;
        self.file.write_all(&((HEADER - LENGTH) as u64).to_le_bytes())?;
        self.file.write_all(&header)?;
        Ok(self.file.persist()?)
    }
}

/// Without the blanks after it.
fn header(manifest: &Manifest, images: usize, listing: usize) -> Result<Vec<u8>, String> {
    let info = |shape, start, bytes| TensorInfo { dtype: Dtype::U8, shape, data_offsets: (start, start + bytes) };
    let shape = vec![manifest.images, 3, manifest.size, manifest.size];
    let tensors =
        vec![(IMAGES.to_string(), info(shape, 0, images)), (LISTING.to_string(), info(vec![listing], images, listing))];
    let manifest = serde_json::to_string(manifest).map_err(|error| error.to_string())?;
    let metadata = HashMap::from([(MANIFEST.to_string(), manifest)]);
    let metadata = Metadata::new(Some(metadata), tensors).map_err(|error| error.to_string())?;
    let header = serde_json::to_vec(&metadata).map_err(|error| error.to_string())?;
    match header.len() <= HEADER - LENGTH {
        true => Ok(header),
        false => Err(format!("the header takes {} bytes, more than fit", header.len())),
    }
}

/// A prepared file, mapped into memory: it may be larger than that.
pub struct Prepared {
    path: PathBuf,
    map: Mmap,
    manifest: Manifest,
    images: Range<usize>,
    listing: Range<usize>,
}

impl Prepared {
    /// Checks that the file is whole and holds what it says, but not its hashes; see [`Self::verify`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let fail = |reason: &dyn std::fmt::Display| DataError::source(path, reason);
        let file = File::open(path).map_err(|error| fail(&error))?;
        // SAFETY: nobody changes the file while it is mapped; `lddgan` itself replaces files and never writes into them.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| fail(&error))?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
            fail(&format!(
                "not a whole safetensors file, perhaps truncated ({error}); write it again: lddgan data prepare"
            ))
        })?;
        let foreign = || fail(&"holds no images as `lddgan data prepare` writes them");
        let manifest = metadata.metadata().as_ref().and_then(|metadata| metadata.get(MANIFEST)).ok_or_else(foreign)?;
        let manifest: Manifest = serde_json::from_str(manifest).map_err(|error| fail(&format!("manifest: {error}")))?;
        let range = |name: &str| {
            let info = metadata.info(name).filter(|info| info.dtype == Dtype::U8).ok_or_else(foreign)?;
            let (start, end) = info.data_offsets;
            Ok::<_, DataError>((info.shape.as_slice(), LENGTH + header + start..LENGTH + header + end))
        };
        let (shape, images) = range(IMAGES)?;
        let wanted = [manifest.images, 3, manifest.size, manifest.size];
        if shape != wanted || images.is_empty() {
            return Err(fail(&format!("tensor `{IMAGES}` is {shape:?}; the manifest says {wanted:?}")));
        }
        let (_, listing) = range(LISTING)?;
        Ok(Self { path: path.to_path_buf(), manifest, images, listing, map })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Image after image, channel after channel.
    pub fn pixels(&self) -> &[u8] {
        &self.map[self.images.clone()]
    }

    pub fn pictures(&self) -> impl Iterator<Item = RgbImage> {
        let size = self.manifest.size;
        self.pixels().chunks_exact(3 * size * size).map(move |planes| picture(planes, size))
    }

    pub fn listing(&self) -> Result<Listing, DataError> {
        let listing: Result<Listing, _> = serde_json::from_slice(&self.map[self.listing.clone()]);
        match listing {
            Ok(listing) if listing.images.len() == self.manifest.images => Ok(listing),
            Ok(listing) => Err(self.damaged(format!("{} images are listed", listing.images.len()))),
            Err(error) => Err(self.damaged(format!("tensor `{LISTING}`: {error}"))),
        }
    }

    /// Checks the hash of every image.
    pub fn verify(&self, listing: &Listing) -> Result<(), DataError> {
        let size = self.manifest.size;
        let images = self.pixels().par_chunks_exact(3 * size * size).zip(&listing.images);
        match images.find_first(|(planes, image)| sha256(planes) != image.sha256) {
            Some((_, image)) => Err(self.damaged(format!("{} has other pixels than were written", image.name))),
            None => Ok(()),
        }
    }

    fn damaged(&self, reason: String) -> DataError {
        DataError::source(&self.path, format!("damaged: {reason}; write it again: lddgan data prepare"))
    }
}

#[derive(Debug)]
pub(super) struct PreparedFile(pub PathBuf);

impl Reader for PreparedFile {
    fn count(&self) -> Result<usize, DataError> {
        Ok(Prepared::open(&self.0)?.manifest.images)
    }

    fn read(&self, sink: &Sink) -> Result<(), Stop> {
        let prepared = Prepared::open(&self.0)?;
        let listing = prepared.listing()?;
        for (image, picture) in listing.images.iter().zip(prepared.pictures()) {
            sink.image(&image.name, Content::Pixels(picture))?;
        }
        Ok(())
    }
}
