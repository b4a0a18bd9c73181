//! Compression for servers that send compressed files as they lie there, and for the single file.

use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

use super::files::Files;

/// What compresses well. Weights do not, and a server sends parts of them only if they are not compressed.
const KINDS: [&str; 7] = ["html", "js", "css", "wasm", "json", "md", "svg"];

/// The compressed forms of the files, `.gz` and `.br` beside each.
pub fn compressed(files: &Files) -> Result<Files> {
    let mut compressed = Files::new();
    for (path, bytes) in files {
        if KINDS.contains(&path.rsplit('.').next().unwrap_or_default()) {
            compressed.insert(format!("{path}.gz"), gzip(bytes)?);
            compressed.insert(format!("{path}.br"), brotli(bytes)?);
        }
    }
    Ok(compressed)
}

pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn brotli(bytes: &[u8]) -> Result<Vec<u8>> {
    let parameters = brotli::enc::BrotliEncoderParams { quality: 11, lgwin: 22, ..Default::default() };
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut &bytes[..], &mut compressed, &parameters)?;
    Ok(compressed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn both_forms_are_read_back_and_weights_stay_as_they_are() {
        let text = "faces of nobody ".repeat(100).into_bytes();
        let files = ["a/page.html", "model.safetensors"].map(|path| (path.to_owned(), text.clone()));
        let compressed = compressed(&files.into()).unwrap();
        assert_eq!(compressed.keys().collect::<Vec<_>>(), ["a/page.html.br", "a/page.html.gz"]);

        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&compressed["a/page.html.gz"][..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, text);
        let mut read = Vec::new();
        brotli::BrotliDecompress(&mut &compressed["a/page.html.br"][..], &mut read).unwrap();
        assert_eq!(read, text);
    }
}
