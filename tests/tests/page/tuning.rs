//! The times of kernels, which the page measures while it has nothing else to do.

use crate::browser::Browser;
use crate::page::{Page, tiny};
use crate::server::Server;

/// What the speed panel has said of the kernels, oldest first.
const LISTEN: &str = "
    window.kernels = [];
    new MutationObserver(() => {
      const fact = [...document.querySelectorAll('#speed > div')].find((fact) => fact.firstChild.textContent === 'Kernels');
      const said = fact?.lastChild.textContent;
      if (said && window.kernels.at(-1) !== said) window.kernels.push(said);
    }).observe(document, { childList: true, subtree: true });";

/// The store of times in the page's database.
const STORE: &str = "
    const request = indexedDB.open(`lddgan ${new URL('./', location.href).href}`);
    const answer = (request) => new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    request.onupgradeneeded = () => request.result.createObjectStore('times of kernels');
    const database = await answer(request);
    const store = database.transaction('times of kernels', 'readwrite').objectStore('times of kernels');";

impl Page {
    fn said_of_kernels(&self) -> Vec<String> {
        serde_json::from_value(self.browser.run("return window.kernels")).expect("a list of texts")
    }

    /// Waits until convolutions were measured; how many, and of how many.
    fn wait_for_measuring(&self) -> (u32, u32) {
        let measured = || self.said_of_kernels().iter().find_map(|said| parse(said));
        self.browser.wait("measured kernels", || measured().is_some());
        measured().expect("it was there")
    }

    /// Asks something of the store of times, in JavaScript.
    fn in_store(&self, question: &str) -> serde_json::Value {
        let closed = "database.close(); return found;";
        self.browser
            .run(&format!("return (async () => {{ {STORE} const found = await answer({question}); {closed} }})()"))
    }
}

/// The numbers in "measured for 3 of 14 convolutions".
fn parse(said: &str) -> Option<(u32, u32)> {
    let (timed, all) = said.strip_prefix("measured for ")?.strip_suffix(" convolutions")?.split_once(" of ")?;
    Some((timed.parse().ok()?, all.parse().ok()?))
}

#[test]
fn kernels_are_measured_once_for_all_visits() {
    let server = Server::start([("models/tiny.safetensors".to_owned(), tiny(1))].into());
    let address = format!("{}?seed=0&count=1&model=tiny&executor=webgpu", server.address);
    let browser = Browser::start();
    browser.in_every_page(LISTEN);
    let page = Page::at(browser, &address, "tiny", &tiny(1));
    page.finish();
    page.browser.wait("words about kernels", || !page.said_of_kernels().is_empty());
    // Not on a software adapter, unless the address asks for it.
    assert_eq!(page.said_of_kernels(), ["estimated"]);
    page.in_store("store.put('times of an older driver', 'old')");

    let page = Page::at(page.browser, &format!("{address}&tune=1"), "tiny", &tiny(1));
    page.finish();
    let (timed, all) = page.wait_for_measuring();
    assert!((1..=all).contains(&timed), "{timed} of {all}");
    assert_eq!(page.said_of_kernels()[0], "estimated");
    let keys = page.in_store("store.getAllKeys()");
    assert!(keys.as_array().is_some_and(|keys| keys.len() == 1 && keys[0] != "old"), "{keys}");
    page.assert_faces(0..1);

    page.browser.reload();
    page.finish();
    page.browser.wait("words about kernels", || !page.said_of_kernels().is_empty());
    let first = page.said_of_kernels()[0].clone();
    assert!(parse(&first).is_some_and(|(known, _)| known >= timed), "{first}, after {timed} of {all}");
    page.assert_faces(0..1);
    assert_eq!(page.browser.errors(), [""; 0]);
}

#[test]
fn a_gpu_that_is_lost_while_kernels_are_measured_is_opened_again() {
    let page = Page::open("?seed=0&count=1&model=tiny&executor=webgpu&tune=1");
    page.finish();
    page.browser.crash_gpu();
    page.open_panels();
    page.browser.click("input[name=count][value='4']");
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    page.assert_faces(0..4);
}

#[test]
fn a_browser_that_keeps_nothing_measures_all_the_same() {
    let server = Server::start([("models/tiny.safetensors".to_owned(), tiny(1))].into());
    let address = format!("{}?seed=0&count=1&model=tiny&executor=webgpu&tune=1", server.address);
    let refusal = serde_json::json!({ "profile.default_content_setting_values.cookies": 2 });
    let browser = Browser::with(&[], refusal);
    browser.in_every_page(LISTEN);
    let page = Page::at(browser, &address, "tiny", &tiny(1));
    page.finish();
    page.wait_for_measuring();
    page.assert_faces(0..1);
    assert_eq!(page.browser.errors(), [""; 0]);
}
