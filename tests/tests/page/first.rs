//! The first seconds: something to see at once, and program and model on their way together.

use std::collections::HashMap;
use std::fs;

use crate::browser::Browser;
use crate::page::{Page, tiny};
use crate::programs::programs;
use crate::server::{Server, workspace};
use crate::shipped_model;

const LARGE: &str = "models/faces256.safetensors";
const SMALL: &str = "models/faces64.safetensors";

impl Page {
    /// Whether there is a picture of recorded faces, and it has come.
    pub fn shows_recorded(&self) -> bool {
        let picture = "document.querySelector('#recorded img')";
        self.browser.run(&format!("return {picture}?.complete && {picture}.naturalWidth > 0")) == true
    }
}

fn serve() -> Server {
    Server::serve(&workspace().join("target/site"), "", HashMap::new())
}

/// A visitor who wants to save data.
fn saving() -> Browser {
    let browser = Browser::start();
    browser.in_every_page("Object.defineProperty(navigator, 'connection', { value: { saveData: true } });");
    browser
}

#[test]
fn recorded_faces_are_shown_until_there_is_a_live_one() {
    let server = Server::start([("models/tiny.safetensors".to_owned(), tiny(1))].into());
    server.stall("models/tiny.safetensors", 1000);
    let address = format!("{}?seed=0&count=4&model=tiny&executor=cpu", server.address);
    let page = Page::at(Browser::start(), &address, "tiny", &tiny(1));
    page.browser.wait("recorded faces", || page.shows_recorded());
    assert!(page.browser.text("#recorded").starts_with("Recorded with faces256"));
    assert_eq!(page.shown_seeds(), [0u64; 0]);
    page.finish();
    assert_eq!(page.browser.run("return document.querySelector('#recorded')"), serde_json::Value::Null);
    page.assert_faces(0..4);
}

/// The program does not come to an end here, so that the model would never be asked for if it waited.
#[test]
fn program_and_model_come_side_by_side_on_one_bar() {
    let server = serve();
    let [program, _] = programs().map(|program| program.wasm);
    let bytes = |file: &str| fs::metadata(workspace().join("target/site").join(file)).expect("it is there").len();
    let all = bytes(&program) + bytes(SMALL);
    server.stall(&program, 1_000_000);
    let browser = Browser::start();
    browser.open(&format!("{}?seed=0&count=1&model=faces64&executor=cpu", server.address));
    let bar = |what: &str| browser.run(&format!("return document.querySelector('#progress').{what}")).as_f64();
    let least = (bytes(SMALL) + 500_000) as f64;
    browser.wait("the model and a part of the program", || bar("value").is_some_and(|value| value >= least));
    assert_eq!(bar("max"), Some(all as f64));
    let amount = browser.text("#amount");
    assert!(amount.ends_with(&format!(" of {:.1} MB", all as f64 / 1e6)), "{amount}");
    assert_eq!(browser.run("return window.wasmBindings"), serde_json::Value::Null);
}

#[test]
fn the_model_is_downloaded_once() {
    let server = serve();
    let address = format!("{}?seed=0&count=1&model=faces64&executor=cpu", server.address);
    let page = Page::at(Browser::start(), &address, "faces64", &shipped_model("faces64"));
    page.finish();
    assert_eq!(server.requests(SMALL), [""]);
    page.assert_faces(0..1);
}

#[test]
fn a_slow_connection_gets_the_smaller_model_first() {
    let server = serve();
    let address = format!("{}?count=1&executor=cpu", server.address);
    let page = Page::at(saving(), &address, "faces256", &shipped_model("faces256"));
    page.finish();
    assert!(page.browser.address().contains("model=faces64"), "{}", page.browser.address());
    assert!(page.browser.text("#model").starts_with("faces64"), "{}", page.browser.text("#model"));
    let words = page.browser.text("#smaller");
    assert!(words.contains("a smaller model") && words.contains("19.2 MB"), "{words}");
    assert_eq!(server.requests(LARGE), [""; 0]);

    page.browser.click("#smaller a");
    page.browser.wait("the larger model", || page.browser.text("#model").starts_with("faces256"));
    page.finish();
    // It is the default, which an address need not name.
    assert!(!page.browser.address().contains("model="), "{}", page.browser.address());
    assert_eq!(server.requests(LARGE), [""]);
}

