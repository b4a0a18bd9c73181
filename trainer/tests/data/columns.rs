//! Parquet files of other programs: how they are compressed, and which column holds the images.

use std::sync::Arc;

use image::{Rgb, RgbImage};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::common::{fail, succeed};
use crate::inputs::*;

/// Three pictures in one color each, but for a corner.
fn expected() -> Vec<u8> {
    let picture = |number: u8| {
        let mut picture = RgbImage::from_pixel(4, 4, Rgb([40 * number; 3]));
        picture.put_pixel(0, 0, Rgb([200, 100, 50]));
        planes(&picture)
    };
    (0..3).flat_map(picture).collect()
}

/// `zstd.parquet` was written by Polars, with plain bytes in the column `jpg` beside a column of text; the others by
/// PyArrow, with a struct column `Image`.
#[test]
fn every_compression_is_read() {
    let folder = Folder::new();
    folder.write("zstd.parquet", include_bytes!("parquet/zstd.parquet"));
    folder.write("gzip.parquet", include_bytes!("parquet/gzip.parquet"));
    folder.write("brotli.parquet", include_bytes!("parquet/brotli.parquet"));
    folder.write("lz4.parquet", include_bytes!("parquet/lz4.parquet"));
    for (name, last) in [("zstd", "row 2"), ("gzip", "2.png"), ("brotli", "2.png"), ("lz4", "2.png")] {
        succeed(&folder.prepare(&format!("{name}.parquet"), &["--size", "4"], "set.safetensors"));
        let prepared = folder.prepared("set.safetensors");
        assert_eq!(prepared.pixels, expected(), "{name}");
        assert_eq!(prepared.names().last(), Some(&last), "{name}");
    }
}

/// The header of a page says of something unknown that there are thousands of millions of it, nested in each other.
#[test]
fn a_page_that_would_take_for_ever_is_an_error() {
    let folder = Folder::new();
    folder.write("endless.parquet", include_bytes!("parquet/endless.parquet"));
    fail(&folder.prepare("endless.parquet", &["--size", "4"], "set.safetensors"), &["endless.parquet", "row 0"]);
}

/// What the list of booleans says in its header: there are 2^31 - 1, for which the library needs no more bytes.
#[test]
fn a_footer_that_would_take_for_ever_is_an_error() {
    let folder = Folder::new();
    let honest = row(&[("binary image", &png(&picture(1, 8, 8)))]);
    let (metadata, tail) = honest.split_at(honest.len() - 8);
    // A field that nobody knows, before the end of the outermost struct.
    let booleans = [0xf9, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
    let length = u32::from_le_bytes(tail[..4].try_into().unwrap()) + booleans.len() as u32 - 1;
    let hostile = [&metadata[..metadata.len() - 1], &booleans, &length.to_le_bytes(), &tail[4..]].concat();
    folder.write("booleans.parquet", &hostile);
    fail(
        &folder.prepare("booleans.parquet", &["--size", "4"], "set.safetensors"),
        &["booleans.parquet", "collection of booleans"],
    );
}

/// A Parquet file of one row with these columns, of type and content.
fn row(columns: &[(&str, &[u8])]) -> Vec<u8> {
    let fields: String = columns.iter().map(|(field, _)| format!("required {field}; ")).collect();
    let schema = Arc::new(parse_message_type(&format!("message data {{ {fields} }}")).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Default::default()).unwrap();
    let mut row = writer.next_row_group().unwrap();
    for (_, content) in columns {
        let mut column = row.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[ByteArray::from(content.to_vec())], None, None).unwrap();
        column.close().unwrap();
    }
    row.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn the_column_is_found_by_type_then_by_name_or_chosen() {
    let folder = Folder::new();
    let (one, two) = (png(&picture(1, 8, 8)), png(&picture(2, 8, 8)));
    let text = ("binary text (UTF8)", b"no image".as_slice());
    folder.write("only.parquet", &row(&[text, ("binary anything", &one)]));
    folder.write("named.parquet", &row(&[("binary mask", &two), ("binary PNG", &one)]));
    folder.write("several.parquet", &row(&[("binary mask", &two), ("binary photo", &one)]));
    folder.write("text.parquet", &row(&[text]));
    for (name, options, expected) in [
        ("only", &["--size", "8"][..], 1),
        ("named", &["--size", "8"], 1),
        ("named", &["--size", "8", "--column", "mask"], 2),
        ("several", &["--size", "8", "--column", "photo"], 1),
    ] {
        succeed(&folder.prepare(&format!("{name}.parquet"), options, "set.safetensors"));
        assert_eq!(folder.prepared("set.safetensors").pixels, planes(&picture(expected, 8, 8)), "{name} {options:?}");
    }
    for (name, options, words) in [
        ("several", &["--size", "8"][..], ["--column", "`mask`", "`photo`"]),
        ("text", &["--size", "8"], ["no column of images", "`text`", "text.parquet"]),
        ("several", &["--size", "8", "--column", "image"], ["no column `image`", "`mask`", "`photo`"]),
        ("text", &["--size", "8", "--column", "text"], ["column `text`", "bytes", "text.parquet"]),
    ] {
        fail(&folder.prepare(&format!("{name}.parquet"), options, "set.safetensors"), &words);
    }
}
