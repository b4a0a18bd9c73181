//! The program as a library for other pages: faces from a model file.

use std::cell::RefCell;

use js_sys::{Function, Object, Reflect, Uint8ClampedArray};
use lddgan::{ModelFile, Recipe, check};
use wasm_bindgen::prelude::*;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, ImageData};

use crate::choices::{parse_executor, parse_seed, random_seed};
use crate::faces::Sampler;
use crate::fetch::{Download, Progress};
use crate::time::pause;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** How a model is loaded. */
export interface LoadOptions {
  /** Called while the model file comes: how many bytes of it are there, and of how many, where that is known. */
  onProgress?: (progress: { bytes: number; total?: number }) => void;
  /** What makes the faces: WebGPU where there is a GPU, and Candle in WebAssembly elsewhere ("auto", the default). */
  executor?: "auto" | "webgpu" | "candle";
}

/** Which faces are made. */
export interface GenerateOptions {
  /** Of the first face; the others have the seeds that follow. Without it, chance decides. */
  seed?: number | bigint;
  /** How many faces, 1 by default. */
  count?: number;
  /** Denoising steps: as many as the model has, or fewer. */
  steps?: number;
  /** Where the faces are drawn, side by side and as near to a square as they go; its size is set. */
  canvas?: HTMLCanvasElement | OffscreenCanvas;
}
"#;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(typescript_type = "LoadOptions")]
    pub type LoadOptions;
    #[wasm_bindgen(method, getter, js_name = onProgress)]
    fn on_progress(this: &LoadOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn executor(this: &LoadOptions) -> JsValue;

    #[wasm_bindgen(typescript_type = "GenerateOptions")]
    pub type GenerateOptions;
    #[wasm_bindgen(method, getter)]
    fn seed(this: &GenerateOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn count(this: &GenerateOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn steps(this: &GenerateOptions) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn canvas(this: &GenerateOptions) -> JsValue;

    #[wasm_bindgen(js_name = String)]
    fn text(value: &JsValue) -> String;
}

/// More faces at once than memory is there for everywhere.
const MAX_COUNT: usize = 1024;

/// A model that makes faces, on the thread that loaded it.
#[wasm_bindgen]
pub struct Lddgan {
    /// Away while it makes faces.
    sampler: RefCell<Option<Sampler>>,
    /// Height and width of a face in pixels.
    #[wasm_bindgen(readonly, js_name = imageSize)]
    pub image_size: usize,
    /// Denoising steps that the model was trained for.
    #[wasm_bindgen(readonly)]
    pub steps: usize,
}

#[wasm_bindgen]
impl Lddgan {
    /// Downloads a model file and makes it ready.
    pub async fn load(url: String, options: Option<LoadOptions>) -> Result<Lddgan, JsError> {
        let [on_progress, executor] = match &options {
            Some(options) => [options.on_progress(), options.executor()],
            None => [JsValue::UNDEFINED, JsValue::UNDEFINED],
        };
        let executor = if executor.is_undefined() { Ok(Default::default()) } else { parse_executor(&text(&executor)) };
        let executor = executor.map_err(error)?;
        let bytes = Download::new(url.clone(), None).finish(|progress| report(&on_progress, &progress)).await;
        let bytes = bytes.map_err(error)?;
        let file = url.rsplit('/').next().unwrap_or(&url);
        let model = ModelFile::from_bytes(&bytes, file)
            .and_then(|read| read.model(file, &candle_core::Device::Cpu))
            .map_err(|reason| error(format!("The model cannot be used: {reason}.")))?;
        let (image_size, steps) = (model.config.autoencoder.image_size, model.schedule.steps());
        let sampler = Sampler::new(model, check::sha256(&bytes), Default::default(), executor).await;
        Ok(Self { sampler: Some(sampler).into(), image_size, steps })
    }

    /// Makes faces, in the order of their seeds.
    pub async fn generate(&self, options: Option<GenerateOptions>) -> Result<Vec<ImageData>, JsError> {
        let [seed, count, steps, canvas] = match &options {
            Some(options) => [options.seed(), options.count(), options.steps(), options.canvas()],
            None => [const { JsValue::UNDEFINED }; 4],
        };
        let first = if seed.is_undefined() { Ok(random_seed()) } else { parse_seed(&text(&seed)) };
        let count = if count.is_undefined() { Ok(1) } else { parse_whole("count", &text(&count), MAX_COUNT) };
        let steps = if steps.is_undefined() { Ok(self.steps) } else { parse_whole("steps", &text(&steps), self.steps) };
        let (first, count, steps) = (first.map_err(error)?, count.map_err(error)?, steps.map_err(error)?);
        let mut sampler = self.sampler.take().ok_or_else(busy)?;
        let truncation = sampler.model().config.generator.truncation();
        let recipe = |index| Recipe { truncation, ..first.wrapping_add(index).into() };
        let recipes: Vec<Recipe> = (0..count as u64).map(recipe).collect();
        let made = match sampler.set_steps(steps) {
            Ok(()) => make(&mut sampler, &recipes, self.image_size).await,
            Err(reason) => Err(error(reason)),
        };
        self.sampler.replace(Some(sampler));
        let faces = made?;
        if !canvas.is_undefined() {
            draw(&faces, self.image_size, canvas.unchecked_ref())
                .map_err(|_| error("The canvas cannot be drawn on."))?;
        }
        Ok(faces)
    }

    /// What makes the faces, in words.
    #[wasm_bindgen(getter)]
    pub fn executor(&self) -> Result<String, JsError> {
        Ok(self.sampler.borrow().as_ref().ok_or_else(busy)?.info().name)
    }

    /// What a visitor should know about that, if there is something.
    #[wasm_bindgen(getter)]
    pub fn note(&self) -> Result<Option<String>, JsError> {
        Ok(self.sampler.borrow().as_ref().ok_or_else(busy)?.info().note)
    }
}

fn error(words: impl AsRef<str>) -> JsError {
    JsError::new(words.as_ref())
}

fn busy() -> JsError {
    error("The faces of an earlier call are not done; wait for its promise first.")
}

fn parse_whole(name: &str, text: &str, greatest: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=greatest).contains(number));
    number.ok_or_else(|| format!("{name} must be a whole number from 1 to {greatest}"))
}

