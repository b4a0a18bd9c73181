//! The images of a run, as batches of tensors.

use std::ops::Deref;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::DataError;
use super::prepare::{Selection, select};
use super::prepared::Prepared;
use super::report;
use super::source::Source;
use crate::say;
use lddgan::hash::sha256;

/// Square RGB images of one size, 8 bits per channel.
pub struct ImageSet {
    size: usize,
    pixels: Pixels,
}

/// Image after image, channel after channel.
enum Pixels {
    Memory(Vec<u8>),
    Mapped(Prepared),
}

impl Deref for Pixels {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(pixels) => pixels,
            Self::Mapped(prepared) => prepared.pixels(),
        }
    }
}

impl ImageSet {
    /// Loads the images of a source and says what it took and left out: cropped to the central square and resized to
    /// `size` with a Lanczos filter, without duplicates and those whose shorter side is below `min_size`. A file from
    /// `lddgan data prepare` is mapped into memory as it is; its images must have that size.
    pub(super) fn load(source: &Source, size: usize, min_size: usize) -> Result<Self, DataError> {
        match source.prepared() {
            Some(path) => Self::map(path, size),
            None => Self::decode(source, size, min_size),
        }
    }

    fn map(path: &Path, size: usize) -> Result<Self, DataError> {
        let prepared = Prepared::open(path)?;
        let found = prepared.manifest().size;
        if found != size {
            let reason = format!(
                "holds images of {found}x{found} pixels, {size}x{size} are needed: lddgan data prepare --size {size}"
            );
            return Err(DataError::source(path, reason));
        }
        say!("{}: {} images", path.display(), prepared.manifest().images);
        Ok(Self { size, pixels: Pixels::Mapped(prepared) })
    }

    fn decode(source: &Source, size: usize, min_size: usize) -> Result<Self, DataError> {
        let mut pixels = Vec::new();
        report::taken(source);
        let (manifest, listing) = select(source, Selection { size, min_size, limit: None }, |_, planes| {
            pixels.extend_from_slice(planes);
            Ok(())
        })?;
        report::result(&manifest, &listing);
        Ok(Self { size, pixels: Pixels::Memory(pixels) })
    }

    /// An empty set of `size` x `size` images.
    pub fn new(size: usize) -> Self {
        Self { size, pixels: Pixels::Memory(Vec::new()) }
    }

    /// Adds images (N, 3, size, size) in \[-1, 1\], rounded to 8 bits.
    pub fn append(&mut self, images: &Tensor) -> candle_core::Result<()> {
        let (_, channels, h, w) = images.dims4()?;
        if (channels, h, w) != (3, self.size, self.size) {
            candle_core::bail!("images {:?} for a set of RGB images of {} pixels", images.dims(), self.size);
        }
        let Pixels::Memory(pixels) = &mut self.pixels else {
            candle_core::bail!("images of a prepared file cannot be added to");
        };
        let values = images.flatten_all()?.to_vec1::<f32>()?;
        pixels.extend(values.into_iter().map(lddgan::model::to_byte));
        Ok(())
    }

    /// Width and height of each image.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All values: image after image, channel after channel.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The size and the SHA-256 of all pixels: what tells one set from another.
    pub fn sha256(&self) -> String {
        format!("{0}x{0} {1}", self.size, sha256(&self.pixels))
    }

    pub fn len(&self) -> usize {
        self.pixels.len() / self.image_len()
    }

    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// The indices of `count` images, or of all if there are fewer, spread evenly: a set may be in some order.
    pub fn spread(&self, count: usize) -> Vec<u32> {
        let count = count.min(self.len());
        (0..count).map(|i| (i * self.len() / count) as u32).collect()
    }

    /// All images as they are, see [`Self::batch`].
    pub fn batch_all(&self, device: &Device) -> candle_core::Result<Tensor> {
        self.batch(&(0..self.len() as u32).collect::<Vec<_>>(), device)
    }

    fn image_len(&self) -> usize {
        3 * self.size * self.size
    }

    /// The images `indices`, (N, 3, size, size) in \[-1, 1\]; an index `i + len` is image `i` mirrored.
    pub fn batch(&self, indices: &[u32], device: &Device) -> candle_core::Result<Tensor> {
        let mut values = Vec::with_capacity(indices.len() * self.image_len());
        for &index in indices {
            let index = index as usize;
            let mirrored = index >= self.len();
            let start = (index % self.len()) * self.image_len();
            for row in self.pixels[start..start + self.image_len()].chunks_exact(self.size) {
                let value = |&byte: &u8| f32::from(byte) / 127.5 - 1.0;
                if mirrored {
                    values.extend(row.iter().rev().map(value));
                } else {
                    values.extend(row.iter().map(value));
                }
            }
        }
        Tensor::from_vec(values, (indices.len(), 3, self.size, self.size), device)
    }
}
