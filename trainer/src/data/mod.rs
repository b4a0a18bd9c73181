//! Training images: from folders or Parquet files to fixed-size pixels in memory.

mod folder;
mod parquet;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};
use rayon::prelude::*;

/// What went wrong with a data source as a whole.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: {reason}", .path.display())]
    Source { path: PathBuf, reason: String },
    #[error("no image of {tried} in {} could be decoded; the first failed with: {first}", .path.display())]
    NoneDecoded { path: PathBuf, tried: usize, first: String },
}

impl DataError {
    fn source(path: &Path, reason: impl ToString) -> Self {
        Self::Source { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

/// An encoded image file.
struct Encoded {
    name: String,
    bytes: Vec<u8>,
}

/// Square RGB images of one size, 8 bits per channel.
pub struct ImageSet {
    size: usize,
    /// Image after image, channel after channel.
    pixels: Vec<u8>,
    /// Name and reason of every image that could not be used.
    pub skipped: Vec<(String, String)>,
}

impl ImageSet {
    /// Loads every image of a folder (jpg, png, webp; sub-folders too) or a Parquet file with a column
    /// `image.bytes`, cropped to the central square and resized to `size` with a Lanczos filter.
    pub fn load(path: &Path, size: usize) -> Result<Self, DataError> {
        let encoded = if path.is_dir() { folder::read(path)? } else { parquet::read(path)? };
        if encoded.is_empty() {
            return Err(DataError::source(path, "holds no images (jpg, png or webp)"));
        }
        let tried = encoded.len();
        let decode = |encoded: Encoded| match image::load_from_memory(&encoded.bytes) {
            Ok(image) => Ok(planes(&square(&image, size))),
            Err(error) => Err((encoded.name, error.to_string())),
        };
        let decoded: Vec<_> = encoded.into_par_iter().map(decode).collect();
        let mut set = Self { size, pixels: Vec::new(), skipped: Vec::new() };
        for image in decoded {
            match image {
                Ok(pixels) => set.pixels.extend(pixels),
                Err(skipped) => set.skipped.push(skipped),
            }
        }
        match set.skipped.first() {
            Some((name, reason)) if set.is_empty() => {
                let first = format!("{name}: {reason}");
                Err(DataError::NoneDecoded { path: path.to_path_buf(), tried, first })
            }
            _ => Ok(set),
        }
    }

    pub fn len(&self) -> usize {
        self.pixels.len() / self.image_len()
    }

    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
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
    for (name, reason) in &set.skipped {
        eprintln!("skipped {name}: {reason}");
    }
    println!("{}: {} images, {} skipped", path.display(), set.len(), set.skipped.len());
    Ok(set)
}

/// The central square in `size` x `size` pixels.
fn square(image: &DynamicImage, size: usize) -> RgbImage {
    let side = image.width().min(image.height());
    let (x, y) = ((image.width() - side) / 2, (image.height() - side) / 2);
    let size = size as u32;
    image.crop_imm(x, y, side, side).resize_exact(size, size, FilterType::Lanczos3).to_rgb8()
}

/// Pixels channel after channel.
fn planes(image: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| image.pixels().map(move |pixel| pixel[channel])).collect()
}
