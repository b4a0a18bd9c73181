//! The speed panel.

use wasm_bindgen::JsValue;
use web_sys::Element;

use super::dom::append_fact;
use super::view::duration;
use crate::faces::Speed;
use crate::format::size;
use lddgan_webgpu::executor::Dtype;

/// Shows these figures in the list; `wanted` are the numbers that were chosen.
pub fn show(list: &Element, speed: &Speed, wanted: Dtype) -> Result<(), JsValue> {
    let time = |milliseconds: f64| duration(milliseconds / 1000.0);
    let each = speed.sampling / speed.batch.max(1) as f64;
    let mut facts = vec![
        ("Per face", time(each)),
        ("Faces per second", format!("{:.1}", 1000.0 / each.max(0.001))),
        ("Faces at a time", speed.batch.to_string()),
        ("Numbers", numbers(speed.dtype, wanted)),
    ];
    facts.extend(speed.kernels.map(|kernels| ("Kernels", chosen(kernels))));
    if speed.drawn {
        facts.push(("Shown", "without leaving the GPU".to_owned()));
    }
    if let Some([weights, values]) = speed.memory {
        facts.push(("GPU memory", format!("{} weights, {} between layers", size(weights), size(values))));
    }
    facts.extend(speed.download.map(|milliseconds| ("Download", time(milliseconds))));
    facts.push(("Read, verify", time(speed.read)));
    facts.extend(speed.compile.map(|milliseconds| ("Compile", time(milliseconds))));
    facts.extend(speed.upload.map(|milliseconds| ("Upload", time(milliseconds))));
    facts.push(("Sample, decode", time(speed.sampling)));
    facts.extend(speed.decode.map(|milliseconds| ("Decode a face", time(milliseconds))));
    list.set_text_content(None);
    facts.into_iter().try_for_each(|(term, figure)| append_fact(list, term, &figure))
}

/// The numbers that were used, and why if others were chosen.
fn numbers(used: Dtype, wanted: Dtype) -> String {
    match used == wanted {
        true => used.name().to_owned(),
        false => format!("{}; there is no {} here", used.name(), wanted.name()),
    }
}

/// How the kernels of the convolutions were chosen.
fn chosen([timed, all]: [usize; 2]) -> String {
    match timed {
        0 => "estimated".to_owned(),
        timed => format!("measured for {timed} of {all} convolutions"),
    }
}
