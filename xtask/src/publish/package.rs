//! The program as a package for other pages, as npm and bundlers take it.

use anyhow::Result;
use serde_json::json;
use std::path::Path;

use super::files::{self, Files};
use super::{bindgen, megabytes};
use crate::workspace;

/// By which an earlier package is known.
const MANIFEST: &str = "package.json";

/// What is taken from the workspace, and its name in the package.
const SOURCES: [(&str, &str); 7] = [
    ("web/npm/README.md", "README.md"),
    ("web/npm/index.js", "index.js"),
    ("web/npm/index.d.ts", "index.d.ts"),
    ("web/npm/example.html", "example.html"),
    ("web/models/faces64.safetensors", "faces64.safetensors"),
    ("LICENSE-MIT", "LICENSE-MIT"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
];

/// Writes the package of the program that was built last into `out`.
pub fn write(out: &Path) -> Result<()> {
    let mut package: Files = bindgen::run("web")?;
    for (source, name) in SOURCES {
        package.insert(name.to_owned(), files::read_file(&workspace::root().join(source))?);
    }
    package.insert(MANIFEST.to_owned(), serde_json::to_vec_pretty(&manifest())?);
    files::write(&package, out, MANIFEST)?;
    let total = megabytes(package.values().map(Vec::len).sum());
    println!("wrote {}, {total}: `npm install {}` adds it to a project", out.display(), out.display());
    Ok(())
}

fn manifest() -> serde_json::Value {
    json!({
        "name": "lddgan",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "New faces of people who do not exist, made in the browser with WebGPU",
        "license": "MIT OR Apache-2.0",
        "type": "module",
        "exports": {
            ".": { "types": "./index.d.ts", "default": "./index.js" },
            "./faces64.safetensors": "./faces64.safetensors",
        },
        "types": "./index.d.ts",
        "sideEffects": ["./index.js"],
    })
}
