//! The page as a folder of static files, for any web host and any folder of it.

use anyhow::{Context, Result};
use std::path::Path;

use super::compress::compressed;
use super::files::{self, Files, records, sha256};
use super::{budget, megabytes};
use crate::workspace;

/// Lists every file with its size and hash.
const LIST: &str = "files.json";

/// Writes the page that trunk built in `page` into `out`.
pub fn write(page: &Path, out: &Path) -> Result<()> {
    let mut site = files::read(page)?;
    let html = site.remove("index.html").with_context(|| format!("{} has no index.html", page.display()))?;
    let html = with_records(&String::from_utf8(html)?, &site)?;
    site.insert("index.html".to_owned(), html.into_bytes());
    let code = files::read_text(&workspace::root().join("web/src/page/service-worker.js"))?;
    site.insert("service-worker.js".to_owned(), service_worker(&code, &site)?.into_bytes());
    site.insert(LIST.to_owned(), serde_json::to_vec_pretty(&records(&site))?);
    site.extend(compressed(&site)?);
    files::write(&site, out, LIST)?;
    print!("{}", budget::table(&budget::sizes(&site)));
    let total = megabytes(site.values().map(Vec::len).sum());
    println!("wrote {}, {total} with the compressed forms: any web server can serve it from any folder", out.display());
    Ok(())
}

/// The page with the list of all other files, by which it verifies what it downloads.
fn with_records(html: &str, others: &Files) -> Result<String> {
    let list = serde_json::to_string(&records(others))?;
    let list = format!("<script type=\"application/json\" id=\"files\">{list}</script>\n</head>");
    let (before, after) = html.split_once("</head>").context("index.html has no </head>")?;
    Ok(format!("{before}{list}{after}"))
}

/// The service worker, which knows every file of the page. A browser finds a new version by a byte that differs.
fn service_worker(code: &str, files: &Files) -> Result<String> {
    let records = records(files);
    let version = sha256(&serde_json::to_vec(&records)?);
    let build = serde_json::json!({ "version": version[..16], "files": records });
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
        let html = with_records("<head><title>a</title></head><body></body>", &files(b"abc")).unwrap();
        let list = html.split_once("id=\"files\">").unwrap().1.split_once("</script>").unwrap().0;
        let list: Value = serde_json::from_str(list).unwrap();
        assert_eq!(list["models/a.safetensors"]["bytes"], 3);
        assert!(html.ends_with("</head><body></body>"));
    }

    #[test]
    fn every_change_of_a_file_is_a_new_version() {
        let build = |contents: &[u8]| -> Value {
            let code = service_worker("the code", &files(contents)).unwrap();
            let (build, code) = code.strip_prefix("const BUILD = ").unwrap().split_once(";\n\n").unwrap();
            assert_eq!(code, "the code");
            serde_json::from_str(build).unwrap()
        };
        assert_eq!(build(b"abc"), build(b"abc"));
        assert_ne!(build(b"abc")["version"], build(b"abd")["version"]);
        assert_eq!(build(b"abc")["files"]["models/a.safetensors"]["bytes"], 3);
    }
}
