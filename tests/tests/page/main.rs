//! The page in a real browser: its faces are those of the native program, and its errors can be read.

mod browser;
mod bundle;
mod package;
mod server;
mod site;

use std::collections::HashMap;
use std::path::Path;

use browser::Browser;
use candle_core::{DType, Device};
use image::RgbImage;
use lddgan::noise::Stream;
use lddgan::sampler::to_byte;
use lddgan::{Model, ModelFile};
use lddgan_tests::{random_model_file, tiny_config};
use lddgan_trainer::import;
use lddgan_trainer::preset::Preset;
use server::Server;

/// Decibels above which two pictures are the same but for rounding.
const SAME: f64 = 40.0;

#[test]
fn webgpu_makes_the_faces_of_native_candle() {
    let page = Page::open("?seed=0&count=4&model=tiny&executor=webgpu");
    page.finish();
    // Otherwise the fallback would be compared.
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    assert!(page.browser.text("#note").contains("software adapter"), "{}", page.browser.text("#note"));
    page.assert_faces(0..4);
}

#[test]
fn candle_in_wasm_makes_the_faces_of_native_candle() {
    let page = Page::open("?seed=0&count=4&model=tiny&executor=candle");
    page.finish();
    assert!(page.browser.text("#executor").starts_with("Candle"), "{}", page.browser.text("#executor"));
    page.assert_faces(0..4);
}

/// The model that comes with the page, where WebGPU is a software adapter that takes seconds for a face.
#[test]
fn the_shipped_model_makes_the_same_faces_everywhere() {
    for executor in ["webgpu", "candle"] {
        let page = Page::with_model("faces64", &shipped_model(), &format!("?seed=0&count=4&executor={executor}"));
        page.finish();
        let shown = page.browser.text("#executor").to_lowercase();
        assert!(shown.starts_with(executor), "{shown}");
        page.assert_faces(0..4);
    }
}

fn shipped_model() -> Vec<u8> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/models/faces64.safetensors");
    std::fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A model made from the authors' files.
#[test]
fn an_imported_model_makes_the_same_faces() {
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let preset = Preset::load(&fixture("imported.toml").to_string_lossy()).expect("the preset is valid");
    let (generator, autoencoder) = ("train-step/netG_init.pth", "autoencoder-kl-f2/16x16x4_551.ckpt");
    let file = import::model(&preset, &fixture(generator), &fixture(autoencoder)).expect("the checkpoints are whole");
    let bytes = file.to_bytes(DType::F16).expect("tensors can be written to memory");
    let page = Page::with_model("imported", &bytes, "?seed=0&count=1&model=imported&executor=webgpu");
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    page.assert_faces(0..1);
}

/// Bit for bit, over enough values to meet the rare branches of the normal transform.
#[test]
fn noise_is_that_of_native_programs() {
    const COUNT: usize = 20_000;
    let page = Page::open("?seed=0&count=1&model=tiny&executor=candle");
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
    page.browser.click("input[name=count][value='4']");
    page.finish();
    assert!(page.browser.text("#executor").starts_with("WebGPU"), "{}", page.browser.text("#executor"));
    assert!(page.browser.text("#note").contains("lost the GPU and found it again"), "{}", page.browser.text("#note"));
    page.assert_faces(0..4);
}

#[test]
fn the_address_names_the_faces() {
    let page = Page::open("?count=1&model=tiny&executor=candle");
    page.finish();
    let first = page.address_seed();
    page.assert_faces(first..first + 1);

    page.browser.press("body", " ");
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
    let page = Page::open("?seed=-1&count=5&model=tiny&executor=candle");
    page.finish();
    let notes = page.browser.text("#notes");
    assert!(notes.contains("seed=-1") && notes.contains("count=5"), "{notes}");
    assert_eq!(page.browser.run("return document.querySelectorAll('.face.shown').length"), 16);

    let before = page.address_seed();
    page.browser.press("#seed", "x\u{e007}");
    let problem = page.browser.text("#seed-problem");
    assert!(problem.contains("must be a whole number"), "{problem}");
    assert_eq!(page.address_seed(), before);
    page.browser.run("document.querySelector('#seed').value = '8'");
    page.browser.press("#seed", "\u{e007}");
    assert_eq!(page.address_seed(), 8);
    assert_eq!(page.browser.text("#seed-problem"), "");
}

/// The page in a browser, with a model file beside those that come with it, and one that is `truncated`.
struct Page {
    browser: Browser,
    /// The name of the model that it is to show.
    name: &'static str,
    /// What that model's file holds.
    model: Model,
}

