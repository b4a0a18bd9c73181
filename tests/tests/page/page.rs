//! The page with a model, and what it should show.

use std::collections::HashMap;
use std::fs;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use lddgan::compare::Difference;
use lddgan::model::to_byte;
use lddgan::{Model, ModelFile, Recipe};
use lddgan_tests::{random_model_file, tiny_config};

use crate::browser::Browser;
use crate::server::{Server, workspace};

/// Decibels above which two pictures are the same but for rounding.
const SAME: f64 = 40.0;

/// The page in a browser, with a model file beside those that come with it, and one that is `truncated`.
pub struct Page {
    pub browser: Browser,
    /// The name of the model that it is to show.
    name: &'static str,
    /// What that model's file holds.
    pub model: Model,
}

/// A model file with random weights.
pub fn tiny(seed: u64) -> Vec<u8> {
    let file = random_model_file(&tiny_config(), seed).expect("the tiny configuration is valid");
    file.to_bytes(DType::F16).expect("tensors can be written to memory")
}

impl Page {
    /// With a model called `tiny`.
    pub fn open(query: &str) -> Self {
        Self::with_model("tiny", &tiny(1), query)
    }

    pub fn with_model(name: &'static str, bytes: &[u8], query: &str) -> Self {
        Self::with_files(name, bytes, HashMap::new(), query, |_| {})
    }

    /// With a script that the worker runs before the program.
    pub fn with_fault(fault: &str, name: &'static str, bytes: &[u8], query: &str) -> Self {
        let worker = fs::read_to_string(workspace().join("dist/worker.js")).expect("the page was built");
        let files = HashMap::from([("worker.js".to_owned(), format!("{fault}\n{worker}").into_bytes())]);
        Self::with_files(name, bytes, files, query, |_| {})
    }

    /// With other files beside the model; `prepare` comes before the page.
    pub fn with_files(
        name: &'static str,
        bytes: &[u8],
        mut files: HashMap<String, Vec<u8>>,
        query: &str,
        prepare: impl Fn(&Browser),
    ) -> Self {
        files.insert(format!("models/{name}.safetensors"), bytes.to_vec());
        files.insert("models/truncated.safetensors".to_owned(), bytes[..bytes.len() / 2].to_vec());
        let server = Server::start(files);
        let browser = Browser::start();
        prepare(&browser);
        Self::at(browser, &format!("{}{query}", server.address), name, bytes)
    }

    /// At an address where the model of that name is the one in `bytes`.
    pub fn at(browser: Browser, address: &str, name: &'static str, bytes: &[u8]) -> Self {
        browser.open(address);
        Self { browser, name, model: model(name, bytes) }
    }

