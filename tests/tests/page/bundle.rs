//! The single file, opened from a disk.

use std::fs;

use tempfile::TempDir;

use super::browser::Browser;
use super::page::Page;
use super::server::workspace;
use super::shipped_model;

/// The file alone in a folder, as on somebody's stick.
fn open(query: &str) -> (Page, TempDir) {
    open_with_fault("", query)
}

/// The file, whose program runs this JavaScript first, in the page and in its workers.
fn open_with_fault(fault: &str, query: &str) -> (Page, TempDir) {
    const PROGRAM: &str = "const answerFrom";
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let file = folder.path().join("lddgan offline.html");
    let made = fs::read_to_string(workspace().join("target/lddgan-offline.html"));
    let made = made.unwrap_or_else(|error| panic!("no single file ({error}): `cargo xtask test` makes it"));
    assert_eq!(made.matches(PROGRAM).count(), 1);
    fs::write(&file, made.replace(PROGRAM, &format!("{fault}\n{PROGRAM}"))).expect("the folder can be written to");
    let address = url::Url::from_file_path(&file).expect("the path is absolute");
    (Page::at(Browser::start(), &format!("{address}{query}"), "faces64", &shipped_model("faces64")), folder)
}

#[test]
fn the_single_file_makes_the_faces_of_the_native_program_and_requests_nothing() {
    for (executor, count) in [("candle", 4), ("webgpu", 1)] {
        let (page, _folder) = open(&format!("?seed=0&count={count}&model=faces64&executor={executor}"));
        page.finish();
        let shown = page.browser.text("#executor").to_lowercase();
        assert!(shown.starts_with(executor), "{shown}");
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
    let processors = "if (globalThis.WorkerNavigator) {
        Object.defineProperty(WorkerNavigator.prototype, 'hardwareConcurrency', { get: () => 3 });
      }";
    let (page, _folder) = open_with_fault(processors, "?seed=0&count=16&model=faces64&executor=candle");
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
