//! PNG files: faces that say in their metadata where they come from, and animations.

/// What a picture is made of, each RGBA.
pub struct Frames<'a> {
    /// Height and width in pixels.
    pub size: usize,
    pub frames: &'a [&'a [u8]],
    /// How long each frame of an animation is shown.
    pub milliseconds: u16,
}

/// A PNG file, animated if there are several frames, with these keywords and texts in its metadata.
pub fn png(picture: &Frames, texts: &[(impl ToString, String)]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let size = picture.size as u32;
    let mut encoder = png::Encoder::new(&mut bytes, size, size);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    if picture.frames.len() > 1 {
        // Shown again and again.
        encoder.set_animated(picture.frames.len() as u32, 0)?;
        encoder.set_frame_delay(picture.milliseconds, 1000)?;
    }
    for (keyword, text) in texts {
        match text.is_ascii() {
            true => encoder.add_text_chunk(keyword.to_string(), text.clone())?,
            false => encoder.add_itxt_chunk(keyword.to_string(), text.clone())?,
        }
    }
    let mut writer = encoder.write_header()?;
    for frame in picture.frames {
        let rgb: Vec<u8> = frame.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        writer.write_image_data(&rgb)?;
    }
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_pixels_and_texts() {
        let frame: Vec<u8> = (0..16).map(|i| if i % 4 == 3 { 255 } else { 10 * i }).collect();
        let picture = Frames { size: 2, frames: &[&frame], milliseconds: 0 };
        let bytes = png(&picture, &[("Seed", "7".to_owned())]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [0, 10, 20, 40, 50, 60, 80, 90, 100, 120, 130, 140]);
        let texts = &reader.info().uncompressed_latin1_text;
        assert_eq!((texts[0].keyword.as_str(), texts[0].text.as_str()), ("Seed", "7"));
        assert!(reader.info().animation_control().is_none());
    }

    #[test]
    fn several_frames_are_an_animation() {
        let frames = [[0; 16], [200; 16], [90; 16]];
        let frames: Vec<&[u8]> = frames.iter().map(<[u8; 16]>::as_slice).collect();
        let bytes = png(&Frames { size: 2, frames: &frames, milliseconds: 40 }, &[] as &[(&str, String)]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        assert_eq!(reader.info().animation_control().unwrap().num_frames, 3);
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        for expected in [0, 200, 90] {
            reader.next_frame(&mut pixels).unwrap();
            assert_eq!(pixels[0], expected);
            assert_eq!(reader.info().frame_control().unwrap().delay_num, 40);
        }
    }
}
