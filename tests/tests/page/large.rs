//! The large view of a face.

use candle_core::Device;
use lddgan::CandleBackend;
use serde_json::json;

use crate::page::{Page, picture};

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