    /// Opens all panels at once, which a visitor cannot.
    pub fn open_panels(&self) {
        self.browser.run(
            "for (const panel of document.querySelectorAll('.panels > details')) {
               panel.removeAttribute('name');
               panel.open = true;
             }",
        );
    }

    /// The seeds of the faces that the grid shows.
    pub fn shown_seeds(&self) -> Vec<u64> {
        let script = "return Array.from(document.querySelectorAll('.face.shown'), (face) => face.dataset.seed)";
        let seeds = self.browser.run(script);
        let seed = |seed: &serde_json::Value| seed.as_str()?.parse().ok();
        seeds.as_array().map(|seeds| seeds.iter().filter_map(seed).collect()).unwrap_or_default()
    }

    /// Waits until all faces are there.
    pub fn finish(&self) {
        self.reach("done");
        assert_eq!(self.browser.text("#error"), "");
    }

    /// Waits until the page has given up.
    pub fn fail(&self) {
        self.reach("failed");
    }

    pub fn reach(&self, state: &str) {
        let script = "return document.querySelector('main').dataset.state";
        self.browser.wait(&format!("the state {state}"), || self.browser.run(script) == state);
    }

    pub fn address_seed(&self) -> u64 {
        let address = url::Url::parse(&self.browser.address()).expect("a browser's address is one");
        let seed = address.query_pairs().find(|(name, _)| name == "seed");
        seed.and_then(|(_, seed)| seed.parse().ok()).unwrap_or_else(|| panic!("no seed in {address}"))
    }

    /// Saves the faces that the page shows, and compares them with those that the native program makes.
    pub fn assert_faces(&self, seeds: impl IntoIterator<Item = u64>) {
        for (index, seed) in seeds.into_iter().enumerate() {
            let child = index + 1;
            self.browser.click(&format!("#faces > :nth-child({child}) > button"));
            let saved = image::load_from_memory(&self.save(seed)).expect("the page saves pictures").into_rgb8();
            self.browser.click("#large .close");
            assert_same(&saved, &self.native(seed), &format!("seed {seed}"));
            // The measure would be worthless if it took any two faces for the same.
            assert_different(&saved, &self.native(seed + 1), &format!("seeds {seed} and {}", seed + 1));
            self.assert_shown(&format!("#faces > :nth-child({child}) canvas"), &saved);
        }
    }

    /// The file of the face in the large view.
    pub fn save(&self, seed: u64) -> Vec<u8> {
        let ready = || self.browser.run("return !document.querySelector('#save').disabled") == true;
        self.browser.wait(&format!("face {seed} in the large view"), ready);
        assert_eq!(self.browser.text("#large-title"), format!("Face {seed}"));
        self.browser.click("#save");
        self.browser.downloaded(&format!("{}-{seed}.png", self.name))
    }

    /// Drops a model file of the visitor's on the page, and waits until it is the chosen one.
    pub fn drop_file(&self, name: &str, bytes: &[u8]) {
        self.drop_on_page(name, "", bytes);
        let chosen = "return document.querySelector('#models').selectedOptions[0].textContent";
        self.browser.wait("the dropped model", || self.browser.run(chosen) == format!("{name} (yours)"));
    }

    /// Drops a PNG file on the page.
    pub fn drop_picture(&self, name: &str, bytes: &[u8]) {
        self.drop_on_page(name, "image/png", bytes);
    }

    fn drop_on_page(&self, name: &str, kind: &str, bytes: &[u8]) {
        self.browser.run(&format!(
            "const dataTransfer = new DataTransfer();
             dataTransfer.items.add(new File([new Uint8Array({bytes:?})], '{name}', {{ type: '{kind}' }}));
             for (const kind of ['dragover', 'drop']) {{
               const event = new DragEvent(kind, {{ dataTransfer, bubbles: true, cancelable: true }});
               // If the page did not take the file, the browser would go to it.
               if (document.querySelector('#faces').dispatchEvent(event)) throw new Error(`${{kind}} is not taken`);
             }}"
        ));
    }

    /// A canvas has the mean colour of the picture that it shows enlarged.
    pub fn assert_shown(&self, canvas: &str, picture: &RgbImage) {
        let script = format!(
            "const canvas = document.querySelector('{canvas}');
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
            picture.pixels().map(|pixel| f64::from(pixel[color])).sum::<f64>()
                / f64::from(picture.width() * picture.height())
        };
        for color in 0..3 {
            let shown = shown[color].as_f64().expect("the script answers with numbers");
            assert!((shown - mean(color)).abs() < 3.0, "{canvas}, colour {color}: {shown} for {}", mean(color));
        }
    }

    /// The grid shows the faces of these recipes, in this order.
    pub fn assert_grid(&self, recipes: impl IntoIterator<Item = impl Into<Recipe>>) {
        for (i, recipe) in recipes.into_iter().enumerate() {
            self.assert_shown(&format!("#faces > :nth-child({}) canvas", i + 1), &self.native(recipe));
        }
    }

    /// The face as the native program makes it.
    pub fn native(&self, recipe: impl Into<Recipe>) -> RgbImage {
        native(&self.model, recipe)
    }
}

/// The model in a file.
pub fn model(name: &str, bytes: &[u8]) -> Model {
    let model = ModelFile::from_bytes(bytes, name).and_then(|file| file.model(name, &Device::Cpu));
    model.expect("the model file can be read")
}

/// The face as the native program makes it.
pub fn native(model: &Model, recipe: impl Into<Recipe>) -> RgbImage {
    let recipe: Recipe = recipe.into();
    // As the program without options does.
    let recipe = Recipe { truncation: recipe.truncation.or(model.config.generator.truncation()), ..recipe };
    let sampled = model.sample_seeds(&[recipe], &Device::Cpu).expect("the model runs");
    picture(&sampled.image)
}

/// An image of a batch of one.
pub fn picture(image: &Tensor) -> RgbImage {
    let planes = image.squeeze(0).and_then(|image| image.to_vec3::<f32>()).expect("an image has three planes");
    let size = planes[0].len() as u32;
    RgbImage::from_fn(size, size, |x, y| {
        let [red, green, blue] = [0, 1, 2].map(|color: usize| to_byte(planes[color][y as usize][x as usize]));
        image::Rgb([red, green, blue])
    })
}

/// Fails unless two pictures are the same but for rounding.
pub fn assert_same(a: &RgbImage, b: &RgbImage, what: &str) {
    let same = psnr(a, b);
    assert!(same >= SAME, "{what}: {same:.1} dB");
}

/// Fails if two pictures are the same but for rounding.
pub fn assert_different(a: &RgbImage, b: &RgbImage, what: &str) {
    let same = psnr(a, b);
    assert!(same < SAME, "{what}: {same:.1} dB");
}

/// Peak signal-to-noise ratio in decibels.
fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    lddgan::compare::psnr(Difference::between(a.as_raw(), b.as_raw()).unwrap().mean_squared, 255.0)
}
