//! Every kind of source, what is skipped, and what is said when something is wrong.

use candle_core::Device;
use image::RgbImage;

use crate::common::{fail, program, succeed};
use crate::inputs::*;

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
    folder.write("images.zip", &zip(&pictures));
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
        ("images.zip", "set/4.png"),
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

/// `data.mdb` was written by Python's lmdb 3.0 with LMDB 0.9.36: three RGB images of 4 x 4 pixels, the bytes 0 to 143.
#[test]
fn databases_of_other_lmdb_releases_are_read() {
    let folder = Folder::new();
    folder.write("lmdb/data.mdb", include_bytes!("data.mdb"));
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
    assert_eq!(details("small.png"), ("too-small", "15 pixels, 16 are wanted (--min-size)"));
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
        let set = load(&folder.path(name), 16).unwrap();
        assert_eq!(set.len(), 3);
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
        assert!(load(&folder.path("short.safetensors"), 16).is_err());
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
    folder.write("empty.zip", &zip(&[]));
    let archive = zip(&pictures);
    folder.write("cut.zip", &archive[..archive.len() / 2]);
    folder.write("unknown.xyz", b"");
    // The data itself, so that half of the file is more than LMDB leaves unwritten.
    let values: Vec<Vec<u8>> = (0..1000).map(|number: u32| number.to_le_bytes().repeat(1500)).collect();
    lmdb(&folder.path("lmdb"), &values);
    let database = std::fs::read(folder.path("lmdb/data.mdb")).unwrap();
    folder.write("cut.mdb", &database[..database.len() / 2]);
    let cases = [
        ("cut.tar", "damaged"),
        ("cut.tgz", "damaged"),
        ("text.tar", "not a tar archive"),
        ("odd.bin", "3073"),
        ("text.mdb", "LMDB"),
        ("cut.mdb", "truncated"),
        ("column.parquet", "holds no images"),
        ("cut.zip", "truncated"),
        ("empty.zip", "1 .json"),
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
