//! Image files: any bytes in any format that training reads.

#![no_main]

use std::io::Cursor;

use image::ImageReader;
use lddgan_fuzz::LimitedHeap;
use lddgan_trainer::data::decode;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static HEAP: LimitedHeap = LimitedHeap;

/// Images that say to be larger are not decoded: they may take the memory and the time.
const MAX_PIXELS: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = ImageReader::new(Cursor::new(bytes)).with_guessed_format() else { return };
    let Ok((width, height)) = reader.into_dimensions() else { return };
    if u64::from(width) * u64::from(height) <= MAX_PIXELS
        && let Ok(image) = decode(bytes)
    {
        assert!(image.width() > 0 && image.height() > 0);
    }
});
