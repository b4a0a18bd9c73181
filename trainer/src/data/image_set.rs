//! The images of a run, as batches of tensors.

use std::ops::Deref;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::DataError;
use super::decode::decode;
use super::manifest::{Reason, Skipped, sha256};
use super::prepared::Prepared;
use super::source::Source;
use crate::{say, warn};

/// Square RGB images of one size, 8 bits per channel.
pub struct ImageSet {
    size: usize,
    pixels: Pixels,
    /// Images that could not be used.
    pub skipped: Vec<Skipped>,
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
    /// Loads every image of a [`Source`], cropped to the central square and resized to `size` with a Lanczos filter.
    /// A file from `lddgan data prepare` is mapped into memory as it is; its images must have that size.
    pub fn load(path: &Path, size: usize) -> Result<Self, DataError> {
        let source = Source::open(path)?;
        match source.prepared() {
            Some(path) => Self::map(path, size),
            None => Self::decode(&source, size),
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
        Ok(Self { size, pixels: Pixels::Mapped(prepared), skipped: Vec::new() })
    }

    fn decode(source: &Source, size: usize) -> Result<Self, DataError> {
        let (mut pixels, mut skipped) = (Vec::new(), Vec::new());
        for image in decode(source, size) {
            let image = image?;
            match image.square {
                Ok(square) => pixels.extend(square.planes),
                Err(detail) => skipped.push(Skipped { name: image.name, reason: Reason::Unreadable, detail }),
            }
        }
        if pixels.is_empty() {
            return Err(DataError::none_usable(source.path(), &skipped));
        }
        Ok(Self { size, pixels: Pixels::Memory(pixels), skipped })
    }

    /// An empty set of `size` x `size` images.
    pub fn new(size: usize) -> Self {
        Self { size, pixels: Pixels::Memory(Vec::new()), skipped: Vec::new() }
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
        pixels.extend(values.into_iter().map(lddgan::sampler::to_byte));
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

/// Loads an [`ImageSet`] and reports on standard error what had to be skipped.
pub fn load(path: &Path, size: usize) -> Result<ImageSet, DataError> {
    let set = ImageSet::load(path, size)?;
    for Skipped { name, detail, .. } in &set.skipped {
        warn!("skipped {name}: {detail}");
    }
    say!("{}: {} images, {} skipped", path.display(), set.len(), set.skipped.len());
    Ok(set)
}
