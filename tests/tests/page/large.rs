//! The large view of a face.

use std::collections::HashMap;

use candle_core::Device;
use lddgan::CandleBackend;
use serde_json::json;

use crate::browser::Browser;
use crate::page::{Page, picture, tiny};

#[test]
fn a_face_opens_large_with_every_step_on_the_way() {
    for executor in ["cpu", "webgpu"] {
        let page = Page::open(&format!("?seed=3&count=4&model=tiny&executor={executor}"));
        page.finish();
        page.browser.click("#faces > :nth-child(2) > button");
        page.browser.wait("five steps", || page.browser.run(STEPS) == 5);
        assert_eq!(page.browser.text("#large-title"), "Face 4");
        let latents = page.model.sample_seeds(&[4], &Device::Cpu).expect("the model runs").latents;
        for (i, latent) in latents.iter().enumerate() {
            let image = page.model.decode(&mut CandleBackend, latent).expect("the model runs");
            page.assert_shown(&format!("#strip > :nth-child({}) canvas", i + 1), &picture(&image));
        }
        page.assert_shown("#large-face", &page.native(4u64));
        page.browser.click("#strip > :nth-child(3) button");
        let image = page.model.decode(&mut CandleBackend, &latents[2]).expect("the model runs");
        page.assert_shown("#large-face", &picture(&image));
        assert!(page.browser.text("#step-words").contains("guesses again"), "{}", page.browser.text("#step-words"));
    }
}

/// A browser with a way to send pictures on gets the PNG, and a visitor who thinks better of it sees no error.
#[test]
fn a_face_is_shared_as_a_picture() {
    let prepare = |browser: &Browser| {
        browser.in_every_page(
            "navigator.canShare = ({ files }) => files.length === 1;
             navigator.share = async ({ files: [file] }) => {
               const head = new Uint8Array(await file.arrayBuffer()).slice(1, 4);
               window.shared = [file.name, file.type, String.fromCharCode(...head)];
               throw new DOMException('The visitor left', 'AbortError');
             };",
        );
    };
    let page = Page::with_files("tiny", &tiny(1), HashMap::new(), "?seed=3&count=1&model=tiny&executor=cpu", prepare);
    page.finish();
    page.browser.click(".face");
    page.browser
        .wait("a way to share", || page.browser.run("return !document.querySelector('#share-face').hidden") == true);
    page.browser.click("#share-face");
    page.browser.wait("the picture", || !page.browser.run("return window.shared ?? null").is_null());
    assert_eq!(page.browser.run("return window.shared"), json!(["tiny-3.png", "image/png", "PNG"]));
    assert_eq!(page.browser.text("#error"), "");
}

/// Faces and controls lie side by side, and the large view needs no scrolling.
#[test]
fn a_phone_on_its_side_shows_the_faces_and_the_whole_large_view() {
    let page =
        Page::with_files("tiny", &tiny(1), HashMap::new(), "?seed=3&count=4&model=tiny&executor=cpu", |browser| {
            browser.emulate_size(844, 390, &[]);
        });
    page.finish();
    let bottom = |of: &str| {
        page.browser.run(&format!("return document.querySelector('{of}').getBoundingClientRect().bottom")).as_f64()
    };
    assert!(bottom("#faces").is_some_and(|bottom| bottom <= 390.0), "{:?}", bottom("#faces"));
    page.browser.click(".face");
    page.browser.wait("five steps", || page.browser.run(STEPS) == 5);
    for part in ["#large-face", "#save"] {
        assert!(bottom(part).is_some_and(|bottom| bottom <= 390.0), "{part}: {:?}", bottom(part));
    }
}

const STEPS: &str = "return document.querySelectorAll('#strip canvas').length";

#[test]
fn a_saved_face_says_where_it_comes_from() {
    let page = Page::open("?seed=3&count=1&steps=2&model=tiny&executor=cpu");
    page.finish();
    page.browser.click(".face");
    let png = page.save(3);
    let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().expect("the page saves PNG files");
    let text = |keyword: &str| {
        let texts = &reader.info().uncompressed_latin1_text;
        texts.iter().find(|text| text.keyword == keyword).map(|text| text.text.clone()).unwrap_or_default()
    };
    assert_eq!([text("Seed"), text("Model"), text("Steps")], ["3", "tiny", "2"]);
    assert!(text("Source").ends_with("?seed=3&count=1&steps=2&executor=cpu&model=tiny"), "{}", text("Source"));
    assert!(text("Disclaimer").contains("does not exist"));
}

#[test]
fn the_link_of_a_face_leads_to_it() {
    let page = Page::open("?seed=3&count=4&model=tiny&executor=cpu");
    page.finish();
    page.browser.allow(&["clipboardReadWrite", "clipboardSanitizedWrite"]);
    page.browser.click("#faces > :nth-child(3) > button");
    page.browser.click("#copy");
    page.browser.wait("words about the link", || page.browser.text("#large-status").contains("link"));
    assert_eq!(page.browser.text("#large-status"), "The link is copied.");
    let link = page.browser.run("return navigator.clipboard.readText()");
    page.browser.open(link.as_str().expect("the clipboard has text"));
    page.finish();
    assert_eq!(page.shown_seeds(), [5]);
    page.assert_faces([5]);
}

#[test]
fn the_large_view_is_left_with_the_keyboard_as_it_was_entered() {
    let page = Page::open("?seed=0&count=4&model=tiny&executor=cpu");
    page.finish();
    page.browser.press("#faces > :nth-child(2) > button", "\u{e007}");
    let title = |title: &str| page.browser.wait(title, || page.browser.text("#large-title") == title);
    title("Face 1");
    page.browser.type_keys("\u{e014}");
    page.browser.type_keys("\u{e014}");
    title("Face 3");
    page.browser.type_keys("\u{e012}");
    title("Face 2");
    let ready = || page.browser.run("return !document.querySelector('#save').disabled") == true;
    page.browser.wait("the face", ready);
    page.assert_shown("#large-face", &page.native(2u64));
    page.browser.type_keys("\u{e00c}");
    let open = "return document.querySelectorAll('dialog[open]').length";
    page.browser.wait("the grid", || page.browser.run(open) == 0);
    assert_eq!(page.browser.run("return document.activeElement.dataset.seed"), json!("1"));
}
