//! Pixels channel after channel, as networks take them.

use image::RgbImage;

/// The values of a picture, channel after channel.
pub(super) fn planes(image: &RgbImage) -> Vec<u8> {
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
