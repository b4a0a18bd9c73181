//! Checkpoints: any bytes as a file, and as a run of pickles; zip files also with their checksums put right, so that
//! changes reach what the checksums guard.

#![no_main]

use std::io::{Cursor, Read, Write};
use std::path::Path;

use lddgan_fuzz::LimitedHeap;
use lddgan_trainer::import::pickle::Pickle;
use lddgan_trainer::import::pytorch::PytorchFile;
use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;

#[global_allocator]
static HEAP: LimitedHeap = LimitedHeap;

fuzz_target!(|bytes: &[u8]| {
    read(bytes.to_vec());
    if bytes.starts_with(b"PK") {
        mended(bytes).into_iter().for_each(read);
    } else {
        read_pickles(bytes);
    }
});

/// Loads everything that the file says it holds.
fn read(bytes: Vec<u8>) {
    let Ok(file) = PytorchFile::from_bytes(bytes, Path::new("fuzzed.pth")) else { return };
    let _ = file.number("global_step");
    for keys in [&[][..], &["netG_dict"], &["netD_dict", "state_dict"]] {
        let Ok(state) = file.state_dict(keys) else { continue };
        for (name, shape) in state.shapes() {
            let tensor = state.tensor(name).expect("a tensor that is listed can be loaded");
            assert_eq!(tensor.dims(), shape);
        }
    }
}

fn read_pickles(mut bytes: &[u8]) {
    while let Ok((pickle, length)) = Pickle::read(bytes) {
        assert!(pickle.values().count() <= length, "every value takes an opcode");
        bytes = &bytes[length..];
    }
}

/// The same entries in a sound zip file.
fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).ok()?;
        let name = entry.name().ok()?.into_owned();
        let mut data = Vec::new();
        // An entry may say that it is longer than the file.
        entry.take(bytes.len() as u64).read_to_end(&mut data).ok()?;
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        writer.start_file(name, stored).ok()?;
        writer.write_all(&data).ok()?;
    }
    Some(writer.finish().ok()?.into_inner())
}
