//! From image files to pixels: every format, right way up, over the background, whole or not at all.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use lddgan_trainer::data::decode;

use crate::common::succeed;
use crate::inputs::*;

/// The picture that is in most files here: smooth, so that JPEG keeps it.
fn slopes(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 5) as u8, (y * 6) as u8, (x * 2 + y * 3) as u8]))
}

/// The mean difference of two pictures.
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let sum: f64 = a.iter().zip(b.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    sum / a.len() as f64
}

/// An EXIF block with the orientation alone.
fn exif(orientation: u8) -> Vec<u8> {
    let header = [b"II*\0".as_slice(), &8u32.to_le_bytes(), &1u16.to_le_bytes()].concat();
    let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    [header, entry.to_vec(), vec![0; 4]].concat()
}

/// The picture as a camera stores it. EXIF says which side of the picture the first row and the first column are.
fn stored(picture: &RgbImage, orientation: u8) -> RgbImage {
    let (width, height) = picture.dimensions();
    let size = if orientation < 5 { (width, height) } else { (height, width) };
    RgbImage::from_fn(size.0, size.1, |column, row| {
        let (left, right, top, bottom) = (|n| n, |n| width - 1 - n, |n| n, |n| height - 1 - n);
        let (x, y): (u32, u32) = match orientation {
            1 => (left(column), top(row)),
            2 => (right(column), top(row)),
            3 => (right(column), bottom(row)),
            4 => (left(column), bottom(row)),
            5 => (left(row), top(column)),
            6 => (right(row), top(column)),
            7 => (right(row), bottom(column)),
            _ => (left(row), bottom(column)),
        };
        *picture.get_pixel(x, y)
    })
}

fn write(mut encoder: impl ImageEncoder, picture: &RgbImage, orientation: u8) {
    encoder.set_exif_metadata(exif(orientation)).unwrap();
    encoder.write_image(picture, picture.width(), picture.height(), ExtendedColorType::Rgb8).unwrap();
}

#[test]
fn pictures_are_turned_as_their_exif_says() {
    let picture = slopes(48, 40);
    for orientation in 1..=8 {
        let stored = stored(&picture, orientation);
        let (mut jpeg, mut png, mut webp) = (Vec::new(), Vec::new(), Vec::new());
        write(JpegEncoder::new_with_quality(&mut jpeg, 95), &stored, orientation);
        write(PngEncoder::new(&mut png), &stored, orientation);
        write(WebPEncoder::new_lossless(&mut webp), &stored, orientation);
        for (bytes, most) in [(jpeg, 3.0), (png, 0.0), (webp, 0.0)] {
            let found = difference(&decode(&bytes).unwrap().to_rgb8(), &picture);
            assert!(found <= most, "orientation {orientation}: {found}");
        }
    }
}

/// Both files were written by Pillow, from the same picture.
#[test]
fn a_sideways_photo_is_the_upright_one() {
    let (sideways, upright) = (include_bytes!("images/sideways.jpg"), include_bytes!("images/upright.jpg"));
    let (sideways, upright) = (decode(sideways).unwrap().to_rgb8(), decode(upright).unwrap().to_rgb8());
    assert!(difference(&sideways, &upright) < 3.0);
}

/// Written by Pillow, from the picture of [`slopes`].
#[test]
fn every_sort_of_jpeg_is_read() {
    let picture = slopes(48, 40);
    let trailing = [include_bytes!("images/restart.jpg").as_slice(), b"\xff\xd8 more", &[0; 300]].concat();
    let files: [(&str, &[u8]); 5] = [
        ("progressive", include_bytes!("images/progressive.jpg")),
        ("restart", include_bytes!("images/restart.jpg")),
        ("subsampled", include_bytes!("images/subsampled.jpg")),
        ("cmyk", include_bytes!("images/cmyk.jpg")),
        ("trailing", &trailing),
    ];
    for (name, bytes) in files {
        let found = difference(&decode(bytes).unwrap().to_rgb8(), &picture);
        assert!(found < 3.0, "{name}: {found}");
    }
    let grey = decode(include_bytes!("images/grey.jpg")).unwrap().to_rgb8();
    let luma = RgbImage::from_fn(48, 40, |x, y| {
        let [r, g, b] = picture.get_pixel(x, y).0.map(f64::from);
        Rgb([(0.299 * r + 0.587 * g + 0.114 * b).round() as u8; 3])
    });
    assert!(difference(&grey, &luma) < 3.0);
}

/// What an interrupted download leaves: the first part of a file, or that and zeros up to its length.
#[test]
fn truncated_files_are_refused() {
    let picture = DynamicImage::from(picture(3, 150, 130));
    let jpegs = [
        encoded(&picture, ImageFormat::Jpeg),
        include_bytes!("images/progressive.jpg").to_vec(),
        include_bytes!("images/cmyk.jpg").to_vec(),
        include_bytes!("images/grey.jpg").to_vec(),
        include_bytes!("images/upright.jpg").to_vec(),
    ];
    let others = [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff]
        .map(|format| (format!("{format:?}"), encoded(&picture, format)));
    let files = jpegs.map(|bytes| ("JPEG".to_string(), bytes)).into_iter().chain(others);
    for (format, bytes) in files {
        decode(&bytes).unwrap();
        for tenth in 1..10 {
            let cut = &bytes[..bytes.len() * tenth / 10];
            assert!(decode(cut).is_err(), "{format}: {tenth} tenths were taken");
            if format == "JPEG" || format == "Png" {
                let zeros = [cut, &vec![0; bytes.len() - cut.len()]].concat();
                assert!(decode(&zeros).is_err(), "{format}: {tenth} tenths and zeros were taken");
            }
        }
    }
}

