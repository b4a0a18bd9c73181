//! Pictures, files of them, and folders for tests.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{CommitOrAbort, EnvOpenOptions};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use lddgan_trainer::data::{ChoiceOptions, DataError, DataOptions, ImageSet};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::program;

/// The records of CIFAR-10 have this size.
pub const SIZE: u32 = 32;
pub const COUNT: u8 = 5;

/// Different for every `number`.
pub fn picture(number: u8, width: u32, height: u32) -> RgbImage {
    let color = |x: u32, y: u32| Rgb([(x * 9) as u8 ^ number, (y * 7) as u8, (x * y) as u8 + 20 * number]);
    RgbImage::from_fn(width, height, color)
}

pub fn png(picture: &RgbImage) -> Vec<u8> {
    encoded(&picture.clone().into(), ImageFormat::Png)
}

pub fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn planes(picture: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| picture.pixels().map(move |pixel| pixel[channel])).collect()
}

/// The pictures of all sources, and their pixels as they are in a prepared file.
pub fn pictures() -> (Vec<RgbImage>, Vec<u8>) {
    let pictures: Vec<RgbImage> = (0..COUNT).map(|number| picture(number, SIZE, SIZE)).collect();
    let pixels = pictures.iter().flat_map(planes).collect();
    (pictures, pixels)
}

/// What training gets.
pub fn load(path: &Path, size: usize) -> Result<ImageSet, DataError> {
    DataOptions { data: vec![path.to_path_buf()], choice: ChoiceOptions::default() }.load(size)
}

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Three good pictures of 24 x 20 pixels.
    pub fn with_pictures() -> Self {
        let folder = Self::new();
        for number in 0..3 {
            folder.write(&format!("images/sub/{number}.png"), &png(&picture(number, 24, 20)));
        }
        folder
    }

    pub fn prepare(&self, data: &str, more: &[&str], out: &str) -> Output {
        self.prepare_all(&[data], more, out)
    }

    pub fn prepare_all(&self, data: &[&str], more: &[&str], out: &str) -> Output {
        let mut command = program(&["data", "prepare", "--data"]);
        command.args(data.iter().map(|name| self.path(name))).args(more);
        command.arg("--out").arg(self.path(out)).output().unwrap()
    }

    pub fn inspect(&self, data: &str) -> Output {
        program(&["data", "inspect"]).arg(self.path(data)).output().unwrap()
    }

    pub fn prepared(&self, name: &str) -> Prepared {
        Prepared::read(&self.path(name))
    }
}

/// What any safetensors reader finds in a prepared file.
pub struct Prepared {
    pub shape: Vec<usize>,
    pub pixels: Vec<u8>,
    pub manifest: Value,
    pub listing: Value,
}

impl Prepared {
    pub fn read(path: &Path) -> Self {
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

    pub fn names(&self) -> Vec<&str> {
        self.listing["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect()
    }
}

/// A Parquet file with the struct column `column`, and another beside it; a row without bytes for each `None`.
pub fn parquet(column: &str, images: &[Option<(String, Vec<u8>)>]) -> Vec<u8> {
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

pub fn tar(images: &[RgbImage]) -> Vec<u8> {
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

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn lmdb(folder: &Path, values: &[Vec<u8>]) {
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

/// As the tools of StyleGAN2-ADA write one, with what a Mac adds.
pub fn zip(images: &[RgbImage]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut append = |name: &str, bytes: &[u8]| {
        archive.start_file(name.to_string(), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    };
    // Not in the order of the names.
    for (number, picture) in images.iter().enumerate().rev() {
        append(&format!("set/{number}.png"), &png(picture));
        append(&format!("__MACOSX/set/._{number}.png"), b"no image");
    }
    append("dataset.json", b"{}");
    archive.finish().unwrap().into_inner()
}
