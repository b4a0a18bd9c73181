//! Models that are too big for the device.

use std::fs;

use candle_core::DType;
use lddgan_tests::{random_model_file, tiny_config};
use serde_json::json;

use crate::browser::Browser;
use crate::page::{Page, model, tiny};
use crate::server::Server;
use crate::shipped_model;

/// A page may have 256 MB of memory.
const LITTLE_MEMORY: &str = "--js-flags=--wasm-max-mem-pages=4096";

/// A small file of a model with large images. Its networks take in and put out squares of `patch` pixels.
fn big(image_size: usize, patch: usize) -> Vec<u8> {
    let mut config = tiny_config();
    if let Some(autoencoder) = &mut config.autoencoder {
        (autoencoder.image_size, autoencoder.patch, autoencoder.linear_path) = (image_size, patch, false);
    }
    if let (Some(generator), Some(autoencoder)) = (&mut config.generator, &config.autoencoder) {
        generator.latent_size = autoencoder.latent_size();
    }
    let file = random_model_file(&config, 1).expect("the configuration is valid");
    file.to_bytes(DType::F16).expect("tensors can be written to memory")
}

/// An image of 3072x3072 pixels, which is the only thing that is large in the model.
fn large_images() -> Vec<u8> {
    big(3072, 16)
}

fn choose_file(page: &Page, name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("there is room for a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("a file can be written");
    page.open_panels();
    page.browser.press("#file", &path.to_string_lossy());
    // Until the page has read it.
    let chosen = "return document.querySelector('main').dataset.state !== 'loading'";
    page.browser.wait("an answer", || page.browser.run(chosen) == true);
}

/// The page makes faces of the tiny model, from another seed on than before.
fn assert_makes_other_faces(page: &Page) {
    let seed = page.address_seed();
    page.browser.click("#new");
    page.browser.wait("other faces", || page.address_seed() != seed);
    page.finish();
    page.assert_grid(page.address_seed()..page.address_seed() + 4);
}

const LARGE_WITH_WEBGPU: &str = "?seed=0&count=1&model=large&executor=webgpu";

/// The adapter of Chromium allows larger buffers than every WebGPU device has to.
#[test]
fn a_model_that_needs_large_buffers_runs_with_webgpu() {
    let page = Page::with_model("large", &large_images(), LARGE_WITH_WEBGPU);
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    page.assert_grid([0]);
}

#[test]
fn a_model_that_webgpu_cannot_hold_runs_on_the_cpu_and_the_next_one_with_webgpu() {
    // What every device allows.
    let limits = "
        Object.defineProperty(GPUSupportedLimits.prototype, 'maxStorageBufferBindingSize', { get: () => 1 << 27 });";
    let mut page = Page::with_fault(limits, "large", &large_images(), LARGE_WITH_WEBGPU);
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebAssembly on the CPU"), "{}", page.browser.text("#executor"));
    let note = page.browser.text("#note");
    // Four numbers of four bytes for each pixel of the image.
    for words in ["too big for WebGPU", "needs 151.0 MB", "allows 134.2 MB", "The CPU took over"] {
        assert!(note.contains(words), "{words}: {note}");
    }
    page.assert_grid([0]);

    choose_file(&page, "tiny.safetensors", &tiny(2));
    page.browser.wait("the other model", || page.browser.text("#models").contains("tiny.safetensors (yours)"));
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    page.model = model("tiny", &tiny(2));
    page.assert_grid([0]);
    assert_eq!(page.browser.errors(), [""; 0]);
}

#[test]
fn a_model_for_which_there_is_no_memory_anywhere_leaves_the_one_before() {
    let page = Page::open("?seed=0&count=4&model=tiny&executor=cpu");
    page.finish();
    choose_file(&page, "absurd.safetensors", &big(16384, 16));
    page.browser.wait("a reason", || page.browser.text("#notes").contains("Back to tiny"));
    page.finish();
    let notes = page.browser.text("#notes");
    for words in ["absurd.safetensors: This model needs ", " GB of memory or more", "a page has 4.3 GB at most"] {
        assert!(notes.contains(words), "{words}: {notes}");
    }
    assert_eq!(page.browser.text("#model-problem"), notes);
    assert_makes_other_faces(&page);
    assert_eq!(page.browser.errors(), [""; 0]);
}

/// Nobody knows before how much memory a browser will give.
#[test]
fn memory_that_runs_out_leaves_the_model_before() {
    let server = Server::start([("models/tiny.safetensors".to_owned(), tiny(1))].into());
    let address = format!("{}?seed=0&count=4&model=tiny&executor=cpu", server.address);
    let page = Page::at(Browser::with(&[LITTLE_MEMORY], json!({})), &address, "tiny", &tiny(1));
    page.finish();
    choose_file(&page, "large.safetensors", &large_images());
    page.browser.wait("a reason", || page.browser.text("#notes").contains("Back to tiny"));
    page.finish();
    let notes = page.browser.text("#notes");
    let words = "large.safetensors: This model needs more memory than the browser gives a page. Back to tiny.";
    assert_eq!(notes, words);
    assert_makes_other_faces(&page);
    assert_eq!(page.browser.errors(), [""; 0]);
}

#[test]
fn memory_that_runs_out_at_first_leaves_the_choice_of_another_model() {
    let server = Server::start([("models/large.safetensors".to_owned(), large_images())].into());
    let address = format!("{}?seed=0&count=1&model=large&executor=cpu", server.address);
    let mut page = Page::at(Browser::with(&[LITTLE_MEMORY], json!({})), &address, "large", &large_images());
    page.fail();
    let words = "large: This model needs more memory than the browser gives a page. Choose another model.";
    assert_eq!(page.browser.text("#error"), words);
    // The panel is open.
    page.browser.press("#models", "faces64");
    page.browser.wait("the other model", || page.browser.text("#model").starts_with("faces64"));
    page.finish();
    page.model = model("faces64", &shipped_model("faces64"));
    page.assert_grid([0]);
    assert_eq!(page.browser.errors(), [""; 0]);
}
