//! PNG files: faces that say in their metadata where they come from, and animations.

use lddgan::compare::Difference;

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

/// The keywords and texts in a PNG file, up to where it is broken. Compressed texts, which the page never writes, are left out.
pub fn texts(png: &[u8]) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let mut rest = png.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap_or_default();
    // A chunk is its length, its kind, its bytes and a sum.
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((kind, body)) = after.split_first_chunk::<4>() else { break };
        let Some((body, next)) = body.split_at_checked(length) else { break };
        texts.extend(text(kind, body));
        rest = next.get(4..).unwrap_or_default();
    }
    texts
}

fn text(kind: &[u8; 4], body: &[u8]) -> Option<(String, String)> {
    let end = body.iter().position(|&byte| byte == 0)?;
    let (keyword, text) = (&body[..end], &body[end + 1..]);
    let text = match kind {
        b"tEXt" => text,
        // Not compressed, and in no named language.
        b"iTXt" => text.strip_prefix(&[0; 4])?,
        _ => return None,
    };
    Some((String::from_utf8_lossy(keyword).into_owned(), String::from_utf8_lossy(text).into_owned()))
}

/// How a picture differs from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// To the bit.
    Equal,
    /// By no more than executors differ.
    Rounded,
    Different,
}

/// Compares pictures `size` pixels wide, RGBA: as a whole and in small blocks, so that a small change shows.
pub fn compare(found: &[u8], made: &[u8], size: usize) -> Likeness {
    // Mean squared errors of 40 and 25 decibels.
    const WHOLE: f64 = 6.5;
    const BLOCK: f64 = 205.0;
    const SIDE: usize = 8;
    if found == made {
        return Likeness::Equal;
    }
    let error = |found: &[u8], made: &[u8]| Difference::between(found, made).map_or(f64::INFINITY, |d| d.mean_squared);
    let block = |picture: &[u8], x: usize, y: usize| -> Vec<u8> {
        let rows = picture.chunks_exact(4 * size).skip(y).take(SIDE);
        rows.flat_map(|row| row[4 * x..].iter().take(4 * SIDE)).copied().collect()
    };
    let same = found.len() == made.len() && error(found, made) <= WHOLE;
    let places = (0..size).step_by(SIDE).flat_map(|y| (0..size).step_by(SIDE).map(move |x| (x, y)));
    let mut errors = places.map(|(x, y)| error(&block(found, x, y), &block(made, x, y)));
    match same && errors.all(|error| error <= BLOCK) {
        true => Likeness::Rounded,
        false => Likeness::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back_and_broken_files_have_none() {
        let written = [("Seed", "7".to_owned()), ("Forks", String::new()), ("Title", "The face of 李雷".to_owned())];
        let bytes = png(&Frames { size: 1, frames: &[&[0; 4]], milliseconds: 0 }, &written).unwrap();
        let expected = written.map(|(keyword, text)| (keyword.to_owned(), text));
        assert_eq!(texts(&bytes), expected);
        // Whatever is cut off or changed, there is no panic.
        for end in 0..bytes.len() {
            assert!(texts(&bytes[..end]).len() <= 3);
            let mut broken = bytes.clone();
            broken[end] ^= 0xff;
            texts(&broken);
        }
        assert!(texts(b"GIF89a").is_empty());
    }

    #[test]
    fn a_small_change_is_told_from_rounding() {
        const SIZE: usize = 20;
        let made: Vec<u8> = (0..4 * SIZE * SIZE).map(|i| (i % 200) as u8 + 20).collect();
        let changed =
            |by: fn(usize) -> u8| -> Vec<u8> { made.iter().enumerate().map(|(i, value)| value + by(i)).collect() };
        assert_eq!(compare(&made, &made, SIZE), Likeness::Equal);
        assert_eq!(compare(&changed(|i| (i % 3) as u8), &made, SIZE), Likeness::Rounded);
        // Three pixels in the last block, and another size.
        assert_eq!(
            compare(&changed(|i| if i >= 4 * (SIZE * SIZE - 3) { 35 } else { 0 }), &made, SIZE),
            Likeness::Different
        );
        assert_eq!(compare(&made[..4], &made, SIZE), Likeness::Different);
    }

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
