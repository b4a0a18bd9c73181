//! The single file, opened from a disk.

use std::fs;

use tempfile::TempDir;

use super::browser::Browser;
use super::page::Page;
use super::server::workspace;
use super::shipped_model;

/// The file alone in a folder, as on somebody's stick.
fn open(query: &str) -> (Page, TempDir) {
    open_in(Browser::start(), query)
}

fn open_in(browser: Browser, query: &str) -> (Page, TempDir) {
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let file = folder.path().join("lddgan offline.html");
    let copied = fs::copy(workspace().join("target/lddgan-offline.html"), &file);
    copied.unwrap_or_else(|error| panic!("no single file ({error}): `cargo xtask test` makes it"));
    let address = url::Url::from_file_path(&file).expect("the path is absolute");
    (Page::at(browser, &format!("{address}{query}"), "faces64", &shipped_model("faces64")), folder)
}

#[test]
fn the_single_file_makes_the_faces_of_the_native_program_and_requests_nothing() {
    for (executor, count) in [("cpu", 4), ("webgpu", 1)] {
        let (page, _folder) = open(&format!("?seed=0&count={count}&model=faces64&executor={executor}"));
        page.finish();
        let shown = page.browser.text("#executor").to_lowercase();
        assert!(shown.contains(executor), "{shown}");
        page.assert_faces(0..count);
        page.browser.press("body", "f");
        page.wait_for_speaker(0);
        assert_eq!(page.browser.errors(), [""; 0]);

        let requested = page.browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
        let requested: Vec<String> = serde_json::from_value(requested).expect("names are strings");
        let is_inside = |address: &String| address.starts_with("blob:") || address.starts_with("data:");
        assert!(requested.iter().all(is_inside), "{requested:?}");
        let policy = "return document.querySelector('meta[http-equiv=Content-Security-Policy]').content";
        let policy = page.browser.run(policy).as_str().unwrap_or_default().to_owned();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("connect-src"), "{policy}");
    }
}

/// The window starts them, since a worker of a file may not.
#[test]
fn several_workers_make_the_faces_of_the_single_file() {
    let browser = Browser::start();
    // Workers see three processors. What they run is in a blob.
    browser.in_every_page(
        "const processors = `Object.defineProperty(WorkerNavigator.prototype, 'hardwareConcurrency', { get: () => 3 });`;
         globalThis.Blob = class extends Blob {
           constructor(parts, options) {
             super(options?.type === 'text/javascript' ? [processors, ...parts] : parts, options);
           }
         };",
    );
    let (page, _folder) = open_in(browser, "?seed=0&count=16&model=faces64&executor=cpu");
    page.finish();
    // By the first grid all of them may be made before the workers are ready.
    page.browser.click("#new");
    page.finish();
    page.browser.wait("workers", || page.browser.text("#executor").contains("in 2 workers"));
    let seed = page.address_seed();
    page.assert_faces(seed..seed + 16);
    assert_eq!(page.browser.errors(), [""; 0]);
}

#[test]
fn the_single_file_says_which_model_it_does_not_hold() {
    let (page, _folder) = open("?model=missing");
    page.fail();
    assert!(page.shows_recorded());
    let error = page.browser.text("#error");
    assert!(
        error.contains("missing.safetensors could not be downloaded") && error.contains("Not in this file"),
        "{error}"
    );
    assert_eq!(page.browser.errors(), [""; 0]);
}

/// Where the file lies is nobody else's business.
#[test]
fn what_the_single_file_saves_does_not_tell_where_it_lies() {
    let (page, _folder) = open("?seed=0&count=1&model=faces64&executor=cpu");
    page.finish();
    page.browser.click("#faces > :first-child > button");
    let saved = page.save(0);
    let text = String::from_utf8_lossy(&saved);
    assert!(text.contains("Seed\u{0}0") && !text.contains("Source\0") && !text.contains("file:"));
    page.browser.click("#copy");
    page.browser.wait("words", || page.browser.text("#large-status").contains("a link cannot show it"));
}
