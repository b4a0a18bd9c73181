//! From the images of a source to squares of one size, on all cores.

use std::panic::catch_unwind;

use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};
use rayon::prelude::*;

use super::DataError;
use super::source::{Content, Source, SourceImage};

/// Images decoded at a time; with those read ahead, all that are in memory.
const BATCH: usize = 64;

/// An image of a source at its final size.
pub(super) struct Decoded {
    pub name: String,
    /// Or why there is none.
    pub square: Result<Square, String>,
}

pub(super) struct Square {
    /// The pixels channel after channel.
    pub planes: Vec<u8>,
    /// The shorter side of the original.
    pub side: u32,
}

/// Every image of the source in its order: its central square, resized to `size` with a Lanczos filter.
pub(super) fn decode(source: &Source, size: usize) -> impl Iterator<Item = Result<Decoded, DataError>> {
    let mut images = source.images();
    let mut ready = Vec::new().into_iter();
    std::iter::from_fn(move || {
        if ready.len() == 0 {
            let batch: Result<Vec<_>, _> = images.by_ref().take(BATCH).collect();
            match batch {
                Ok(batch) => {
                    ready = batch.into_par_iter().map(|image| square(image, size)).collect::<Vec<_>>().into_iter()
                }
                Err(error) => return Some(Err(error)),
            }
        }
        ready.next().map(Ok)
    })
}

fn square(image: SourceImage, size: usize) -> Decoded {
    let original = match image.content {
        Content::Pixels(pixels) => Ok(pixels.into()),
        Content::Encoded(bytes) => from_bytes(&bytes),
        Content::Unreadable(reason) => Err(reason),
    };
    let square = original.map(|original| {
        let side = original.width().min(original.height());
        Square { planes: planes(&central_square(&original, side, size)), side }
    });
    Decoded { name: image.name, square }
}

fn from_bytes(bytes: &[u8]) -> Result<DynamicImage, String> {
    // A decoder that panics must cost this one image, not the others.
    match catch_unwind(|| image::load_from_memory(bytes)) {
        Ok(Ok(image)) if image.width() > 0 && image.height() > 0 => Ok(image),
        Ok(Ok(_)) => Err("has no pixels".to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("its decoder gave up".to_string()),
    }
}

fn central_square(image: &DynamicImage, side: u32, size: usize) -> RgbImage {
    let (x, y) = ((image.width() - side) / 2, (image.height() - side) / 2);
    let size = size as u32;
    image.crop_imm(x, y, side, side).resize_exact(size, size, FilterType::Lanczos3).to_rgb8()
}

/// Pixels channel after channel.
fn planes(image: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| image.pixels().map(move |pixel| pixel[channel])).collect()
}

/// The picture of 3 x `size` x `size` values that lie channel after channel.
pub fn picture(planes: &[u8], size: usize) -> RgbImage {
    let mut picture = RgbImage::new(size as u32, size as u32);
    for (channel, plane) in planes.chunks_exact((size * size).max(1)).take(3).enumerate() {
        for (pixel, value) in picture.pixels_mut().zip(plane) {
            pixel[channel] = *value;
        }
    }
    picture
}
