//! What a visitor downloads, in bytes, and how much of it there may be.

use anyhow::{Result, ensure};
use std::path::Path;

use super::files::{self, Files};

/// A part of what is downloaded.
pub struct Size {
    what: &'static str,
    bytes: u64,
    budget: u64,
}

/// Fails if the page in `site` is larger than it may be.
pub fn check(site: &Path) -> Result<()> {
    let sizes = sizes(&files::read(site)?);
    print!("{}", table(&sizes));
    let over: Vec<_> = sizes.iter().filter(|size| size.bytes > size.budget).map(|size| size.what).collect();
    ensure!(over.is_empty(), "larger than its budget: {}", over.join(", "));
    ensure!(sizes.iter().all(|size| size.bytes > 0), "{} lacks a part of the page", site.display());
    Ok(())
}

/// The sizes of a site's parts. Compressed sizes are those with gzip, which every host can send.
pub fn sizes(site: &Files) -> [Size; 2] {
    let sum = |counts: &dyn Fn(&str) -> bool| {
        site.iter().filter(|(path, _)| counts(path)).map(|(_, bytes)| bytes.len() as u64).sum()
    };
    let page = |path: &str| ["html.gz", "css.gz", "js.gz", "wasm.gz"].iter().any(|kind| path.ends_with(kind));
    // A visitor gets one of two programs: the larger one counts.
    let relaxed = |path: &str| path.starts_with("relaxed-");
    let baseline = |path: &str| path.starts_with("lddgan-web-");
    let programs = [sum(&|path| page(path) && relaxed(path)), sum(&|path| page(path) && baseline(path))];
    let rest: u64 = sum(&|path| page(path) && !relaxed(path) && !baseline(path));
    let larger = programs.into_iter().max().unwrap_or_default();
    [
        Size { what: "page and program, gzip", bytes: rest + larger, budget: PAGE },
        Size { what: "default model", bytes: sum(&|path| path == DEFAULT_MODEL), budget: 24_000_000 },
    ]
}

/// What page and program may take, in bytes with gzip. Raised from 1,050,000 for the networks of WaveDiff and for the
/// comparison of the first faces, 26 KB together; from 1,080,000 for directions, the screen for an audience, the workers of the
/// fallback and the options of the package, 35 KB together; from 1,100,000 for directions that stand in model files and the
/// registry of networks, 7 KB together; from 1,105,000 for the CPU executor, which makes the faces where there is no WebGPU,
/// 106 KB; from 1,215,000 for the program with relaxed SIMD, which is 11 KB larger than the other, and for kernels that packed
/// weights are made with, 10 KB; from 1,238,000 for faces of names, trees of faces and pictures that lead back to their face, 28 KB, and for what is on the first
/// screen, 5 KB.
const PAGE: u64 = 1_275_000;
const DEFAULT_MODEL: &str = "models/faces256.safetensors";

/// One line for each part.
pub fn table(sizes: &[Size]) -> String {
    let line = |size: &Size| {
        let used = 100.0 * size.bytes as f64 / size.budget as f64;
        format!("{:28}{:>12} of {:>10} bytes {used:>6.1} %\n", size.what, size.bytes, size.budget)
    };
    sizes.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(program: usize, model: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, bytes: usize| (path.to_owned(), vec![0; bytes]);
        let files = [
            file("index.html.gz", 1000),
            file("index.html", 5_000_000),
            file("lddgan-web-1_bg.wasm.gz", program),
            file("lddgan-web-1_bg.wasm.br", 2_000_000),
            file("relaxed-1_bg.wasm.gz", program / 2),
            file(DEFAULT_MODEL, model),
            file("models/other.safetensors", 30_000_000),
        ];
        files::write(&files.into(), folder.path(), "").unwrap();
        folder
    }

    #[test]
    fn a_page_or_model_that_is_too_large_fails() {
        // Beside 1000 bytes of the page.
        let largest = PAGE as usize - 1000;
        assert!(check(site(largest, 24_000_000).path()).is_ok());
        let error = check(site(largest + 1, 1).path()).unwrap_err().to_string();
        assert_eq!(error, "larger than its budget: page and program, gzip");
        let error = check(site(1, 24_000_001).path()).unwrap_err().to_string();
        assert_eq!(error, "larger than its budget: default model");
    }

    /// A size of nothing would keep to any budget.
    #[test]
    fn a_page_without_a_model_fails() {
        assert!(check(site(1, 0).path()).unwrap_err().to_string().contains("lacks a part"));
    }
}
