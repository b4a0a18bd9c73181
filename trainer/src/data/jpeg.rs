//! JPEG files, whole ones alone. The decoder of the `image` crate makes up what a truncated file lacks.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::reader::LARGEST_IMAGE;

/// What a marker begins with, unless this follows: then it is a byte of the compressed pixels.
const MARKER: u8 = 0xff;
const STUFFING: u8 = 0;
/// Markers without a segment.
const TEMPORARY: u8 = 0x01;
const RESTART_0: u8 = 0xd0;
const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;

/// Decodes a JPEG file to grey or RGB, turned by its EXIF orientation. What follows the image is of no account.
pub(super) fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    if !is_whole(bytes) {
        return Err("truncated: it ends before the mark at the end of a JPEG image".to_string());
    }
    let options = DecoderOptions::default().set_strict_mode(true);
    let options = options.set_max_width(u16::MAX.into()).set_max_height(u16::MAX.into());
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let fail = |error: zune_jpeg::errors::DecodeErrors| format!("{error:?}");
    decoder.decode_headers().map_err(fail)?;
    let colors = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => ColorSpace::Luma,
        _ => ColorSpace::RGB,
    };
    let (width, height) = decoder.dimensions().unwrap_or_default();
    if (width * height * colors.num_components()) as u64 > LARGEST_IMAGE {
        return Err(format!("{width}x{height} pixels are more than {} MiB", LARGEST_IMAGE >> 20));
    }
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    decoder.set_options(options.jpeg_set_out_colorspace(colors));
    let pixels = decoder.decode().map_err(fail)?;
    let (width, height) = (width as u32, height as u32);
    let image = match colors {
        ColorSpace::Luma => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    let mut image = image.ok_or("has fewer pixels than its header says")?;
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(image)
}

/// Whether the segments from the start of the image lead to its end.
fn is_whole(mut bytes: &[u8]) -> bool {
    let is_marker = |pair: &[u8]| pair[0] == MARKER && !matches!(pair[1], STUFFING | MARKER);
    while let Some(start) = bytes.windows(2).position(is_marker) {
        let marker = bytes[start + 1];
        bytes = &bytes[start + 2..];
        match marker {
            END_OF_IMAGE => return true,
            TEMPORARY | RESTART_0..=START_OF_IMAGE => {}
            // The start of a segment, whose length comes first.
            _ => {
                let length = bytes.first_chunk().map_or(usize::MAX, |length| usize::from(u16::from_be_bytes(*length)));
                let Some(rest) = bytes.get(length..) else { return false };
                bytes = rest;
            }
        }
    }
    false
}
