//! The published page has two programs, one with relaxed SIMD; a browser loads the one that it can run.

use std::collections::HashMap;
use std::fs;

use crate::browser::Browser;
use crate::page::Page;
use crate::server::{Server, workspace};
use crate::shipped_model;

/// The JavaScript and the program of a kind.
pub struct Program {
    pub glue: String,
    pub wasm: String,
}

/// The program with relaxed SIMD, which the Chromium of these tests runs, and that of every browser.
pub fn programs() -> [Program; 2] {
    let files = fs::read_dir(workspace().join("target/site")).expect("the site is whole");
    let names: Vec<_> = files.filter_map(|file| file.ok()?.file_name().into_string().ok()).collect();
    ["relaxed-", "lddgan-web-"].map(|kind| {
        let find = |end: &str| names.iter().find(|name| name.starts_with(kind) && name.ends_with(end)).cloned();
        let [glue, wasm] =
            [".js", "_bg.wasm"].map(|end| find(end).unwrap_or_else(|| panic!("{kind}…{end} is missing")));
        Program { glue, wasm }
    })
}

fn serve() -> Server {
    Server::serve(&workspace().join("target/site"), "", HashMap::new())
}

fn open(server: &Server, browser: Browser) -> Page {
    let address = format!("{}?seed=0&count=4&model=faces64&executor=cpu", server.address);
    let page = Page::at(browser, &address, "faces64", &shipped_model("faces64"));
    page.finish();
    page.assert_faces(0..4);
    page
}

#[test]
fn a_browser_with_relaxed_simd_loads_that_program_alone() {
    let mut server = serve();
    let page = open(&server, Browser::start());
    page.wait_until_kept();
    let [relaxed, baseline] = programs();
    for file in [&relaxed.glue, &relaxed.wasm] {
        assert!(!server.requests(file).is_empty(), "{file}");
    }
    for file in [&baseline.glue, &baseline.wasm] {
        assert_eq!(server.requests(file), [""; 0], "{file}");
    }
    server.stop();
    page.browser.reload();
    page.finish();
    page.assert_faces(0..4);
}

#[test]
fn a_browser_without_relaxed_simd_loads_the_other() {
    let server = serve();
    let browser = Browser::start();
    // As such browsers answer: no module with these instructions is valid.
    browser.in_every_page("WebAssembly.validate = () => false; delete Navigator.prototype.serviceWorker;");
    open(&server, browser);
    let [relaxed, baseline] = programs();
    assert_eq!([server.requests(&relaxed.glue), server.requests(&relaxed.wasm)], [[""; 0]; 2]);
    assert!(!server.requests(&baseline.glue).is_empty() && !server.requests(&baseline.wasm).is_empty());
}

/// As after a download that broke, or without network in a browser that has kept the other one.
#[test]
fn where_one_program_cannot_be_had_the_other_runs() {
    let [relaxed, _] = programs();
    for file in [relaxed.glue, relaxed.wasm] {
        let server = serve();
        server.replace([(file, b"neither JavaScript nor WebAssembly".to_vec())].into());
        open(&server, Browser::start());
    }
}
