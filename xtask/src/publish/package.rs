//! The program as a package for other pages, as npm and bundlers take it.

use anyhow::Result;
use std::path::Path;

use super::files::{self, Files};
use super::{bindgen, megabytes, relaxed};
use crate::page::Program;
use crate::workspace;

/// By which an earlier package is known.
const MANIFEST: &str = "package.json";

/// What is taken from the workspace, and its name in the package.
const SOURCES: [(&str, &str); 11] = [
    ("web/npm/README.md", "README.md"),
    ("web/npm/index.js", "index.js"),
    ("web/npm/index.d.ts", "index.d.ts"),
    ("web/npm/local.js", "local.js"),
    ("web/npm/remote.js", "remote.js"),
    ("web/npm/worker.js", "worker.js"),
    ("web/npm/node.js", "node.js"),
    ("web/npm/example.html", "example.html"),
    ("web/models/faces64.safetensors", "faces64.safetensors"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
];

/// Writes the package of the programs that were built last into `out`.
pub fn write(out: &Path) -> Result<()> {
    let mut package: Files = bindgen::run(Program::Baseline, "web", "program")?;
    package.extend(bindgen::run(Program::Relaxed, "web", "relaxed")?);
    package.insert("has-relaxed-simd.js".to_owned(), relaxed::test_module().into_bytes());
    for (source, name) in SOURCES {
        package.insert(name.to_owned(), files::read_file(&workspace::root().join(source))?);
    }
    package.insert(MANIFEST.to_owned(), manifest()?.into_bytes());
    files::write(&package, out, MANIFEST)?;
    let total = megabytes(package.values().map(Vec::len).sum());
    println!("wrote {}, {total}: `npm install {}` adds it to a project", out.display(), out.display());
    Ok(())
}

/// With the version of the workspace.
fn manifest() -> Result<String> {
    let text = files::read_text(&workspace::root().join("web/npm").join(MANIFEST))?;
    Ok(text.replace("VERSION", env!("CARGO_PKG_VERSION")))
}
