//! What a page's address and the options of the package name alike: seeds, executors, types of numbers.

use lddgan_webgpu::executor::Dtype;
use serde::{Deserialize, Serialize};

/// The greatest seed that leaves every face of the largest grid a seed of its own.
pub const MAX_SEED: u64 = u64::MAX - 63;

/// The executor to begin with; if it cannot run here, the CPU takes over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutorChoice {
    /// WebGPU if the browser has it and it is no software adapter.
    #[default]
    Auto,
    /// WebGPU, on a software adapter too.
    WebGpu,
    Cpu,
}

/// Reads the name of a type of numbers; the error says what would have been right.
pub fn parse_dtype(text: &str) -> Result<Dtype, String> {
    let known = [Dtype::F32, Dtype::F16].into_iter().find(|dtype| dtype.name() == text);
    known.ok_or_else(|| "dtype must be f32 or f16".to_owned())
}

/// Reads the name of an executor; the error says what would have been right.
pub fn parse_executor(text: &str) -> Result<ExecutorChoice, String> {
    match text {
        "auto" => Ok(ExecutorChoice::Auto),
        "webgpu" => Ok(ExecutorChoice::WebGpu),
        // Older addresses name what computed on the CPU then.
        "cpu" | "candle" => Ok(ExecutorChoice::Cpu),
        _ => Err("executor must be webgpu, cpu or auto".to_owned()),
    }
}

/// Reads a seed; the error says what would have been right.
pub fn parse_seed(text: &str) -> Result<u64, String> {
    let seed = text.parse().ok().filter(|&seed| seed <= MAX_SEED);
    seed.ok_or_else(|| format!("seed must be a whole number from 0 to {MAX_SEED}"))
}

/// Reads what is on or off; the error says what would have been right.
pub fn parse_switch(name: &str, text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("{name} must be 1 or 0")),
    }
}

/// The seed that is so much greater, if there is one.
pub fn other_seed(seed: u64, step: i64) -> Option<u64> {
    seed.checked_add_signed(step).filter(|&seed| seed <= MAX_SEED)
}

/// A seed short enough to read aloud.
#[cfg(target_arch = "wasm32")]
pub fn random_seed() -> u64 {
    (js_sys::Math::random() * 1e6) as u64
}

/// The text with composed letters: "é" as one character, however a keyboard wrote it.
#[cfg(target_arch = "wasm32")]
pub fn composed(text: &str) -> String {
    js_sys::JsString::from(text).normalize("NFC").into()
}
