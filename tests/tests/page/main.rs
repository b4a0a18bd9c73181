//! The page in a real browser: its faces are those of the native program, and its errors can be read.

mod access;
mod address;
mod browser;
mod bundle;
mod check;
mod driver;
mod explore;
mod faults;
mod first;
mod large;
mod live;
mod models;
mod names;
mod others;
mod package;
mod page;
mod programs;
mod server;
mod site;
mod speaker;
mod too_big;
mod tuning;

use std::path::Path;
use std::time::Instant;

use candle_core::DType;
use lddgan::noise::Stream;
use lddgan_trainer::import::{self, pytorch::PytorchFile};
use lddgan_trainer::preset::Preset;
use page::Page;

#[test]
fn webgpu_makes_the_faces_of_native_candle() {
    let page = Page::open("?seed=0&count=4&model=tiny&executor=webgpu");
    page.finish();
    // Otherwise the fallback would be compared.
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    assert!(page.browser.text("#note").contains("software adapter"), "{}", page.browser.text("#note"));
    let speed = page.browser.run("return document.querySelector('#speed').textContent");
    let speed = speed.as_str().unwrap_or_default();
    assert!(speed.contains("without leaving the GPU"), "{speed}");
    // Each with its time.
    for term in ["Compile", "Upload", "Sample, decode"] {
        assert!(speed.split(term).nth(1).is_some_and(|time| time.starts_with(|c: char| c.is_ascii_digit())), "{speed}");
    }
    page.assert_faces(0..4);
}

#[test]
fn the_cpu_makes_the_faces_of_native_candle() {
    let page = Page::open("?seed=0&count=4&model=tiny&executor=cpu");
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebAssembly on the CPU"), "{}", page.browser.text("#executor"));
    page.assert_faces(0..4);
}

/// Links from before the CPU had an executor of its own.
#[test]
fn an_address_that_names_candle_leads_to_the_cpu() {
    let page = Page::open("?seed=0&count=1&model=tiny&executor=candle");
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebAssembly on the CPU"), "{}", page.browser.text("#executor"));
    page.assert_faces([0]);
}

/// A model that comes with the page, where WebGPU is a software adapter that takes seconds for a face.
#[test]
fn a_shipped_model_makes_the_same_faces_everywhere() {
    for executor in ["webgpu", "cpu"] {
        let query = format!("?seed=0&count=4&model=faces64&executor={executor}");
        let page = Page::with_model("faces64", &shipped_model("faces64"), &query);
        page.finish();
        let shown = page.browser.text("#executor");
        assert_eq!(shown.starts_with("WebGPU"), executor == "webgpu", "{shown}");
        page.assert_faces(0..4);
    }
}

