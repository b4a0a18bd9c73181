//! Which files of a folder are taken, and what is said about the others.

use crate::common::{fail, program, succeed};
use crate::inputs::*;

const SIZE: [&str; 2] = ["--size", "16"];

/// A Parquet file of the pictures with these numbers.
fn rows(numbers: std::ops::Range<u8>) -> Vec<u8> {
    let row = |number: u8| Some((format!("{number}.png"), png(&picture(number, 24, 24))));
    parquet("image", &numbers.map(row).collect::<Vec<_>>())
}

#[test]
fn the_kind_that_clearly_holds_the_images_is_taken() {
    let folder = Folder::new();
    folder.write("set/data/train-00000-of-00001.parquet", &rows(0..12));
    folder.write("set/thumbnail.png", &png(&picture(99, 64, 64)));
    folder.write("set/README.md", b"");
    let said = succeed(&folder.prepare("set", &SIZE, "set.safetensors"));
    assert!(said.contains("set: 12 images from 1 Parquet file; 1 image file beside it left out"), "{said}");
    assert!(said.contains("not read: 1 .md"), "{said}");
    assert_eq!(folder.prepared("set.safetensors").shape[0], 12);
    // Many images beside an archive of few are the data set.
    for number in 0..10 {
        folder.write(&format!("loose/{number}.png"), &png(&picture(number, 24, 24)));
    }
    folder.write("loose/more.zip", &zip(&[picture(99, 24, 24)]));
    let said = succeed(&folder.prepare("loose", &SIZE, "set.safetensors"));
    assert!(said.contains("loose: 10 image files; 1 zip file beside them left out"), "{said}");
    // Where that is not clear, those that are named by split are.
    folder.write("set/another.png", &png(&picture(98, 64, 64)));
    let said = succeed(&folder.prepare("set", &SIZE, "set.safetensors"));
    assert!(said.contains("set: 12 images from 1 Parquet file; 2 image files beside it left out"), "{said}");
    folder.write("unclear/data.parquet", &rows(0..2));
    folder.write("unclear/thumbnail.png", &png(&picture(98, 64, 64)));
    let words =
        ["unclear: which images are meant is not clear", "1 image in 1 image file", "2 images in 1 Parquet file"];
    fail(&folder.prepare("unclear", &SIZE, "set.safetensors"), &words);
}

#[test]
fn training_images_are_taken_where_splits_are_named() {
    let folder = Folder::new();
    for (name, numbers) in [("train-00000-of-00002", 0..3), ("train-00001-of-00002", 3..5)] {
        folder.write(&format!("set/data/{name}.parquet"), &rows(numbers));
    }
    folder.write("set/data/test-00000-of-00001.parquet", &rows(5..7));
    folder.write("set/data/validation-00000-of-00001.parquet", &rows(7..8));
    folder.write("folders/train2017/a/0.png", &png(&picture(0, 24, 24)));
    folder.write("folders/val2017/a/1.png", &png(&picture(1, 24, 24)));
    // A class of images may be called as a split is.
    folder.write("classes/train/0.png", &png(&picture(0, 24, 24)));
    folder.write("classes/bus/1.png", &png(&picture(1, 24, 24)));
    folder.write("unclear/train.parquet", &rows(0..1));
    folder.write("unclear/test.parquet", &rows(1..2));
    folder.write("unclear/more.parquet", &rows(2..3));
    for (name, split, count, words) in [
        (
            "set",
            None,
            5,
            "5 images from 2 Parquet files; split train, left out 1 file of test and 1 file of validation",
        ),
        ("set", Some("test"), 2, "split test"),
        ("set", Some("val"), 1, "split validation"),
        ("set", Some("all"), 8, "8 images from 4 Parquet files"),
        ("folders", None, 1, "split train, left out 1 file of validation"),
        ("classes", None, 2, "classes: 2 image files\n"),
        ("unclear", Some("train"), 1, "split train"),
    ] {
        let options: Vec<_> =
            SIZE.into_iter().chain(split.into_iter().flat_map(|split| ["--data-split", split])).collect();
        let said = succeed(&folder.prepare(name, &options, "set.safetensors"));
        assert!(said.contains(words), "{name} {split:?}: {said}");
        assert_eq!(folder.prepared("set.safetensors").shape[0], count, "{name} {split:?}");
    }
    fail(
        &folder.prepare("unclear", &SIZE, "set.safetensors"),
        &["unclear", "1 file of test", "1 file of no split", "--data-split"],
    );
    let unknown = folder.prepare("set", &["--size", "16", "--data-split", "extra"], "set.safetensors");
    fail(&unknown, &["no split `extra`", "test, train, validation"]);
}