#[test]
fn skipped_ones_are_listed() {
    let folder = Folder::with_pictures();
    let whole = include_bytes!("images/upright.jpg");
    folder.write("images/half.jpg", &whole[..whole.len() / 2]);
    let said = succeed(&folder.prepare("images", &["--size", "16"], "set.safetensors"));
    assert!(said.contains("skipped half.jpg: unreadable, truncated"), "{said}");
}

#[test]
fn transparent_pictures_lie_on_white() {
    // Magenta everywhere, more and more opaque to the right.
    let alpha = |x: u32| (x * 17) as u8;
    let picture = RgbaImage::from_fn(16, 16, |x, y| Rgba([255, (y * 3) as u8, 255, alpha(x)]));
    let expected = RgbImage::from_fn(16, 16, |x, y| {
        let opaque = f64::from(alpha(x)) / 255.0;
        Rgb([255.0, f64::from(y * 3), 255.0].map(|value| (value * opaque + 255.0 * (1.0 - opaque)).round() as u8))
    });
    let picture = DynamicImage::from(picture);
    let folder = Folder::new();
    folder.write("set/8.png", &encoded(&picture, ImageFormat::Png));
    folder.write("set/16.png", &encoded(&picture.to_rgba16().into(), ImageFormat::Png));
    folder.write("set/8.webp", &encoded(&picture, ImageFormat::WebP));
    for name in ["8.png", "16.png", "8.webp"] {
        succeed(&folder.prepare(&format!("set/{name}"), &["--size", "16"], "set.safetensors"));
        let found = folder.prepared("set.safetensors").pixels;
        let most = found.iter().zip(planes(&expected)).map(|(a, b)| a.abs_diff(b)).max();
        assert!(most <= Some(1), "{name}: {most:?}");
    }
}

/// Resizing mixes neighbours: what is hidden must not come into it.
#[test]
fn hidden_colours_do_not_show() {
    let picture = |hidden: Rgba<u8>| {
        let shown = Rgba([10, 200, 30, 255]);
        let inside = |x: u32, y: u32| x.abs_diff(32) + y.abs_diff(32) < 24;
        DynamicImage::from(RgbaImage::from_fn(64, 64, |x, y| if inside(x, y) { shown } else { hidden }))
    };
    let (magenta, white) = (picture(Rgba([255, 0, 255, 0])), picture(Rgba([255, 255, 255, 255])));
    let folder = Folder::new();
    let pixels = |name: &str, bytes: Vec<u8>| {
        folder.write(name, &bytes);
        succeed(&folder.prepare(name, &["--size", "16"], "set.safetensors"));
        folder.prepared("set.safetensors").pixels
    };
    let expected = pixels("white.png", encoded(&white.to_rgb16().into(), ImageFormat::Png));
    assert_eq!(pixels("hidden.png", encoded(&magenta, ImageFormat::Png)), expected);
    assert_eq!(pixels("hidden.webp", encoded(&magenta, ImageFormat::WebP)), expected);
    let (grey, white) = (magenta.to_luma_alpha8(), white.to_luma8());
    let expected = pixels("white-grey.png", encoded(&white.into(), ImageFormat::Png));
    let deep = DynamicImage::from(grey.clone()).to_luma_alpha16();
    for (name, image) in [("grey8.png", grey.into()), ("grey16.png", deep.into())] {
        let found = pixels(name, encoded(&image, ImageFormat::Png));
        let most = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most <= Some(1), "{name}: {most:?}");
    }
}

#[test]
fn other_formats_are_read_and_the_rest_is_counted() {
    let folder = Folder::new();
    let formats = [("a.bmp", ImageFormat::Bmp), ("b.gif", ImageFormat::Gif), ("c.tif", ImageFormat::Tiff)];
    let formats = formats.into_iter().chain([("d.TIFF", ImageFormat::Tiff), ("e.jfif", ImageFormat::Jpeg)]);
    let pictures: Vec<_> = formats.zip(0u8..).map(|(format, number)| (format, picture(number, 24, 24))).collect();
    for ((name, format), picture) in &pictures {
        folder.write(&format!("set/{name}"), &encoded(&picture.clone().into(), *format));
    }
    for name in ["f.avif", "g.avif", "h.heic", "readme"] {
        folder.write(&format!("set/{name}"), b"");
    }
    let said = succeed(&folder.prepare("set", &["--size", "24"], "set.safetensors"));
    assert!(said.contains("not read: 2 .avif, 1 without an ending, 1 .heic"), "{said}");
    let prepared = folder.prepared("set.safetensors");
    assert_eq!(prepared.names(), ["a.bmp", "b.gif", "c.tif", "d.TIFF", "e.jfif"]);
    for (((name, _), picture), found) in pictures.iter().zip(prepared.pixels.chunks(3 * 24 * 24)) {
        let sum: u32 = found.iter().zip(planes(picture)).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
        // GIF has few colours, JPEG is not exact.
        let exact = name.starts_with(['a', 'c', 'd']);
        assert!(sum == 0 || !exact && sum < 10 * found.len() as u32, "{name}: {sum}");
    }
}
