//! The page as `cargo xtask dist` writes it: below a folder of a host, on bad connections, and without one.

use std::collections::HashMap;
use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::browser::Browser;
use super::page::{Page, tiny};
use super::server::{Server, workspace};
use super::shipped_model;

/// As a project's pages lie on GitHub Pages.
const FOLDER: &str = "faces/of-nobody/";
const MODEL: &str = "models/faces64.safetensors";

fn serve() -> Server {
    Server::serve(&workspace().join("target/site"), FOLDER, HashMap::new())
}

fn open(server: &Server, query: &str) -> Page {
    let address = format!("{}{query}&model=faces64&executor=cpu", server.address);
    Page::at(Browser::start(), &address, "faces64", &shipped_model("faces64"))
}

#[test]
fn an_address_without_a_model_shows_the_default() {
    let server = serve();
    let address = format!("{}?seed=0&count=1&executor=cpu", server.address);
    let page = Page::at(Browser::start(), &address, "faces256", &shipped_model("faces256"));
    page.finish();
    page.assert_faces(0..1);
}

#[test]
fn the_site_needs_nothing_but_its_own_folder() {
    let server = serve();
    let page = open(&server, "?seed=0&count=4");
    page.finish();
    page.assert_faces(0..4);

    let policy = "return document.querySelector('meta[http-equiv=Content-Security-Policy]').content";
    let policy = page.browser.run(policy).as_str().unwrap_or_default().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';"), "{policy}");
    assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"), "{policy}");
    // What the policy forbids is an error in the console, in the worker too.
    assert_eq!(page.browser.errors(), [""; 0]);

    let requested = page.browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
    let requested: Vec<String> = serde_json::from_value(requested).expect("names are strings");
    assert!(requested.iter().any(|address| address.ends_with(".wasm")), "{requested:?}");
    for address in requested.iter().filter(|address| !address.starts_with("blob:") && !address.starts_with("data:")) {
        assert!(address.starts_with(&server.address), "{address}");
    }
    assert_eq!(server.requests("outside of the page's folder"), [""; 0]);

    // The test could not find what it looks for if this were none.
    page.browser.run("fetch('http://127.0.0.1:9/').catch(() => {})");
    page.browser.wait("an error", || page.browser.errors().iter().any(|error| error.contains("connect-src")));
}

#[test]
fn a_visited_page_makes_the_same_faces_without_network() {
    let mut server = serve();
    let page = open(&server, "?seed=5&count=4");
    page.finish();
    page.wait_until_kept();
    let faces = page.shown_faces();
    server.stop();
    page.browser.reload();
    page.finish();
    assert_eq!(page.shown_faces(), faces);
    // Another seed was never made before.
    page.browser.click("#new");
    page.finish();
    assert_ne!(page.shown_faces(), faces);
    let seed = page.address_seed();
    page.assert_faces(seed..seed + 1);
}

/// A host that sends browsers from the folder to its index.html: what was redirected must not be kept as it is.
#[test]
fn a_page_behind_a_redirection_opens_at_later_visits_and_without_network() {
    let mut server = serve();
    server.redirect_folder();
    let page = open(&server, "?seed=5&count=1");
    page.finish();
    page.wait_until_kept();
    for (seed, without_network) in [(6, false), (7, true)] {
        if without_network {
            server.stop();
        }
        page.browser.open(&format!("{}?seed={seed}&count=1&model=faces64&executor=cpu", server.address));
        page.finish();
        page.assert_faces(seed..seed + 1);
    }
}

/// An address without the slash at its end, which most hosts complete.
#[test]
fn a_folder_without_its_slash_opens_at_every_visit_and_is_kept() {
    let server = serve();
    server.complete_folder();
    assert_opens_again(server, |server| server.address.trim_end_matches('/').to_owned());
}

#[test]
fn a_host_that_compresses_everything_is_understood() {
    let server = serve();
    server.compress();
    assert_opens_again(server, |server| server.address.clone());
}

#[test]
fn a_host_that_sends_whole_files_alone_is_understood() {
    let server = serve();
    server.ignore_ranges();
    assert_opens_again(server, |server| server.address.clone());
}

