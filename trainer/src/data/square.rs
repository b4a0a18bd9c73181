//! From the images of a source to squares of one size, on all cores.

use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};
use rayon::prelude::*;

use super::DataError;
use super::decode::decode;
use super::planes::planes;
use super::reader::{Content, SourceImage};

/// Images decoded at a time; with those read ahead, all that are in memory.
const BATCH: usize = 64;

/// Transparent images are laid over this value of every channel: white.
const BACKGROUND: u32 = MAX_VALUE;
/// Of 16 bits.
const MAX_VALUE: u32 = u16::MAX as u32;

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

/// Every image in its order: its central square, resized to `size` with a Lanczos filter.
pub(super) fn squares(
    mut images: impl Iterator<Item = Result<SourceImage, DataError>>,
    size: usize,
) -> impl Iterator<Item = Result<Decoded, DataError>> {
    let mut ready = Vec::new().into_iter();
    std::iter::from_fn(move || {
        if ready.len() == 0 {
            let batch: Result<Vec<_>, _> = images.by_ref().take(BATCH).collect();
            match batch {
                Ok(batch) => {
                    ready = batch.into_par_iter().map(|image| square(image, size)).collect::<Vec<_>>().into_iter();
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
        Content::Encoded(bytes) => decode(&bytes),
        Content::Unreadable(reason) => Err(reason),
    };
    let square = original.map(|original| {
        let side = original.width().min(original.height());
        Square { planes: planes(&central_square(&original, side, size)), side }
    });
    Decoded { name: image.name, square }
}

fn central_square(image: &DynamicImage, side: u32, size: usize) -> RgbImage {
    let (x, y) = ((image.width() - side) / 2, (image.height() - side) / 2);
    let size = size as u32;
    opaque(image.crop_imm(x, y, side, side)).resize_exact(size, size, FilterType::Lanczos3).to_rgb8()
}

/// The image over the background; colours that it has where it is fully transparent are of no account.
fn opaque(image: DynamicImage) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    let image = image.into_rgba16();
    let over = |value: u16, alpha: u32| {
        let sum = u32::from(value) * alpha + BACKGROUND * (MAX_VALUE - alpha);
        ((sum + MAX_VALUE / 2) / MAX_VALUE) as u16
    };
    let pixels =
        image.pixels().flat_map(|image::Rgba([r, g, b, alpha])| [r, g, b].map(|value| over(*value, u32::from(*alpha))));
    image::ImageBuffer::<image::Rgb<u16>, _>::from_raw(image.width(), image.height(), pixels.collect())
        .map_or_else(DynamicImage::default, DynamicImage::ImageRgb16)
}
