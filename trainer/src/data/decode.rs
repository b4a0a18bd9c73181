//! From the bytes of an image file to its pixels, the way up that it is meant to be seen.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits};

use super::guard::guarded;
use super::jpeg;
use super::reader::LARGEST_IMAGE;

/// Decodes an image file of any format that is known by its first bytes, turned by its EXIF orientation. A file that is
/// truncated or damaged is an error, which says why.
pub fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    let image = guarded(|| match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes),
        _ => other(bytes).map_err(|error| error.to_string()),
    });
    match image {
        Some(Ok(image)) if image.width() > 0 && image.height() > 0 => Ok(image),
        Some(Ok(_)) => Err("has no pixels".to_string()),
        Some(Err(error)) => Err(error),
        None => Err("its decoder gave up".to_string()),
    }
}

fn other(bytes: &[u8]) -> ImageResult<DynamicImage> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(LARGEST_IMAGE);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}