/// Opens this address at a first visit and at a second; after that, the folder without network.
fn assert_opens_again(mut server: Server, address: impl Fn(&Server) -> String) {
    let query = |seed: u64| format!("?seed={seed}&count=1&model=faces64&executor=cpu");
    let first = format!("{}{}", address(&server), query(5));
    let page = Page::at(Browser::start(), &first, "faces64", &shipped_model("faces64"));
    page.finish();
    page.wait_until_kept();
    assert_eq!(page.browser.errors(), [""; 0]);
    page.browser.open(&format!("{}{}", address(&server), query(6)));
    page.finish();
    page.assert_faces(6..7);
    server.stop();
    page.browser.open(&format!("{}{}", server.address, query(7)));
    page.finish();
    page.assert_faces(7..8);
}

#[test]
fn an_interrupted_download_goes_on_where_it_stopped() {
    let server = serve();
    server.break_off(MODEL, 2_000_000);
    let page = open(&server, "?seed=0&count=1");
    page.finish();
    let notes = page.browser.text("#notes");
    assert!(notes.contains("The connection broke") && notes.contains("went on after"), "{notes}");
    let requests = server.requests(MODEL);
    assert_eq!(requests.len(), 2, "{requests:?}");
    let from = requests[1].strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')?.parse().ok());
    assert!(from.is_some_and(|from: usize| from > 0 && from <= 2_000_000), "{requests:?}");
    page.assert_faces(0..1);
}

#[test]
fn an_interrupted_download_begins_again_where_it_cannot_go_on() {
    let server = serve();
    server.ignore_ranges();
    server.break_off(MODEL, 2_000_000);
    let page = open(&server, "?seed=0&count=1");
    page.finish();
    let notes = page.browser.text("#notes");
    assert!(notes.contains("The connection broke") && notes.contains("began again"), "{notes}");
    page.assert_faces(0..1);
}

#[test]
fn a_model_that_is_not_that_of_the_build_is_refused_and_can_be_tried_again() {
    let server = serve();
    let mut damaged = shipped_model("faces64");
    damaged[3_000_000] ^= 1;
    server.replace(HashMap::from([(MODEL.to_owned(), damaged)]));
    let page = open(&server, "?seed=0&count=1");
    page.fail();
    let error = page.browser.text("#error");
    assert!(error.contains("faces64.safetensors is not the file that this page was made for"), "{error}");
    assert_eq!(page.browser.errors(), [""; 0]);

    server.replace(HashMap::from([(MODEL.to_owned(), shipped_model("faces64"))]));
    page.browser.click("#retry");
    page.finish();
    assert!(!page.is_visible("#retry"));
    page.assert_faces(0..1);
}

#[test]
fn a_newer_version_is_announced_and_replaces_the_older_one() {
    let server = serve();
    let page = open(&server, "?seed=0&count=1");
    page.finish();
    page.wait_until_kept();
    let faces = page.shown_faces();
    let older = page.caches();

    let model = tiny(2);
    server.replace(newer_site(&model));
    page.browser.reload();
    page.finish();
    assert_eq!(page.shown_faces(), faces);
    page.update(&model);
    assert_newer(&page, &older);
    let Page { browser, .. } = page;
    let page =
        Page::at(browser, &format!("{}?seed=3&count=4&model=faces64&executor=cpu", server.address), "faces64", &model);
    page.finish();
    page.assert_faces(3..7);
}

/// The kept page asks for a model that the site has no more.
#[test]
fn an_older_service_worker_with_a_newer_model_says_so_and_leads_to_the_newer_page() {
    let server = serve();
    let page = open(&server, "?seed=0&count=1");
    page.finish();
    page.wait_until_kept();
    let older = page.caches();
    page.browser
        .run("return caches.keys().then((names) => caches.delete(names.find((name) => name.endsWith(' models'))))");

    let model = tiny(2);
    server.replace(newer_site(&model));
    page.browser.reload();
    page.fail();
    let error = page.browser.text("#error");
    assert!(error.contains("is of another version"), "{error}");
    page.update(&model);
    assert_newer(&page, &older);
}