/// A model that comes with the page.
fn shipped_model(name: &str) -> Vec<u8> {
    let file = format!("{}/../web/models/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Models made from the files of the authors of LDDGAN and of WaveDiff, whose networks have other operations.
#[test]
fn imported_models_make_the_same_faces() {
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let checkpoint = |name: &str| PytorchFile::open(&fixture(name)).expect("the checkpoint is whole");
    let autoencoder = checkpoint("autoencoder-kl-f2/16x16x4_551.ckpt");
    for (preset, generator, autoencoder) in [
        ("imported.toml", "train-step/netG_init.pth", Some(&autoencoder)),
        ("wavediff/imported.toml", "wavediff/train-step/netG_init.pth", None),
    ] {
        let preset = Preset::load(&fixture(preset).to_string_lossy()).expect("the preset is valid");
        let file = import::model(&preset, &checkpoint(generator), autoencoder).expect("the checkpoints fit the preset");
        let bytes = file.to_bytes(DType::F16).expect("tensors can be written to memory");
        for executor in ["webgpu", "cpu"] {
            let query = format!("?seed=0&count=1&model=imported&executor={executor}");
            let page = Page::with_model("imported", &bytes, &query);
            page.finish();
            let shown = page.browser.text("#executor").to_lowercase();
            assert!(shown.contains(executor), "{shown}");
            page.assert_faces(0..1);
        }
    }
}

/// Bit for bit, over enough values to meet the rare branches of the normal transform.
#[test]
fn noise_is_that_of_native_programs() {
    const COUNT: usize = 20_000;
    let page = Page::open("?seed=0&count=1&model=tiny&executor=cpu");
    page.finish();
    for (seed, index, draw) in [(0, 0, "x"), (u64::MAX, 7, "z/3"), (5, 1, "noise/1")] {
        let script = format!(
            "const values = window.wasmBindings.noise({seed}n, {index}n, '{draw}', {COUNT});
             return Array.from(new Uint32Array(values.buffer, values.byteOffset, values.length));"
        );
        let bits = page.browser.run(&script);
        let native = Stream::new(seed, index, draw).normals(COUNT);
        let native: Vec<u32> = native.into_iter().map(f32::to_bits).collect();
        assert_eq!(bits, serde_json::json!(native), "{seed}, {index}, {draw}");
    }
}

#[test]
fn a_lost_gpu_is_opened_again() {
    let page = Page::open("?seed=0&count=1&model=tiny&executor=webgpu");
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    page.browser.crash_gpu();
    page.open_panels();
    page.browser.click("input[name=count][value='4']");
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    assert!(page.browser.text("#note").contains("lost the GPU and found it again"), "{}", page.browser.text("#note"));
    page.assert_faces(0..4);
}

/// On a busy machine everything is slow, so the measure is the time of a face: a window that made one itself would be held
/// up for as long.
#[test]
fn the_window_stays_free_while_faces_are_made() {
    const FACES: u32 = 16;
    let page = Page::with_model("faces64", &shipped_model("faces64"), "?seed=0&count=16&model=faces64&executor=cpu");
    page.finish();
    page.browser.run(
        "window.tasks = [];
         // Of 50 ms and more.
         new PerformanceObserver((list) => {
           for (const { duration } of list.getEntries()) window.tasks.push(duration);
         }).observe({ type: 'longtask' });",
    );
    let longest = || page.browser.run("return Math.max(0, ...window.tasks)").as_f64().unwrap_or(f64::INFINITY);
    let seed = page.address_seed();
    let start = Instant::now();
    page.browser.click("#new");
    page.browser.wait("other faces", || page.address_seed() != seed);
    page.finish();
    let face = 1e3 * start.elapsed().as_secs_f64() / f64::from(FACES);
    println!("the longest task took {} ms, a face {face:.0} ms", longest());
    assert!(longest() < (face / 2.0).max(50.0), "a task of {} ms, where a face takes {face:.0} ms", longest());

    // The observer would see a task that is too long.
    page.browser.run("setTimeout(() => { const end = performance.now() + 80; while (performance.now() < end); })");
    page.browser.wait("a long task", || longest() >= 80.0);
}

#[test]
fn the_address_names_the_faces() {
    let page = Page::open("?seed=3&count=1&model=tiny&executor=cpu");
    page.finish();
    let first = page.address_seed();
    page.assert_faces(first..first + 1);

    page.browser.press("body", "n");
    page.browser.wait("a new address", || page.address_seed() != first);
    page.finish();
    let second = page.address_seed();
    assert_ne!(first, second);
    page.assert_faces(second..second + 1);

    page.browser.reload();
    page.finish();
    assert_eq!(page.address_seed(), second);
    page.browser.back();
    page.browser.wait("the first address", || page.address_seed() == first);
    let shown = || page.browser.run("return document.querySelector('#seed').value");
    page.browser.wait("the first seed", || shown().as_str() == Some(first.to_string().as_str()));
    page.finish();

    page.open_panels();
    page.browser.click("#new");
    page.browser.wait("a new address", || page.address_seed() != first);
    page.browser.run("document.querySelector('#seed').value = '18446744073709551552'");
    page.browser.press("#seed", "\u{e007}");
    page.finish();
    assert_eq!(page.address_seed(), 18446744073709551552);
}

#[test]
fn a_truncated_model_is_reported() {
    let page = Page::open("?model=truncated");
    page.fail();
    let error = page.browser.text("#error");
    assert!(error.contains("truncated.safetensors: not a whole safetensors file"), "{error}");
}

#[test]
fn a_missing_model_is_reported() {
    let page = Page::open("?model=missing");
    page.fail();
    let error = page.browser.text("#error");
    assert!(error.contains("missing.safetensors could not be downloaded: the server answered 404"), "{error}");
}

#[test]
fn broken_parameters_are_reported_and_replaced() {
    let page = Page::open("?seed=-1&count=5&model=tiny&executor=cpu");
    page.finish();
    let notes = page.browser.text("#notes");
    assert!(notes.contains("seed=-1") && notes.contains("count=5"), "{notes}");
    assert_eq!(page.browser.run("return document.querySelectorAll('.face.shown').length"), 16);

    page.open_panels();
    page.browser.click("#play");
    page.browser.wait("a pause", || page.browser.address().contains("seed"));
    let before = page.browser.address();
    page.browser.press("#seed", "x\u{e007}");
    let problem = page.browser.text("#seed-problem");
    assert!(problem.contains("must be a whole number"), "{problem}");
    assert_eq!(page.browser.address(), before);
    page.browser.run("document.querySelector('#seed').value = '8'");
    page.browser.press("#seed", "\u{e007}");
    assert_eq!(page.address_seed(), 8);
    assert_eq!(page.browser.text("#seed-problem"), "");
}
