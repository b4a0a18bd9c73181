//! `lddgan data` as its users run it: every kind of source, what is skipped, and what it says when something is wrong.

mod common;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use candle_core::Device;
use heed::types::Bytes;
use heed::{CommitOrAbort, EnvOpenOptions};
use image::{ImageFormat, Rgb, RgbImage};
use lddgan_trainer::data::ImageSet;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use safetensors::SafeTensors;
use serde_json::Value;

use common::{fail, program, succeed};

/// The records of CIFAR-10 have this size.
const SIZE: u32 = 32;
const COUNT: u8 = 5;

/// Different for every `number`.
fn picture(number: u8, width: u32, height: u32) -> RgbImage {
    let color = |x: u32, y: u32| Rgb([(x * 9) as u8 ^ number, (y * 7) as u8, (x * y) as u8 + 20 * number]);
    RgbImage::from_fn(width, height, color)
}

fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn planes(picture: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| picture.pixels().map(move |pixel| pixel[channel])).collect()
}

/// The pictures of all sources, and their pixels as they are in a prepared file.
fn pictures() -> (Vec<RgbImage>, Vec<u8>) {
    let pictures: Vec<RgbImage> = (0..COUNT).map(|number| picture(number, SIZE, SIZE)).collect();
    let pixels = pictures.iter().flat_map(planes).collect();
    (pictures, pixels)
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Three good pictures of 24 x 20 pixels.
    fn with_pictures() -> Self {
        let folder = Self::new();
        for number in 0..3 {
            folder.write(&format!("images/sub/{number}.png"), &png(&picture(number, 24, 20)));
        }
        folder
    }

    fn prepare(&self, data: &str, more: &[&str], out: &str) -> Output {
        let mut command = program(&["data", "prepare", "--data"]);
        command.arg(self.path(data)).args(more).arg("--out").arg(self.path(out)).output().unwrap()
    }

    fn inspect(&self, data: &str) -> Output {
        program(&["data", "inspect"]).arg(self.path(data)).output().unwrap()
    }

    fn prepared(&self, name: &str) -> Prepared {
        Prepared::read(&self.path(name))
    }
}

/// What any safetensors reader finds in a prepared file.
struct Prepared {
    shape: Vec<usize>,
    pixels: Vec<u8>,
    manifest: Value,
    listing: Value,
}

impl Prepared {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let manifest = &metadata.metadata().as_ref().unwrap()["manifest"];
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let images = tensors.tensor("images").unwrap();
        Self {
            shape: images.shape().to_vec(),
            pixels: images.data().to_vec(),
            manifest: serde_json::from_str(manifest).unwrap(),
            listing: serde_json::from_slice(tensors.tensor("listing").unwrap().data()).unwrap(),
        }
    }

    fn names(&self) -> Vec<&str> {
        self.listing["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect()
    }
}

/// A Parquet file with the struct column `column`, and another beside it; a row without bytes for each `None`.
fn parquet(column: &str, images: &[Option<(String, Vec<u8>)>]) -> Vec<u8> {
    let schema = format!(
        "message data {{ required binary note; optional group {column} {{ optional binary bytes; \
         optional binary path (UTF8); }} }}"
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Default::default()).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    let levels: Vec<i16> = images.iter().map(|image| if image.is_some() { 2 } else { 1 }).collect();
    let notes = vec![ByteArray::from("note"); images.len()];
    let contents = images.iter().flatten().map(|(_, bytes)| ByteArray::from(bytes.clone())).collect();
    let names = images.iter().flatten().map(|(name, _)| ByteArray::from(name.as_str())).collect();
    for (values, levels) in [(notes, None), (contents, Some(&levels[..])), (names, Some(&levels[..]))] {
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap();
        column.close().unwrap();
    }
    rows.close().unwrap();
    writer.close().unwrap();
    bytes
}

