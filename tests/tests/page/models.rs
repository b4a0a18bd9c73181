//! The choice of a model, files of the visitor's, and model cards.

use std::collections::HashMap;
use std::fs;

use candle_core::DType;
use lddgan::{DiffusionConfig, FileConfig};
use lddgan_tests::{random_model_file, tiny_config};

use crate::page::{Page, model, tiny};
use crate::shipped_model;

#[test]
fn a_file_of_the_visitors_makes_faces() {
    let mut page = Page::open("?seed=0&count=4&model=tiny&executor=cpu");
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
    let mut page = Page::open("?seed=0&count=4&model=tiny&executor=cpu");
    page.finish();
    page.drop_file("dropped.safetensors", &tiny(2));
    page.finish();
    page.model = model("dropped", &tiny(2));
    page.assert_grid(0..4u64);
}

#[test]
fn a_file_that_is_no_model_is_refused_in_words() {
    let page = Page::open("?seed=0&count=1&model=tiny&executor=cpu");
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
    let page = Page::with_model("faces64", &shipped_model("faces64"), "?seed=0&count=1&model=faces64&executor=cpu");
    page.finish();
    page.open_panels();
    page.browser.click("#open-card");
    page.browser.wait("the card", || page.browser.text("#card-text").contains("How it was trained"));
    let facts = page.browser.text("#card-facts");
    for fact in ["64 × 64 pixels, in 4 denoising steps", "5.9 MB", "16 × 16 × 4", "SHA-256"] {
        assert!(facts.contains(fact), "{fact}: {facts}");
    }
    assert!(page.browser.text("#card").contains("do not exist"));
    let pictures = "return [...document.querySelectorAll('#card img')].map((image) => image.naturalWidth > 0)";
    page.browser.wait("the picture", || page.browser.run(pictures) == serde_json::json!([true]));
    assert_eq!(page.browser.errors(), [""; 0]);
    let speed = page.browser.run("return document.querySelector('#speed').textContent");
    let speed = speed.as_str().unwrap_or_default();
    assert!(speed.contains("Faces per second") && speed.contains("Download"), "{speed}");
}

/// A file of the visitor's may have the name of a model that comes with the page.
#[test]
fn what_a_file_of_the_visitors_made_is_never_said_to_be_of_a_shipped_model() {
    let page = Page::open("?seed=0&count=1&model=tiny&executor=cpu");
    page.finish();
    page.open_panels();
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let path = folder.path().join("tiny.safetensors");
    fs::write(&path, tiny(2)).expect("a file can be written");
    page.browser.press("#file", &path.to_string_lossy());
    page.browser.wait("the file", || page.browser.address().contains("file=tiny.safetensors"));
    page.finish();
    assert!(!page.browser.address().contains("model="), "{}", page.browser.address());
    page.browser.click("#faces > :first-child > button");
    let saved = page.save(0);
    let text = String::from_utf8_lossy(&saved);
    assert!(text.contains("Model\0tiny") && !text.contains("Source\0"));
    page.browser.click("#copy");
    page.browser.wait("words", || page.browser.text("#large-status").contains("a link cannot show it"));

    // The address cannot bring the file back, and says so.
    page.browser.reload();
    page.finish();
    assert!(page.browser.text("#notes").contains("your file tiny.safetensors"), "{}", page.browser.text("#notes"));
}

#[test]
fn the_way_back_leads_to_the_model_before() {
    let files = HashMap::from([("models/faces64.safetensors".to_owned(), tiny(2))]);
    let mut page = Page::with_files("tiny", &tiny(1), files, "?seed=0&count=1&model=tiny&executor=cpu", |_| {});
    page.finish();
    page.open_panels();
    let choose = "const models = document.querySelector('#models');
                  models.value = 'faces64';
                  models.dispatchEvent(new Event('change', { bubbles: true }));";
    page.browser.run(choose);
    page.browser.wait("the other model", || page.browser.address().contains("model=faces64"));
    page.finish();
    page.browser.back();
    page.browser.wait("the first model", || page.browser.address().contains("model=tiny"));
    page.browser
        .wait("the first model", || page.browser.run("return document.querySelector('#models').value") == "tiny");
    page.finish();
    page.model = model("tiny", &tiny(1));
    page.assert_faces(0..1);
}

/// Models are trained for any number of steps.
#[test]
fn the_choices_of_steps_are_those_of_the_model() {
    for (steps, choices, noise) in
        [(2, "1 2", "all 2 1"), (8, "1 2 4 8", "all 8 7 6 5 4 3 2 1"), (12, "1 2 4 8 12", "all 12 8 4 2 1")]
    {
        let config = FileConfig { diffusion: Some(DiffusionConfig::linear(steps)), ..tiny_config() };
        let bytes = random_model_file(&config, 1).expect("the configuration is valid").to_bytes(DType::F16);
        let bytes = bytes.expect("tensors can be written to memory");
        let query = "?seed=0&count=1&model=tiny&executor=cpu&z-step=13&x-of=1";
        let page = Page::with_model("tiny", &bytes, query);
        page.finish();
        let values = |name: &str| {
            let script =
                format!("return [...document.querySelectorAll('input[name={name}]')].map((input) => input.value)");
            let values: Vec<String> = serde_json::from_value(page.browser.run(&script)).expect("a list of texts");
            values.join(" ")
        };
        assert_eq!((values("steps").as_str(), values("z-step").as_str()), (choices, noise));
        let notes = page.browser.text("#notes");
        assert!(notes.contains(&format!("this model has {steps} steps")), "{notes}");
        page.browser.click("#faces > :first-child > button");
        let saved = page.save(0);
        assert!(String::from_utf8_lossy(&saved).contains(&format!("Steps\0{steps}")), "{steps}");
    }
}

/// What is refused while faces are made leaves none of them out.
#[test]
fn the_faces_go_on_after_a_refused_model() {
    let page = Page::open("?seed=0&count=64&model=tiny&executor=cpu");
    let choose = "const models = document.querySelector('#models');
                  models.append(new Option('missing', 'missing'));
                  models.value = 'missing';
                  models.dispatchEvent(new Event('change', { bubbles: true }));";
    let drop = "const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File(['no model'], 'notes.safetensors'));
                document.body.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));";
    for (refused, words) in [(choose, "answered 404"), (drop, "notes.safetensors: not a whole")] {
        // The moment the first face is there, by the page itself: most of the grid is still to come.
        page.finish();
        page.browser.run(&format!(
            "const faces = document.querySelector('#faces');
             const isFirst = () => faces.querySelectorAll('.face.shown').length === 1;
             const observer = new MutationObserver(() => {{
               if (!isFirst()) return;
               observer.disconnect();
               {refused}
             }});
             observer.observe(faces, {{ subtree: true, attributes: true }});
             document.querySelector('#new').click();"
        ));
        page.browser.wait(words, || page.browser.text("#notes").contains(words));
        page.finish();
        let seed = page.address_seed();
        assert_eq!(page.shown_seeds(), (seed..seed + 64).collect::<Vec<_>>());
        page.assert_grid(seed..seed + 64);
    }
}