#[test]
fn a_browser_that_keeps_nothing_shows_the_page_all_the_same() {
    let server = serve();
    let browser = Browser::with(&[], json!({ "profile.default_content_setting_values.cookies": 2 }));
    assert_works_unkept(&server, browser, &server.address);
}

#[test]
fn a_host_without_tls_shows_the_page_all_the_same() {
    let server = serve();
    let browser = Browser::with(&["--host-resolver-rules=MAP faces.test 127.0.0.1"], json!({}));
    assert_works_unkept(&server, browser, &server.address.replace("127.0.0.1", "faces.test"));
}

fn assert_works_unkept(server: &Server, browser: Browser, address: &str) {
    let page =
        Page::at(browser, &format!("{address}?seed=0&count=1&model=faces64"), "faces64", &shipped_model("faces64"));
    page.finish();
    page.browser.wait("words about it", || page.browser.text("#offline").contains("needs the network each time"));
    assert_eq!(page.browser.errors(), [""; 0]);
    assert_eq!(server.requests(MODEL).len(), 1);
    page.assert_faces(0..1);
}

/// What differs in a build of the page with another model in the place of this one.
fn newer_site(model: &[u8]) -> HashMap<String, Vec<u8>> {
    let read = |name| fs::read_to_string(workspace().join("target/site").join(name)).expect("the site is whole");
    let record = |bytes: &[u8]| format!("\"bytes\":{},\"sha256\":\"{}\"", bytes.len(), sha256(bytes));
    let older = read("index.html");
    let newer = older.replace(&record(&shipped_model("faces64")), &record(model));
    assert_ne!(older, newer);
    let worker = read("service-worker.js").replace(&record(&shipped_model("faces64")), &record(model));
    let worker = worker.replace(&record(older.as_bytes()), &record(newer.as_bytes()));
    let (before, after) = worker.split_once("\"version\":\"").expect("the service worker has a version");
    let worker = format!("{before}\"version\":\"newer {after}");
    let files =
        [("index.html", newer.into_bytes()), ("service-worker.js", worker.into_bytes()), (MODEL, model.to_vec())];
    files.map(|(path, bytes)| (path.to_owned(), bytes)).into()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing of the older version is left, and one model.
fn assert_newer(page: &Page, older: &[String]) {
    let caches = page.caches();
    let (newer, models): (Vec<_>, Vec<_>) = caches.iter().partition(|name| name.contains("newer"));
    assert_eq!((newer.len(), models.len()), (1, 1), "{caches:?}, before {older:?}");
    let weights =
        format!("return caches.open('{}').then((cache) => cache.keys()).then((keys) => keys.length)", models[0]);
    assert_eq!(page.browser.run(&weights), 1);
}

impl Page {
    /// Waits until the page says that it needs no network.
    pub fn wait_until_kept(&self) {
        self.browser.wait("the page to be kept", || self.browser.text("#offline").contains("opens without network"));
    }

    /// Goes to the newer page, which was made for this model, as the visitor is offered.
    fn update(&self, model: &[u8]) {
        self.browser.wait("the announcement", || self.is_visible("#update"));
        self.browser.click("#update button");
        self.browser.wait("the newer page", || self.has_records_of(model));
        self.finish();
        self.wait_until_kept();
    }

    /// The pixels of the faces, as addresses.
    pub fn shown_faces(&self) -> Value {
        self.browser.run("return [...document.querySelectorAll('#faces canvas')].map((face) => face.toDataURL())")
    }

    fn caches(&self) -> Vec<String> {
        serde_json::from_value(self.browser.run("return caches.keys()")).expect("names are strings")
    }

    fn is_visible(&self, selector: &str) -> bool {
        self.browser.run(&format!("return document.querySelector('{selector}').checkVisibility()")) == true
    }

    /// Whether the page was made for this model.
    fn has_records_of(&self, model: &[u8]) -> bool {
        let files = self.browser.run("return document.getElementById('files')?.textContent");
        files.as_str().is_some_and(|files| files.contains(&sha256(model)))
    }
}
