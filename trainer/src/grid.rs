//! Pictures of many images side by side.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use image::{ImageFormat, RgbImage};

use crate::files;

/// Pixels between two images.
const GAP: u32 = 2;
const WRITTEN: [ImageFormat; 2] = [ImageFormat::Png, ImageFormat::Jpeg];

/// Images (N, 3, H, W) in \[-1, 1\] as 8-bit pictures.
pub fn to_images(images: &Tensor) -> candle_core::Result<Vec<RgbImage>> {
    let (n, channels, h, w) = images.dims4()?;
    if channels != 3 {
        candle_core::bail!("a picture needs 3 channels, not {channels}");
    }
    let values = images.flatten_all()?.to_vec1::<f32>()?;
    let picture = |sample: &[f32]| {
        RgbImage::from_fn(w as u32, h as u32, |x, y| {
            let byte = |channel: usize| lddgan::model::to_byte(sample[(channel * h + y as usize) * w + x as usize]);
            image::Rgb([byte(0), byte(1), byte(2)])
        })
    };
    Ok(values.chunks_exact((3 * h * w).max(1)).take(n).map(picture).collect())
}

/// Places pictures of equal size in rows of `columns`.
pub fn arrange(pictures: &[RgbImage], columns: usize) -> RgbImage {
    let Some(first) = pictures.first() else { return RgbImage::new(0, 0) };
    let columns = columns.clamp(1, pictures.len()) as u32;
    let rows = (pictures.len() as u32).div_ceil(columns);
    let (w, h) = (first.width() + GAP, first.height() + GAP);
    let mut grid = RgbImage::from_pixel(columns * w - GAP, rows * h - GAP, image::Rgb([255; 3]));
    for (i, picture) in (0u32..).zip(pictures) {
        image::imageops::replace(&mut grid, picture, i64::from(i % columns * w), i64::from(i / columns * h));
    }
    grid
}

/// The bytes of a PNG file, with these keywords and texts in its metadata.
pub fn to_png(picture: &RgbImage, texts: &[(&str, String)]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        match text.is_ascii() {
            true => encoder.add_text_chunk(keyword.to_string(), text.clone())?,
            false => encoder.add_itxt_chunk(keyword.to_string(), text.clone())?,
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture)?;
    writer.finish()?;
    Ok(bytes)
}

/// Reads the path of a picture that [`write`](fn@write) can write; an error before the work, not after it.
pub fn path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    format(&path).map(|_| path)
}

/// Writes a picture in the format that the path's ending names: .png or, smaller, .jpg.
pub fn write(path: &Path, picture: &RgbImage) -> anyhow::Result<()> {
    let format = format(path).map_err(anyhow::Error::msg)?;
    Ok(files::write_atomic(path, &encode(picture, format)?)?)
}

fn format(path: &Path) -> Result<ImageFormat, String> {
    let format = ImageFormat::from_path(path).ok().filter(|format| WRITTEN.contains(format));
    format.ok_or_else(|| "the name of a picture must end in .png or .jpg".to_string())
}

fn encode(picture: &RgbImage, format: ImageFormat) -> image::ImageResult<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format)?;
    Ok(bytes.into_inner())
}
