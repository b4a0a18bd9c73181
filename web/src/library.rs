//! The program of the package: a model on the thread that loaded it, as `npm/index.js` uses it.

use std::cell::RefCell;

use js_sys::{Array, Function, Uint8Array, Uint8ClampedArray};
use lddgan::{ModelFile, Name, Recipe, hash};
use wasm_bindgen::prelude::*;
use web_sys::AbortSignal;

use crate::choices::{composed, parse_dtype, parse_executor, parse_seed, random_seed};
use crate::faces::FaceMaker;
use crate::fetch::{Download, Progress};
use crate::time::pause;

#[wasm_bindgen]
extern "C" {
    /// Values that were not given are undefined.
    pub type LoadOptions;
    #[wasm_bindgen(method, getter, js_name = onProgress)]
    fn on_progress(this: &LoadOptions) -> Option<Function>;
    #[wasm_bindgen(method, getter)]
    fn executor(this: &LoadOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn signal(this: &LoadOptions) -> Option<AbortSignal>;

    /// Values that were not given are undefined.
    pub type GenerateOptions;
    #[wasm_bindgen(method, getter)]
    fn seed(this: &GenerateOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn name(this: &GenerateOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn count(this: &GenerateOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn steps(this: &GenerateOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn dtype(this: &GenerateOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn executor(this: &GenerateOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn signal(this: &GenerateOptions) -> Option<AbortSignal>;
    #[wasm_bindgen(method, getter, js_name = onStep)]
    fn on_step(this: &GenerateOptions) -> Option<Function>;

    #[wasm_bindgen(js_name = String)]
    fn text(value: &JsValue) -> String;
}

/// More faces at once than memory is there for everywhere.
const MAX_COUNT: usize = 1024;

/// A model that makes faces.
#[wasm_bindgen]
pub struct Program {
    /// Away while it makes faces.
    maker: RefCell<Option<FaceMaker>>,
    /// Height and width of a face in pixels.
    #[wasm_bindgen(readonly, js_name = imageSize)]
    pub image_size: usize,
    /// Denoising steps that the model was trained for.
    #[wasm_bindgen(readonly)]
    pub steps: usize,
}

#[wasm_bindgen]
impl Program {
    /// Makes a model ready: from its address, or from a file's bytes.
    pub async fn load(source: JsValue, options: LoadOptions) -> Result<Program, JsValue> {
        let executor = given(&options.executor(), parse_executor)?.unwrap_or_default();
        let url = source.as_string();
        let bytes = match &url {
            Some(url) => download(url, &options).await?,
            None => Uint8Array::new(&source).to_vec(),
        };
        let file = url.as_deref().map_or("the file", |url| url.rsplit('/').next().unwrap_or(url));
        let model = ModelFile::from_bytes(&bytes, file)
            .and_then(|read| read.model(file, &candle_core::Device::Cpu))
            .map_err(|reason| error(format!("The model cannot be used: {reason}.")))?;
        let (image_size, steps) = (model.config.autoencoder.image_size, model.schedule.steps());
        let maker = FaceMaker::new(model, hash::sha256(&bytes), Default::default(), executor).await;
        Ok(Self { maker: Some(maker).into(), image_size, steps })
    }

    /// The RGBA pixels of faces, in the order of their seeds.
    pub async fn generate(&self, options: GenerateOptions) -> Result<Vec<Uint8ClampedArray>, JsValue> {
        let name = given(&options.name(), |name| composed(name).parse::<Name>())?;
        let first = given(&options.seed(), parse_seed)?.or(name.as_ref().map(Name::seed)).unwrap_or_else(random_seed);
        let count = given(&options.count(), |count| parse_whole("count", count, MAX_COUNT))?.unwrap_or(1);
        let steps = given(&options.steps(), |steps| parse_whole("steps", steps, self.steps))?.unwrap_or(self.steps);
        let dtype = given(&options.dtype(), parse_dtype)?.unwrap_or_default();
        let executor = given(&options.executor(), parse_executor)?;
        let mut maker = self.maker.take().ok_or_else(busy)?;
        if let Some(choice) = executor {
            maker = maker.with_choice(choice).await;
        }
        maker.set_dtype(dtype);
        let truncation = maker.model().config.generator.truncation();
        let recipe = |index| Recipe { truncation, ..first.wrapping_add(index).into() };
        let recipes: Vec<Recipe> = (0..count as u64).map(recipe).collect();
        let made = match maker.set_steps(steps) {
            Ok(()) => make(&mut maker, &recipes, &options).await,
            Err(reason) => Err(error(reason)),
        };
        self.maker.replace(Some(maker));
        made
    }

    /// What makes the faces, in words.
    #[wasm_bindgen(getter)]
    pub fn executor(&self) -> Result<String, JsValue> {
        Ok(self.maker.borrow().as_ref().ok_or_else(busy)?.info().name)
    }

    /// What a visitor should know about that, if there is something.
    #[wasm_bindgen(getter)]
    pub fn note(&self) -> Result<Option<String>, JsValue> {
        Ok(self.maker.borrow().as_ref().ok_or_else(busy)?.info().note)
    }
}

fn error(words: impl AsRef<str>) -> JsValue {
    JsError::new(words.as_ref()).into()
}

fn busy() -> JsValue {
    error("The faces of an earlier call are not done; wait for its promise first.")
}

/// The value of an option, if it was given.
fn given<T>(value: &JsValue, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, JsValue> {
    match value.is_undefined() {
        true => Ok(None),
        false => parse(&text(value)).map(Some).map_err(error),
    }
}

fn parse_whole(name: &str, text: &str, greatest: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=greatest).contains(number));
    number.ok_or_else(|| format!("{name} must be a whole number from 1 to {greatest}"))
}

async fn download(url: &str, options: &LoadOptions) -> Result<Vec<u8>, JsValue> {
    let (signal, on_progress) = (options.signal(), options.on_progress());
    let tell = |progress| {
        if let (Some(listener), Progress::Received { bytes, total }) = (&on_progress, progress) {
            let total = total.map_or(JsValue::UNDEFINED, |total| JsValue::from(total as f64));
            // What the page's function throws is no matter of the download.
            drop(listener.call2(&JsValue::NULL, &(bytes as f64).into(), &total));
        }
    };
    let finished = Download::new(url.to_owned(), None).until(signal.clone()).finish(tell).await;
    end_if_aborted(signal.as_ref())?;
    finished.map_err(error)
}

/// An error if the page wants nothing more.
fn end_if_aborted(signal: Option<&AbortSignal>) -> Result<(), JsValue> {
    match signal {
        Some(signal) if signal.aborted() => Err(signal.reason()),
        _ => Ok(()),
    }
}

async fn make(
    maker: &mut FaceMaker,
    recipes: &[Recipe],
    options: &GenerateOptions,
) -> Result<Vec<Uint8ClampedArray>, JsValue> {
    let (signal, on_step) = (options.signal(), options.on_step());
    let mut faces = Vec::new();
    while faces.len() < recipes.len() {
        end_if_aborted(signal.as_ref())?;
        let rest = &recipes[faces.len()..];
        let made = match &on_step {
            Some(listener) => develop(maker, rest[0], faces.len(), listener).await,
            None => sample(maker, &rest[..maker.batch().min(rest.len())]).await,
        };
        faces.extend(made.map_err(error)?);
        pause(0).await;
    }
    Ok(faces)
}

/// The next faces; none if WebGPU failed, and the next attempt is another.
async fn sample(maker: &mut FaceMaker, recipes: &[Recipe]) -> Result<Vec<Uint8ClampedArray>, String> {
    let batch = maker.sample(recipes).await?;
    Ok(batch.into_iter().flat_map(|batch| batch.images).map(|pixels| copy(&pixels)).collect())
}

/// As [`sample`], a face whose steps are shown to the page.
async fn develop(
    maker: &mut FaceMaker,
    recipe: Recipe,
    face: usize,
    listener: &Function,
) -> Result<Vec<Uint8ClampedArray>, String> {
    let mut images: Vec<Uint8ClampedArray> = Vec::new();
    let show = |pixels: Vec<u8>| {
        let image = copy(&pixels);
        let told = Array::of3(&(face as f64).into(), &(images.len() as f64).into(), &image);
        images.push(image);
        // What the page's function throws is no matter of the face.
        drop(listener.apply(&JsValue::NULL, &told));
    };
    // The last one is the face.
    match maker.develop(recipe, show).await? {
        true => Ok(images.pop().into_iter().collect()),
        false => Ok(Vec::new()),
    }
}

/// A view of this program's memory would change under the page's hands.
fn copy(pixels: &[u8]) -> Uint8ClampedArray {
    Uint8ClampedArray::from(pixels)
}