#[test]
fn validation_takes_the_other_split_of_a_folder() {
    let folder = Folder::new();
    folder.write("set/train/0.png", &png(&picture(0, 24, 24)));
    folder.write("set/train/1.png", &png(&picture(1, 24, 24)));
    folder.write("set/test/2.png", &png(&picture(2, 24, 24)));
    let preset = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tiny.toml");
    let mut train = program(&["train", "autoencoder", "--images", "0", "--preset", preset]);
    for option in ["--data", "--validation"] {
        train.arg(option).arg(folder.path("set"));
    }
    let said = succeed(&train.arg("--out").arg(folder.path("out")).output().unwrap());
    assert!(said.contains("2 image files; split train, left out 1 file of test"), "{said}");
    assert!(said.contains("1 image file; split test, left out 2 files of train"), "{said}");
}

#[test]
fn what_systems_and_tools_leave_is_no_data() {
    let folder = Folder::new();
    let good = png(&picture(1, 24, 24));
    folder.write("set/good.png", &good);
    for name in [".git/a.png", ".ipynb_checkpoints/b.png", "@eaDir/c.png", "__MACOSX/d.png", "sub/.hidden/e.png"] {
        folder.write(&format!("set/{name}"), &good);
    }
    for name in ["._good.png", "Thumbs.db", ".DS_Store", "sub/.f.png"] {
        folder.write(&format!("set/{name}"), b"no image");
    }
    let said = succeed(&folder.prepare("set", &SIZE, "set.safetensors"));
    assert!(said.contains("skipped: none") && !said.contains("not read"), "{said}");
    assert_eq!(folder.prepared("set.safetensors").names(), ["good.png"]);
    // A folder that was named is meant, whatever its name.
    succeed(&folder.prepare("set/.git", &SIZE, "set.safetensors"));
}

/// Training reads a folder as `data prepare` does.
#[test]
fn training_reports_what_prepare_reports() {
    let folder = Folder::with_pictures();
    folder.write("images/again.png", &png(&picture(1, 24, 20)));
    folder.write("images/small.png", &png(&picture(4, 15, 40)));
    folder.write("images/broken.jpg", b"no picture");
    folder.write("images/notes.txt", b"");
    let lines = [
        "skipped broken.jpg: unreadable",
        "skipped small.png: too small, 15 pixels, 16 are wanted",
        "skipped sub/1.png: duplicate, same pixels as again.png",
        "not read: 1 .txt",
        "images: 3 images, here 16x16",
        "skipped: 1 unreadable, 1 too small, 1 duplicate",
    ];
    let train = |more: &[&str], out: &str| {
        let preset = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tiny.toml");
        let mut train = program(&["train", "autoencoder", "--images", "0", "--preset", preset]);
        train.arg("--data").arg(folder.path("images")).args(more).arg("--out").arg(folder.path(out));
        succeed(&train.output().unwrap())
    };
    for said in [train(&[], "out"), succeed(&folder.prepare("images", &SIZE, "set.safetensors"))] {
        assert!(lines.iter().all(|line| said.contains(line)), "{said}");
    }
    let said = train(&["--min-size", "0"], "more");
    assert!(said.contains("images: 4 images") && !said.contains("too small"), "{said}");
}

#[test]
fn several_paths_are_one_set() {
    let folder = Folder::with_pictures();
    folder.write("more.zip", &zip(&[picture(7, 24, 24)]));
    folder.write("one.png", &png(&picture(8, 24, 24)));
    let said = succeed(&folder.prepare_all(&["images", "more.zip", "one.png"], &SIZE, "set.safetensors"));
    assert!(said.contains("images: 3 image files") && said.contains("more.zip: 1 image\n"), "{said}");
    assert!(said.contains("images, more.zip, one.png: 5 images, here 16x16"), "{said}");
    let prepared = folder.prepared("set.safetensors");
    let names = ["images/sub/0.png", "images/sub/1.png", "images/sub/2.png", "more.zip/set/0.png", "one.png"];
    assert_eq!(prepared.names(), names);
}

#[test]
#[cfg(unix)]
fn link_loops_and_locked_folders_are_told_once() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = Folder::with_pictures();
    symlink("..", folder.path("images/sub/loop")).unwrap();
    let said = succeed(&folder.prepare("images", &SIZE, "set.safetensors"));
    assert!(said.contains("3 image files; 1 folder or link that cannot be read left out"), "{said}");
    assert_eq!(said.matches("sub/loop").count(), 1, "{said}");
    let locked = folder.path("images/locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o000)).unwrap();
    // Some accounts may read everything.
    if std::fs::read_dir(&locked).is_err() {
        let said = succeed(&folder.prepare("images", &SIZE, "set.safetensors"));
        assert!(said.contains("3 image files; 2 folders or links that cannot be read left out"), "{said}");
    } else {
        eprintln!("not tested: this account may read folders without permission");
    }
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o755)).unwrap();
}
