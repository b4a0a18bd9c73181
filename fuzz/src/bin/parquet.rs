//! Parquet files: any bytes as a file, all its images.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use lddgan_fuzz::LimitedHeap;
use lddgan_trainer::data::{ChoiceOptions, Selection, select};
use libfuzzer_sys::fuzz_target;

/// A file may say in 32 bits how long a page is, and an image how large.
const LARGEST_REQUEST: usize = 4 << 30;

#[global_allocator]
static HEAP: LimitedHeap<LARGEST_REQUEST> = LimitedHeap;

/// A file of this process.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("lddgan-fuzz-{}.parquet", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("the folder of temporary files can be written to");
    if let Ok(source) = ChoiceOptions::default().open(std::slice::from_ref(&*FILE)) {
        let _ = select(&source, Selection { size: 4, min_size: 0, limit: None }, |_, _| Ok(()));
    }
});
