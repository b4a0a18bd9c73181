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
        None => Err("its decoder failed".to_string()),
    }
}

fn other(bytes: &[u8]) -> ImageResult<DynamicImage> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(LARGEST_IMAGE);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    // The decoder sees to what it needs itself, not to the image.
    limits.reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG of so many pixels, of which the first row alone is there.
    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
        header.extend([8, 2, 0, 0, 0]);
        // One block of zlib that stores a row.
        let row = vec![0; 1 + 3 * width as usize];
        let length = row.len() as u16;
        let adler = (row.len() as u32) << 16 | 1;
        let data = [&[0x78, 1, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), &row, &adler.to_be_bytes()];
        let chunk = |kind: &[u8; 4], data: &[u8]| {
            let body = [kind, data].concat();
            [&(data.len() as u32).to_be_bytes()[..], &body, &crc32fast::hash(&body).to_be_bytes()].concat()
        };
        [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &data.concat()), &chunk(b"IEND", b"")]
            .concat()
    }

    /// 5 GB that nobody has, said in a few bytes.
    #[test]
    fn an_image_that_says_to_be_enormous_is_no_reason_to_ask_for_memory() {
        assert_eq!(decode(&png(4, 1)).unwrap().width(), 4);
        let error = decode(&png(4, 400_000_000)).unwrap_err();
        assert!(error.to_lowercase().contains("memory") || error.contains("limit"), "{error}");
    }
}