/// On a network that it does not know yet, Chromium guesses a line of 1.45 Mbit/s.
#[test]
fn a_guess_of_the_browser_does_not_make_a_connection_slow() {
    let server = serve();
    let address = format!("{}?count=1&executor=cpu", server.address);
    for (connection, slow) in
        [("downlink: 1.45, effectiveType: '4g'", false), ("downlink: 10, effectiveType: '3g'", true)]
    {
        let browser = Browser::start();
        let script = format!("Object.defineProperty(navigator, 'connection', {{ value: {{ {connection} }} }});");
        browser.in_every_page(&script);
        browser.open(&address);
        let asked = |model: &str| browser.address().contains("model=") || !server.requests(model).is_empty();
        browser.wait("a model", || asked(if slow { SMALL } else { LARGE }));
        assert_eq!(browser.run("return document.querySelector('#smaller').hidden"), !slow);
    }
}

/// What a visitor sees, and when, whose line takes 1.6 Mbit/s. The seconds are printed, not tested.
#[test]
fn a_slow_line_has_recorded_faces_before_live_ones() {
    let server = serve();
    server.compress();
    server.slow_down(1.6e6 / 8.0);
    let browser = saving();
    browser.in_every_page(
        "globalThis.seconds = {};
         const look = () => {
           const picture = document.querySelector('#recorded img');
           if (picture?.complete && picture.naturalWidth) seconds.recorded ??= performance.now() / 1000;
           if (document.querySelector('.face.shown')) seconds.live ??= performance.now() / 1000;
           else requestAnimationFrame(look);
         };
         addEventListener('DOMContentLoaded', look);",
    );
    let address = format!("{}?count=1&executor=cpu", server.address);
    let page = Page::at(browser, &address, "faces64", &shipped_model("faces64"));
    page.finish();
    let seconds = |event: &str| page.browser.run(&format!("return seconds.{event}")).as_f64().expect("it was seen");
    let (recorded, live) = (seconds("recorded"), seconds("live"));
    println!("recorded faces after {recorded:.1} s, a live one of faces64 after {live:.1} s");
    assert!(recorded < live);
}

/// An address without a model names faces of the default.
#[test]
fn a_slow_connection_gets_the_faces_that_the_address_names() {
    let name: lddgan::Name = "Ada".parse().expect("it is a name");
    for (query, seed) in [("?seed=0&count=1", 0), ("?name=Ada", name.seed())] {
        let server = serve();
        let address = format!("{}{query}&executor=cpu", server.address);
        let page = Page::at(saving(), &address, "faces256", &shipped_model("faces256"));
        page.finish();
        assert_eq!(page.shown_seeds(), [seed]);
        page.assert_grid([seed]);
        assert_eq!(page.browser.run("return document.querySelector('#smaller').hidden"), true);
    }
}

#[test]
fn the_page_can_be_installed() {
    let mut server = serve();
    let address = format!("{}?seed=0&count=1&model=faces64&executor=cpu", server.address);
    let page = Page::at(Browser::start(), &address, "faces64", &shipped_model("faces64"));
    page.finish();
    page.browser.wait("the page to be kept", || page.browser.text("#offline").contains("opens without network"));
    // All of it is there without network.
    server.stop();
    let found = page.browser.run(
        "return (async () => {
           const address = document.querySelector('link[rel=manifest]').href;
           const manifest = await (await fetch(address)).json();
           const sizes = await Promise.all(manifest.icons.map(async ({ src }) => {
             const icon = new Image();
             icon.src = new URL(src, address).href;
             await icon.decode();
             return icon.naturalWidth > 0;
           }));
           const start = new URL(manifest.start_url, address).href;
           return [manifest.name, manifest.display, start === new URL('./', location.href).href, sizes.every(Boolean), sizes.length];
         })()",
    );
    assert_eq!(found, serde_json::json!(["Faces of nobody", "standalone", true, true, 3]));
    assert_eq!(page.browser.errors(), [""; 0]);
}
