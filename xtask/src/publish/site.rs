//! The page as a folder of static files, for any web host and any folder of it.

use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;

use super::compress::compressed;
use super::files::{self, Files, records, sha256};
use super::relaxed::{self, Relaxed};
use super::{bindgen, budget, megabytes};
use crate::page::Program;
use crate::workspace;

/// Lists every file with its size and hash.
const LIST: &str = "files.json";

/// Writes the page that trunk built in `page`, and the program with relaxed SIMD beside it, into `out`.
pub fn write(page: &Path, out: &Path) -> Result<()> {
    let mut site = files::read(page)?;
    let html = site.remove("index.html").with_context(|| format!("{} has no index.html", page.display()))?;
    let baseline = site.keys().find(|path| path.ends_with("_bg.wasm"));
    let baseline = baseline.with_context(|| format!("{} has no program", page.display()))?;
    let baseline = [baseline.clone(), baseline.replace("_bg.wasm", ".js")];
    let relaxed = Relaxed::add(&mut site, bindgen::run(Program::Relaxed, "web", "relaxed")?);
    let html = with_head(&String::from_utf8(html)?, &(relaxed.metas() + &listed(&site)?))?;
    site.insert("index.html".to_owned(), html.into_bytes());
    let code = files::read_text(&workspace::root().join("web/src/page/service-worker.js"))?;
    let programs = Programs { baseline, relaxed: [relaxed.program, relaxed.glue], test: relaxed::test() };
    site.insert("service-worker.js".to_owned(), service_worker(&code, &site, &programs)?.into_bytes());
    site.insert(LIST.to_owned(), serde_json::to_vec_pretty(&records(&site))?);
    site.extend(compressed(&site)?);
    files::write(&site, out, LIST)?;
    print!("{}", budget::table(&budget::sizes(&site)));
    let total = megabytes(site.values().map(Vec::len).sum());
    println!("wrote {}, {total} with the compressed forms: any web server can serve it from any folder", out.display());
    Ok(())
}

/// The list of files by which the page verifies what it downloads.
fn listed(files: &Files) -> Result<String> {
    let list = serde_json::to_string(&records(files))?;
    Ok(format!("<script type=\"application/json\" id=\"files\">{list}</script>\n"))
}

/// The page with more at the end of its head.
fn with_head(html: &str, more: &str) -> Result<String> {
    let (before, after) = html.split_once("</head>").context("index.html has no </head>")?;
    Ok(format!("{before}{more}</head>{after}"))
}

/// Which files are of which program; a browser that `test` is valid in runs the one with relaxed SIMD.
#[derive(Serialize)]
struct Programs {
    baseline: [String; 2],
    relaxed: [String; 2],
    test: String,
}

/// The service worker, which knows every file of the page. A browser finds a new version by a byte that differs.
fn service_worker(code: &str, files: &Files, programs: &Programs) -> Result<String> {
    let records = records(files);
    let version = sha256(&serde_json::to_vec(&records)?);
    let build = serde_json::json!({ "version": version[..16], "files": records, "programs": programs });
    Ok(format!("const BUILD = {build};\n\n{code}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn files(contents: &[u8]) -> Files {
        Files::from([("models/a.safetensors".to_owned(), contents.to_vec())])
    }

    #[test]
    fn the_page_lists_the_other_files() {
        let list = listed(&files(b"abc")).unwrap();
        let html = with_head("<head><title>a</title></head><body></body>", &list).unwrap();
        let list = html.split_once("id=\"files\">").unwrap().1.split_once("</script>").unwrap().0;
        let list: Value = serde_json::from_str(list).unwrap();
        assert_eq!(list["models/a.safetensors"]["bytes"], 3);
        assert!(html.ends_with("</head><body></body>"));
    }

    #[test]
    fn every_change_of_a_file_is_a_new_version() {
        let names = |name: &str| [format!("{name}.js"), format!("{name}_bg.wasm")];
        let programs = Programs { baseline: names("a"), relaxed: names("b"), test: String::new() };
        let build = |contents: &[u8]| -> Value {
            let code = service_worker("the code", &files(contents), &programs).unwrap();
            let (build, code) = code.strip_prefix("const BUILD = ").unwrap().split_once(";\n\n").unwrap();
            assert_eq!(code, "the code");
            serde_json::from_str(build).unwrap()
        };
        assert_eq!(build(b"abc"), build(b"abc"));
        assert_ne!(build(b"abc")["version"], build(b"abd")["version"]);
        assert_eq!(build(b"abc")["files"]["models/a.safetensors"]["bytes"], 3);
    }
}
