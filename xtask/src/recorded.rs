//! The recorded faces that the page shows until it has made some: the first of those on the card of its model, small.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{RgbImage, imageops};

use crate::workspace;

/// Faces side by side on the card, and pixels from one to the next, one of them between the two.
const CARD_COLUMNS: u32 = 10;
const CARD_PITCH: u32 = 129;
/// Faces side by side here, as on the page, and the pixels of each.
const COLUMNS: u32 = 4;
const SIZE: u32 = 72;
/// Of the JPEG file, 1 to 100: all of it should come within a tenth of a second on a slow connection.
const QUALITY: u8 = 35;

#[derive(Args)]
pub struct Options {
    /// Where to write them
    #[arg(long, default_value = "web/src/page/recorded.jpg")]
    out: PathBuf,
}

/// `cargo xtask recorded`
pub fn write(options: &Options) -> Result<()> {
    let faces = faces(&workspace::root().join("web/models/faces256.jpg"))?;
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&faces)?;
    std::fs::write(&options.out, &bytes).with_context(|| format!("cannot write {}", options.out.display()))?;
    println!("wrote {}, {} bytes", options.out.display(), bytes.len());
    Ok(())
}

/// The first faces of a card.
fn faces(card: &std::path::Path) -> Result<RgbImage> {
    let card = image::open(card).with_context(|| format!("cannot read {}", card.display()))?.into_rgb8();
    let mut faces = RgbImage::new(COLUMNS * SIZE, COLUMNS * SIZE);
    for i in 0..COLUMNS * COLUMNS {
        let [x, y] = [i % CARD_COLUMNS, i / CARD_COLUMNS].map(|place| place * CARD_PITCH);
        // Without the rim, into which the line between two faces runs.
        let face = imageops::crop_imm(&card, x + 1, y + 1, CARD_PITCH - 3, CARD_PITCH - 3).to_image();
        let face = resize(&face, SIZE, SIZE, FilterType::Lanczos3);
        imageops::replace(&mut faces, &face, (i % COLUMNS * SIZE).into(), (i / COLUMNS * SIZE).into());
    }
    Ok(faces)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The card of a newer model is not forgotten here.
    #[test]
    fn the_recorded_faces_are_those_of_the_card() {
        let root = workspace::root();
        let recorded = image::open(root.join("web/src/page/recorded.jpg")).unwrap().into_rgb8();
        let faces = faces(&root.join("web/models/faces256.jpg")).unwrap();
        assert_eq!(recorded.dimensions(), faces.dimensions());
        let difference: u64 = recorded.iter().zip(faces.iter()).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
        let mean = difference as f64 / faces.len() as f64;
        assert!(mean < 6.0, "{mean}: `cargo xtask recorded` makes them again");
    }
}