/// Tells the page, if it wants to know. What its function throws is no matter of the download.
fn report(on_progress: &JsValue, progress: &Progress) {
    let (Some(listener), Progress::Received { bytes, total }) = (on_progress.dyn_ref::<Function>(), progress) else {
        return;
    };
    let told = Object::new();
    let set = |name: &str, value: f64| Reflect::set(&told, &name.into(), &value.into());
    drop(set("bytes", *bytes as f64));
    if let Some(total) = total {
        drop(set("total", *total as f64));
    }
    drop(listener.call1(&JsValue::NULL, &told));
}

async fn make(sampler: &mut Sampler, recipes: &[Recipe], size: usize) -> Result<Vec<ImageData>, JsError> {
    let mut faces = Vec::new();
    while faces.len() < recipes.len() {
        let rest = &recipes[faces.len()..];
        let batch = sampler.sample(&rest[..sampler.batch().min(rest.len())]).await.map_err(error)?;
        // None: WebGPU failed, and the next attempt is another.
        for pixels in batch.into_iter().flat_map(|batch| batch.images) {
            // A copy: a view of this program's memory would change under the page's hands.
            let pixels = Uint8ClampedArray::from(pixels.as_slice());
            let face = ImageData::new_with_js_u8_clamped_array(&pixels, size as u32);
            faces.push(face.map_err(|_| error("The browser has no memory for the faces."))?);
        }
        pause(0).await;
    }
    Ok(faces)
}

/// A canvas of either kind has the same properties and functions.
fn draw(faces: &[ImageData], size: usize, canvas: &HtmlCanvasElement) -> Result<(), JsValue> {
    let columns = (1..).find(|columns| columns * columns >= faces.len()).unwrap_or(1);
    canvas.set_width((columns * size) as u32);
    canvas.set_height((faces.len().div_ceil(columns) * size) as u32);
    let context = canvas.get_context("2d")?.ok_or("no context")?;
    let context: CanvasRenderingContext2d = context.unchecked_into();
    for (index, face) in faces.iter().enumerate() {
        let [x, y] = [index % columns, index / columns].map(|place| (place * size) as f64);
        context.put_image_data(face, x, y)?;
    }
    Ok(())
}
