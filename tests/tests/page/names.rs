//! The face of a name, of today, and the ways in which faces are sent on.

use lddgan::forks::tree;
use lddgan::{Name, Recipe};

use crate::page::Page;

/// The first 12 hexadecimal digits that `printf '%s' 'zoë' | sha256sum` prints.
const ZOE: u64 = 0x2752b8868684;

#[test]
fn a_name_has_the_same_face_everywhere_and_a_link() {
    let page = Page::open("?seed=3&count=4&model=tiny&executor=cpu");
    page.finish();
    // A composed letter, or two characters: the same name.
    page.browser.run("document.querySelector('#name').value = ' ZOE\u{0308} '");
    page.browser.press("#name", "\u{e007}");
    let title = || page.browser.text("#large-title");
    page.browser.wait("the face of the name", || title() == "The face of ZOË");
    page.browser.wait("the face", || page.browser.run("return !document.querySelector('#save').disabled") == true);
    page.assert_shown("#large-face", &page.native(ZOE));
    page.browser.allow(&["clipboardReadWrite", "clipboardSanitizedWrite"]);
    page.browser.click("#copy");
    page.browser.wait("words about the link", || page.browser.text("#large-status").contains("link"));
    let link = page.browser.run("return navigator.clipboard.readText()");
    let link = link.as_str().expect("the clipboard has text");
    assert!(link.contains("?name=ZO%C3%8B&count=1"), "{link}");

    page.browser.open(link);
    page.finish();
    assert_eq!(page.shown_seeds(), [ZOE]);
    assert_eq!(page.browser.text(".face .caption"), "ZOË");
    page.assert_grid([ZOE]);
    // The picture says whose face it is, in letters that are not Latin too.
    page.browser.click(".face");
    page.browser.wait("the face", || page.browser.run("return !document.querySelector('#save').disabled") == true);
    page.browser.click("#save");
    let saved = page.browser.downloaded(&format!("tiny-{ZOE}.png"));
    let reader = png::Decoder::new(std::io::Cursor::new(saved)).read_info().expect("the page saves PNG files");
    let texts = &reader.info().utf8_text;
    let title = texts.iter().find(|text| text.keyword == "Title").and_then(|text| text.get_text().ok());
    assert_eq!(title.as_deref(), Some("The face of ZOË"));
}

#[test]
fn today_has_a_face_and_no_name_has_none() {
    let page = Page::open("?seed=3&count=1&model=tiny&executor=cpu");
    page.finish();
    page.browser.press("#name", "\u{e007}");
    assert_eq!(page.browser.text("#name-problem"), "A name must have 1 to 80 characters.");
    let date =
        || page.browser.run("return new Date().toISOString().slice(0, 10)").as_str().unwrap_or_default().to_owned();
    let before = date();
    page.browser.click("#today");
    page.browser.wait("the face of a date", || page.browser.text("#large-title").starts_with("The face of "));
    let shown = page.browser.text("#large-title").replace("The face of ", "");
    assert!(shown == before || shown == date(), "{shown}");
    page.browser.wait("the face", || page.browser.run("return !document.querySelector('#save').disabled") == true);
    page.assert_shown("#large-face", &page.native(shown.parse::<Name>().expect("a date is a name").seed()));
    assert_eq!(page.browser.text("#name-problem"), "");
}

#[test]
fn a_face_forks_at_each_step() {
    let page = Page::open("?seed=5&count=4&tree=1&model=tiny&executor=cpu");
    page.browser.wait("27 leaves", || {
        page.browser.run("return document.querySelectorAll('#rows ol:last-child .shown').length") == 27
    });
    let forks = tree(5, &[4, 3, 2]);
    let native = |leaf: usize| page.native(Recipe { forks: forks[leaf], ..5.into() });
    for (row, place, leaf) in [(1, 1, 0), (2, 1, 0), (2, 3, 18), (3, 5, 12), (4, 5, 4), (4, 27, 26)] {
        page.assert_shown(&format!("#rows ol:nth-of-type({row}) > :nth-child({place}) canvas"), &native(leaf));
    }
    page.browser.allow(&["clipboardReadWrite", "clipboardSanitizedWrite"]);
    page.browser.click("#tree-copy");
    page.browser.wait("words about the link", || page.browser.text("#tree-status").contains("link"));
    let link = page.browser.run("return navigator.clipboard.readText()");
    let link = link.as_str().unwrap_or_default();
    assert!(link.contains("?seed=5&count=1&") && link.ends_with("&tree=1"), "{link}");

    page.browser.click("#rows ol:nth-of-type(3) > :nth-child(5) > button");
    page.browser.wait("the address", || page.browser.address().contains("?seed=5&count=1&fork=4=14&fork=3=17"));
    page.finish();
    assert_eq!(page.browser.run("return document.querySelectorAll('dialog[open]').length"), 0);
    page.assert_grid([Recipe { forks: forks[12], ..5.into() }]);
}

#[test]
fn a_saved_picture_leads_back_to_its_face() {
    let page = Page::open("?seed=5&count=1&steps=2&truncation=0.5&model=tiny&executor=cpu");
    page.finish();
    page.browser.click(".face");
    let saved = page.save(5);
    page.browser.click("#large .close");
    page.browser.click("#new");
    page.browser.wait("other faces", || page.address_seed() != 5);
    page.finish();
    page.drop_picture("face.png", &saved);
    let said = |words: &str| page.browser.wait(words, || page.browser.text("#large-status").contains(words));
    said("the same, to the bit");
    assert!(page.browser.address().contains("?seed=5&count=1&steps=2&truncation=0.5"), "{}", page.browser.address());
    page.browser.click("#large .close");

    // A few pixels of another colour, in a file whose texts are the same.
    page.drop_picture("face.png", &retouched(&saved));
    said("Changed");
    page.browser.click("#large .close");
    page.finish();

    let mut other = Vec::new();
    let plain = image::load_from_memory(&saved).expect("the page saves pictures");
    plain.write_to(&mut std::io::Cursor::new(&mut other), image::ImageFormat::Png).expect("it fits into memory");
    page.drop_picture("other.png", &other);
    let says = || page.browser.text("#status").contains("other.png does not say how it was made");
    page.browser.wait("words about the other picture", says);
    assert_eq!(page.browser.run("return document.querySelectorAll('dialog[open]').length"), 0);
}

/// The same file with three black pixels and three white ones.
fn retouched(png: &[u8]) -> Vec<u8> {
    let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().expect("the page saves PNG files");
    let mut picture = image::load_from_memory(png).expect("the page saves pictures").into_rgb8();
    for x in 0..6 {
        picture.put_pixel(x, 0, image::Rgb([if x < 3 { 0 } else { 255 }; 3]));
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    for text in &reader.info().uncompressed_latin1_text {
        encoder.add_text_chunk(text.keyword.clone(), text.text.clone()).expect("it was a text before");
    }
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&picture)).expect("it fits into memory");
    bytes
}