fn tar(images: &[RgbImage]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut append = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    append("labels.txt", b"no image");
    for (number, picture) in images.iter().enumerate() {
        append(&format!("set/{number}.png"), &png(picture));
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lmdb(folder: &Path, values: &[Vec<u8>]) {
    std::fs::create_dir_all(folder).unwrap();
    // SAFETY: nobody else knows the folder.
    let env = unsafe { EnvOpenOptions::new().map_size(64 << 20).open(folder) }.unwrap();
    let created = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, transaction| {
        opener.create_database::<Bytes, Bytes>(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
    });
    let database = created.unwrap().unwrap_commit();
    let mut transaction = env.write_txn().unwrap();
    for (number, value) in values.iter().enumerate() {
        database.put(&mut transaction, format!("{number:04}").as_bytes(), value).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn every_source_gives_the_same_pixels() {
    let folder = Folder::new();
    let (pictures, pixels) = pictures();
    let files: Vec<Vec<u8>> = pictures.iter().map(png).collect();
    for (number, bytes) in files.iter().enumerate() {
        folder.write(&format!("folder/{number}.png"), bytes);
    }
    let rows: Vec<_> = (0..).zip(&files).map(|(i, bytes): (u8, _)| Some((format!("{i}.png"), bytes.clone()))).collect();
    folder.write("images.parquet", &parquet("image", &rows));
    folder.write("img.parquet", &parquet("img", &rows));
    folder.write("shards/a.parquet", &parquet("image", &rows[..2]));
    folder.write("shards/b.parquet", &parquet("image", &rows[2..]));
    folder.write("images.tar", &tar(&pictures));
    folder.write("images.tar.gz", &gzip(&tar(&pictures)));
    let record = |picture: &RgbImage| [vec![7], planes(picture)].concat();
    folder.write("images.bin", &pictures.iter().flat_map(record).collect::<Vec<_>>());
    folder.write("cifar10/data_batch_1.bin", &pictures[..3].iter().flat_map(record).collect::<Vec<_>>());
    folder.write("cifar10/data_batch_2.bin", &pictures[3..].iter().flat_map(record).collect::<Vec<_>>());
    folder.write("cifar10/test_batch.bin", &record(&picture(9, SIZE, SIZE)));
    lmdb(&folder.path("encoded_lmdb"), &files);
    lmdb(&folder.path("raw_lmdb"), &pictures.iter().map(|picture| picture.as_raw().clone()).collect::<Vec<_>>());
    let cases = [
        ("folder", "4.png"),
        ("images.parquet", "4.png"),
        ("img.parquet", "4.png"),
        ("shards", "b.parquet/4.png"),
        ("images.tar", "set/4.png"),
        ("images.tar.gz", "set/4.png"),
        ("images.bin", "4"),
        ("cifar10", "data_batch_2.bin/1"),
        ("encoded_lmdb", "data.mdb/0004"),
        ("raw_lmdb/data.mdb", "0004"),
        // A prepared file is a source too.
        ("folder.safetensors", "4.png"),
    ];
    for (source, last) in cases {
        let out = format!("{}.safetensors", source.replace('/', "-"));
        let said = succeed(&folder.prepare(source, &["--size", "32"], &format!("out/{out}")));
        let prepared = folder.prepared(&format!("out/{out}"));
        assert_eq!(prepared.shape, [5, 3, 32, 32], "{source}");
        assert_eq!(prepared.pixels, pixels, "{source}");
        assert_eq!(prepared.names().last(), Some(&last), "{source}");
        assert!(said.contains("5 images") && said.contains("skipped: none"), "{source}: {said}");
        std::fs::rename(folder.path(&format!("out/{out}")), folder.path(&out)).unwrap();
    }
}

/// `lmdb/data.mdb` was written by Python's lmdb 3.0 with LMDB 0.9.36: three RGB images of 4 x 4 pixels, the bytes 0 to 143.
#[test]
fn databases_of_other_lmdb_releases_are_read() {
    let folder = Folder::new();
    folder.write("lmdb/data.mdb", include_bytes!("lmdb/data.mdb"));
    succeed(&folder.prepare("lmdb", &["--size", "4"], "set.safetensors"));
    let pictures = (0u8..144).collect::<Vec<_>>();
    let pictures = pictures.chunks(48).map(|bytes| RgbImage::from_raw(4, 4, bytes.to_vec()).unwrap());
    assert_eq!(folder.prepared("set.safetensors").pixels, pictures.flat_map(|p| planes(&p)).collect::<Vec<_>>());
    // Reading leaves no lock file behind.
    assert_eq!(std::fs::read_dir(folder.path("lmdb")).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_used_is_skipped_counted_and_listed() {
    let folder = Folder::with_pictures();
    folder.write("images/again.png", &png(&picture(1, 24, 20)));
    folder.write("images/small.png", &png(&picture(4, 15, 40)));
    folder.write("images/broken.jpg", b"no picture");
    let whole = png(&picture(5, 24, 20));
    folder.write("images/cut.png", &whole[..whole.len() / 2]);
    folder.write("images/notes.txt", b"not an image");
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere.png", folder.path("images/gone.png")).unwrap();
    let said = succeed(&folder.prepare("images", &["--size", "16"], "set.safetensors"));
    let unreadable = if cfg!(unix) { 3 } else { 2 };
    let counts = format!("skipped: {unreadable} unreadable, 1 too small, 1 duplicate");
    assert!(said.contains(&counts), "{said}");
    let prepared = folder.prepared("set.safetensors");
    // In the order of the names, so the picture below `sub` is the second one.
    assert_eq!(prepared.names(), ["again.png", "sub/0.png", "sub/2.png"]);
    assert_eq!(prepared.manifest["skipped"]["unreadable"], unreadable);
    assert_eq!(prepared.manifest["sides"], serde_json::json!([15, 20]));
    let listed = prepared.listing["skipped"].as_array().unwrap();
    let details = |name: &str| {
        let image = listed.iter().find(|image| image["name"] == name).unwrap_or_else(|| panic!("{name} is not listed"));
        (image["reason"].as_str().unwrap(), image["detail"].as_str().unwrap())
    };
    assert_eq!(details("sub/1.png"), ("duplicate", "same pixels as again.png"));
    assert_eq!(details("small.png"), ("too-small", "15 pixels, 16 are wanted"));
    assert_eq!(details("broken.jpg").0, "unreadable");
    assert_eq!(details("cut.png").0, "unreadable");
    // The same again, from the file.
    let said = succeed(&folder.inspect("set.safetensors"));
    assert!(said.contains(&counts) && said.contains("small.png: too small, 15 pixels"), "{said}");

    let said = succeed(&folder.prepare("images", &["--size", "16", "--min-size", "8"], "set.safetensors"));
    assert!(said.contains("4 images") && !said.contains("too small"), "{said}");
    // A row without an image.
    let rows = [Some(("a.png".to_string(), whole)), None];
    folder.write("holes.parquet", &parquet("image", &rows));
    let said = succeed(&folder.prepare("holes.parquet", &["--size", "16"], "set.safetensors"));
    assert!(said.contains("1 images") && said.contains("row 1: unreadable"), "{said}");
}

#[test]
fn a_limit_counts_the_images_taken() {
    let folder = Folder::with_pictures();
    folder.write("images/broken.jpg", b"no picture");
    for (limit, count) in [("2", 2), ("3", 3), ("9", 3)] {
        succeed(&folder.prepare("images", &["--size", "16", "--limit", limit], "set.safetensors"));
        assert_eq!(folder.prepared("set.safetensors").shape[0], count);
    }
}

#[test]
fn training_gets_the_same_tensors_from_a_prepared_file() {
    let folder = Folder::with_pictures();
    succeed(&folder.prepare("images", &["--size", "16"], "set.safetensors"));
    let batch = |name: &str| {
        let set = ImageSet::load(&folder.path(name), 16).unwrap();
        assert_eq!((set.len(), set.skipped.len()), (3, 0));
        let batch = set.batch(&[2, 0, 1, 3, 5], &Device::Cpu).unwrap();
        assert_eq!(batch.dims(), [5, 3, 16, 16]);
        batch.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let expected = batch("images");
    assert_eq!(expected, batch("set.safetensors"));
    // Index 3 is image 0 mirrored: the first row of a channel, backwards.
    let image = 3 * 16 * 16;
    let mirrored: Vec<f32> = expected[image..image + 16].iter().rev().copied().collect();
    assert_eq!(expected[3 * image..3 * image + 16], mirrored);
}

#[test]
fn a_prepared_file_of_another_size_is_refused() {
    let folder = Folder::with_pictures();
    succeed(&folder.prepare("images", &["--size", "8"], "set.safetensors"));
    let preset = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tiny.toml");
    let mut train = program(&["train", "autoencoder", "--preset", preset, "--data"]);
    train.arg(folder.path("set.safetensors")).arg("--out").arg(folder.path("out"));
    fail(&train.output().unwrap(), &["set.safetensors", "8x8", "16x16", "--size 16"]);
}

#[test]
fn damaged_prepared_files_are_named() {
    let folder = Folder::with_pictures();
    succeed(&folder.prepare("images", &["--size", "16"], "set.safetensors"));
    let bytes = std::fs::read(folder.path("set.safetensors")).unwrap();
    let inspect = |name: &str, bytes: &[u8]| {
        folder.write(name, bytes);
        folder.inspect(name)
    };
    for length in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        fail(&inspect("short.safetensors", &bytes[..length]), &["short.safetensors", "data prepare"]);
        assert!(ImageSet::load(&folder.path("short.safetensors"), 16).is_err());
    }
    // One value of the second image, of the last bytes before the listing.
    let listing = serde_json::to_vec(&folder.prepared("set.safetensors").listing).unwrap().len();
    let mut altered = bytes.clone();
    altered[bytes.len() - listing - 3 * 16 * 16 - 1] ^= 1;
    fail(&inspect("altered.safetensors", &altered), &["altered.safetensors", "sub/1.png"]);
    let tensor = candle_core::Tensor::zeros((1, 3, 4, 4), candle_core::DType::U8, &Device::Cpu).unwrap();
    tensor.save_safetensors("images", folder.path("foreign.safetensors")).unwrap();
    fail(&folder.inspect("foreign.safetensors"), &["foreign.safetensors", "data prepare"]);
}

#[test]
fn damaged_sources_are_named() {
    let folder = Folder::with_pictures();
    let (pictures, _) = pictures();
    let archive = tar(&pictures);
    folder.write("cut.tar", &archive[..archive.len() / 2]);
    folder.write("cut.tgz", &gzip(&archive)[..1000]);
    folder.write("text.tar", &[b'x'; 2000]);
    folder.write("odd.bin", &[0; 3074]);
    folder.write("text.mdb", &[b'x'; 10_000]);
    folder.write("column.parquet", &parquet("picture", &[]));
    folder.write("unknown.xyz", b"");
    // The data itself, so that half of the file is more than LMDB leaves unwritten.
    let values: Vec<Vec<u8>> = (0..1000).map(|number: u32| number.to_le_bytes().repeat(1500)).collect();
    lmdb(&folder.path("lmdb"), &values);
    let database = std::fs::read(folder.path("lmdb/data.mdb")).unwrap();
    folder.write("cut.mdb", &database[..database.len() / 2]);
    let cases = [
        ("cut.tar", "damaged"),
        ("cut.tgz", "damaged"),
        ("text.tar", "no tar archive"),
        ("odd.bin", "3073"),
        ("text.mdb", "LMDB"),
        ("cut.mdb", "truncated"),
        ("column.parquet", "`image`"),
        ("unknown.xyz", ".parquet"),
    ];
    for (name, word) in cases {
        fail(&folder.prepare(name, &["--size", "16"], "set.safetensors"), &[name, word]);
        assert!(!folder.path("set.safetensors").exists(), "{name}");
    }
    fail(&folder.prepare("images", &["--size", "16"], "set.bin"), &["set.bin", ".safetensors"]);
    // All are smaller than that.
    fail(&folder.prepare("images", &["--size", "32"], "set.safetensors"), &["sub/0.png", "too small"]);
}

#[test]
fn inspect_draws_a_contact_sheet() {
    let folder = Folder::with_pictures();
    succeed(&folder.prepare("images", &["--size", "16"], "set.safetensors"));
    // Three pictures in a row, two pixels apart; a folder's at a size of their own.
    for (data, size) in [("set.safetensors", (3 * 18 - 2, 16)), ("images", (3 * 66 - 2, 64))] {
        let mut inspect = program(&["data", "inspect"]);
        inspect.arg(folder.path(data)).arg("--grid").arg(folder.path("sheet.png"));
        let said = succeed(&inspect.output().unwrap());
        assert!(said.contains("3 images") && said.contains("shorter sides of the originals: 20 to 20"), "{said}");
        assert_eq!(image::open(folder.path("sheet.png")).unwrap().to_rgb8().dimensions(), size);
    }
}
