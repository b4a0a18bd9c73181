//! The address, in browsers that allow few changes of it, and what of it is given away.

use lddgan_tests::not_run;

use crate::browser::Browser;
use crate::page::{Page, tiny};
use crate::server::Server;

/// A page with the tiny model in this browser; the server lives as long as the process.
fn open(browser: Browser) -> Page {
    let server = Server::start([("models/tiny.safetensors".to_owned(), tiny(1))].into());
    let address = format!("{}?seed=0&count=1&model=tiny&executor=cpu", server.address);
    let page = Page::at(browser, &address, "tiny", &tiny(1));
    page.finish();
    page
}

/// More new faces than any browser allows addresses in half a minute, and the address of the last one at the end.
fn ask_often(page: &Page) {
    page.browser.run("for (let i = 0; i < 250; i++) document.querySelector('#new').click()");
    page.finish();
    let shown = || page.browser.run("return document.querySelector('#seed').value");
    page.browser.wait("the address", || shown().as_str() == Some(page.address_seed().to_string().as_str()));
    assert_eq!(page.browser.text("#error"), "");
}

#[test]
fn many_addresses_stop_nothing_in_chromium() {
    ask_often(&open(Browser::start()));
}

#[test]
fn many_addresses_stop_nothing_in_firefox() {
    match Browser::firefox() {
        Ok(browser) => ask_often(&open(browser)),
        Err(why) => not_run(&why),
    }
}

#[test]
fn many_addresses_stop_nothing_in_webkit() {
    match Browser::webkit() {
        Ok(browser) => ask_often(&open(browser)),
        Err(why) => not_run(&why),
    }
}

/// The faces come nevertheless, and the address as soon as the browser takes it.
#[test]
fn a_refused_address_is_written_later() {
    let page = open(Browser::start());
    page.browser.run(
        "for (const name of ['pushState', 'replaceState']) {
           history[name] = () => { throw new DOMException('too many', 'SecurityError'); };
         }
         document.querySelector('#new').click()",
    );
    page.finish();
    assert_eq!(page.address_seed(), 0);
    page.browser.run("for (const name of ['pushState', 'replaceState']) delete history[name]");
    page.browser.wait("the address", || page.address_seed() != 0);
    page.assert_grid([page.address_seed()]);
    // It is a step of its own.
    page.browser.back();
    page.browser.wait("the first face", || page.address_seed() == 0);
}

/// What comes of an order from before an error does not hide the error.
#[test]
fn an_error_stays_when_faces_come_after_it() {
    let page = Page::open("?seed=0&count=64&model=tiny&executor=cpu");
    page.finish();
    page.browser.run("document.querySelector('#new').click(); stopped('of the program')");
    page.browser.wait("all faces", || page.shown_seeds().len() == 64);
    assert!(page.browser.text("#error").contains("The program stopped: of the program"));
    assert_eq!(page.browser.run("return document.querySelector('main').dataset.state"), "failed");
}