impl Page {
    /// With a model called `tiny`.
    fn open(query: &str) -> Self {
        let file = random_model_file(&tiny_config(), 1).expect("the tiny configuration is valid");
        Self::with_model("tiny", &file.to_bytes(DType::F16).expect("tensors can be written to memory"), query)
    }

    fn with_model(name: &'static str, bytes: &[u8], query: &str) -> Self {
        let files = [(name, bytes), ("truncated", &bytes[..bytes.len() / 2])];
        let files = files.map(|(name, bytes)| (format!("models/{name}.safetensors"), bytes.to_vec()));
        let server = Server::start(HashMap::from(files));
        Self::at(Browser::start(), &format!("{}{query}", server.address), name, bytes)
    }

    /// At an address where the model of that name is the one in `bytes`.
    fn at(browser: Browser, address: &str, name: &'static str, bytes: &[u8]) -> Self {
        let model = ModelFile::from_bytes(bytes, name).and_then(|file| file.model(name, &Device::Cpu));
        browser.open(address);
        Self { browser, name, model: model.expect("the model file can be read") }
    }

    /// Waits until all faces are there.
    fn finish(&self) {
        self.reach("done");
        assert_eq!(self.browser.text("#error"), "");
    }

    /// Waits until the page has given up.
    fn fail(&self) {
        self.reach("failed");
    }

    fn reach(&self, state: &str) {
        let script = "return document.querySelector('main').dataset.state";
        self.browser.wait(&format!("the state {state}"), || self.browser.run(script) == state);
    }

    fn address_seed(&self) -> u64 {
        let address = url::Url::parse(&self.browser.address()).expect("a browser's address is one");
        let seed = address.query_pairs().find(|(name, _)| name == "seed");
        seed.and_then(|(_, seed)| seed.parse().ok()).unwrap_or_else(|| panic!("no seed in {address}"))
    }

    /// Saves the faces that the page shows, and compares them with those that the native program makes.
    fn assert_faces(&self, seeds: std::ops::Range<u64>) {
        for (index, seed) in seeds.enumerate() {
            let child = index + 1;
            self.browser.click(&format!("#faces > :nth-child({child}) > button"));
            let saved = self.browser.downloaded(&format!("{}-{seed}.png", self.name));
            let saved = image::load_from_memory(&saved).expect("the page saves pictures").into_rgb8();
            let same = psnr(&saved, &native(&self.model, seed));
            assert!(same >= SAME, "seed {seed}: {same:.1} dB");
            // The measure would be worthless if it took any two faces for the same.
            assert!(psnr(&saved, &native(&self.model, seed + 1)) < SAME);
            self.assert_shown(child, &saved);
        }
    }

    /// The enlarged face on the screen has the mean colour of the saved one.
    fn assert_shown(&self, child: usize, saved: &RgbImage) {
        let script = format!(
            "const canvas = document.querySelector('#faces > :nth-child({child}) canvas');
             const {{ width, height }} = canvas;
             const {{ data }} = canvas.getContext('2d').getImageData(0, 0, width, height);
             return [0, 1, 2].map((c) => {{
               let sum = 0;
               for (let i = c; i < data.length; i += 4) sum += data[i];
               return sum / (width * height);
             }});"
        );
        let shown = self.browser.run(&script);
        let mean = |color: usize| {
            saved.pixels().map(|pixel| f64::from(pixel[color])).sum::<f64>() / f64::from(saved.width() * saved.height())
        };
        for color in 0..3 {
            let shown = shown[color].as_f64().expect("the script answers with numbers");
            assert!((shown - mean(color)).abs() < 3.0, "face {child}, colour {color}: {shown} for {}", mean(color));
        }
    }
}

/// The face as the native program makes it.
fn native(model: &Model, seed: u64) -> RgbImage {
    let sampled = model.sample_seeds(&[seed], &Device::Cpu);
    let planes = sampled.and_then(|sampled| Ok(sampled.image.squeeze(0)?.to_vec3::<f32>()?));
    let planes = planes.expect("the model runs");
    let size = planes[0].len() as u32;
    RgbImage::from_fn(size, size, |x, y| {
        let [red, green, blue] = [0, 1, 2].map(|color: usize| to_byte(planes[color][y as usize][x as usize]));
        image::Rgb([red, green, blue])
    })
}

/// Peak signal-to-noise ratio in decibels, infinite for equal pictures.
fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let squares = a.as_raw().iter().zip(b.as_raw()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    let error = squares.sum::<f64>() / a.as_raw().len() as f64;
    10.0 * (255.0 * 255.0 / error).log10()
}
