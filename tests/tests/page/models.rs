//! The choice of a model, files of the visitor's, and model cards.

use std::collections::HashMap;
use std::fs;

use crate::page::{Page, model, tiny};
use crate::shipped_model;

#[test]
fn a_file_of_the_visitors_makes_faces() {
    let mut page = Page::open("?seed=0&count=4&model=tiny&executor=candle");
    page.finish();
    page.open_panels();
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let other = tiny(2);
    let path = folder.path().join("other.safetensors");
    fs::write(&path, &other).expect("a file can be written");
    page.browser.press("#file", &path.to_string_lossy());
    page.browser.wait("the other model", || page.browser.text("#models").contains("other.safetensors (yours)"));
    page.finish();
    page.model = model("other", &other);
    page.assert_grid(0..4u64);
}

#[test]
fn a_file_that_is_dropped_on_the_page_makes_faces() {
    let files = HashMap::from([("models/dropped.safetensors".to_owned(), tiny(2))]);
    let query = "?seed=0&count=4&model=tiny&executor=candle";
    let mut page = Page::with_files("tiny", &tiny(1), files, query, |_| {});
    page.finish();
    page.browser.run(
        "return (async () => {
           const bytes = await (await fetch('models/dropped.safetensors')).arrayBuffer();
           const dataTransfer = new DataTransfer();
           dataTransfer.items.add(new File([bytes], 'dropped.safetensors'));
           for (const kind of ['dragover', 'drop']) {
             const event = new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true });
             // If the page did not take the file, the browser would go to it.
             if (document.querySelector('#faces').dispatchEvent(event)) throw new Error(`${kind} is not taken`);
           }
         })()",
    );
    let chosen = "return document.querySelector('#models').selectedOptions[0].textContent";
    page.browser.wait("the dropped model", || page.browser.run(chosen) == "dropped.safetensors (yours)");
    page.finish();
    page.model = model("dropped", &tiny(2));
    page.assert_grid(0..4u64);
}

#[test]
fn a_file_that_is_no_model_is_refused_in_words() {
    let page = Page::open("?seed=0&count=1&model=tiny&executor=candle");
    page.finish();
    page.open_panels();
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let path = folder.path().join("notes.safetensors");
    fs::write(&path, "no model").expect("a file can be written");
    page.browser.press("#file", &path.to_string_lossy());
    let problem = || page.browser.text("#model-problem");
    page.browser.wait("a refusal", || !problem().is_empty());
    assert!(problem().contains("notes.safetensors: not a whole safetensors file"), "{}", problem());
    assert!(problem().contains("“random” stays"), "{}", problem());
    page.assert_faces(0..1);
}

#[test]
fn the_card_of_a_shipped_model_tells_what_it_is() {
    let page = Page::with_model("faces64", &shipped_model("faces64"), "?seed=0&count=1&model=faces64&executor=candle");
    page.finish();
    page.open_panels();
    page.browser.click("#open-card");
    page.browser.wait("the card", || page.browser.text("#card-text").contains("How it was trained"));
    let facts = page.browser.text("#card-facts");
    for fact in ["64 × 64 pixels, in 4 denoising steps", "5.8 MB, SHA-256", "16 × 16 × 4", "do not exist"] {
        assert!(facts.contains(fact), "{fact}: {facts}");
    }
    let broken = "return Array.from(document.querySelectorAll('#card img')).filter((image) => !image.src.includes('/models/')).length";
    assert_eq!(page.browser.run(broken), 0);
    let speed = page.browser.run("return document.querySelector('#speed').textContent");
    let speed = speed.as_str().unwrap_or_default();
    assert!(speed.contains("Faces per second") && speed.contains("Download"), "{speed}");
}
