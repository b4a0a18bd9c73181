//! What a visitor does, in the browsers of three makers. In two of them the CPU makes the faces.

use std::collections::HashMap;

use lddgan_tests::not_run;

use super::browser::Browser;
use super::page::{Page, assert_same, model, tiny};
use super::server::{Server, workspace};
use super::shipped_model;

#[test]
fn a_visit_with_chromium() {
    visit(Browser::start());
}

#[test]
fn a_visit_with_firefox() {
    match Browser::firefox() {
        Ok(browser) => visit(browser),
        Err(why) => not_run(&why),
    }
}

#[test]
fn a_visit_with_webkit() {
    match Browser::webkit() {
        Ok(browser) => visit(browser),
        Err(why) => not_run(&why),
    }
}

/// First faces, those of the address; one is saved; the page opens again without network, and takes a file.
fn visit(browser: Browser) {
    let mut server = Server::serve(&workspace().join("target/site"), "", HashMap::new());
    let address = format!("{}?seed=5&count=4&model=faces64&executor=cpu", server.address);
    let mut page = Page::at(browser, &address, "faces64", &shipped_model("faces64"));
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebAssembly on the CPU"), "{}", page.browser.text("#executor"));
    assert_eq!(page.address_seed(), 5);
    let saved = image::load_from_memory(&page.keep_saved()).expect("the page saves pictures").into_rgb8();
    assert_same(&saved, &page.native(5), "seed 5");
    page.assert_grid(5..9u64);

    let faces = page.shown_faces();
    page.wait_until_kept();
    server.stop();
    // Firefox's driver would reload past what is kept.
    page.browser.run("window.isOld = true; location.reload()");
    page.browser.wait("another page", || page.browser.run("return window.isOld ?? false") == false);
    page.finish();
    assert_eq!(page.shown_faces(), faces);

    page.drop_file("dropped.safetensors", &tiny(2));
    page.finish();
    page.model = model("dropped", &tiny(2));
    page.assert_grid(5..9u64);
}

impl Page {
    /// The file of the first face, taken on its way to the browser's downloads, which not every driver can have.
    fn keep_saved(&self) -> Vec<u8> {
        self.browser.click("#faces > :first-child > button");
        let ready = || self.browser.run("return !document.querySelector('#save').disabled") == true;
        self.browser.wait("the large view", ready);
        let bytes = self.browser.run(
            "const create = URL.createObjectURL;
             let saved;
             URL.createObjectURL = (blob) => create.call(URL, saved = blob);
             document.querySelector('#save').click();
             URL.createObjectURL = create;
             return new Response(saved).arrayBuffer().then((bytes) => [...new Uint8Array(bytes)])",
        );
        self.browser.click("#large .close");
        serde_json::from_value(bytes).expect("bytes are numbers")
    }
}
