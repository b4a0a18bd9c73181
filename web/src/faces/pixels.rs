//! The pixels of a canvas.

use lddgan::model::to_byte;

/// The bytes of a canvas, from one plane of pixels for each channel: red, green and blue, or gray.
pub fn rgba(planes: &[f32], channels: usize, pixels: usize) -> Vec<u8> {
    let plane = |color: usize| color.min(channels - 1) * pixels;
    let pixel = |index| {
        let color = |color| planes.get(plane(color) + index).copied().map_or(0, to_byte);
        [color(0), color(1), color(2), u8::MAX]
    };
    (0..pixels).flat_map(pixel).collect()
}
