//! The package, as another page uses it.

use std::collections::HashMap;
use std::fs;

use image::{GenericImageView, RgbImage};
use lddgan::Model;
use serde_json::Value;

use super::browser::Browser;
use super::page::{assert_different, assert_same, model, native};
use super::server::{Server, workspace};
use super::shipped_model;

/// The example page of the package, after it has said what it wants to say.
fn open() -> (Browser, Server) {
    let server = Server::serve(&workspace().join("target/npm"), "", HashMap::new());
    let browser = Browser::start();
    browser.open(&format!("{}example.html", server.address));
    browser.wait("the example to end", || !browser.text("p").starts_with("Loading"));
    (browser, server)
}

#[test]
fn the_example_is_short_and_makes_the_faces_of_the_native_program() {
    let text = fs::read_to_string(workspace().join("target/npm/example.html")).expect("the package has an example");
    assert!(text.lines().count() <= 25, "{text}");

    let (browser, _server) = open();
    assert_eq!(browser.text("p"), "4 faces, made by Candle, WebAssembly on the CPU");
    assert_eq!(browser.errors(), [""; 0]);
    let model = shipped();
    let size = model.config.autoencoder.image_size as u32;
    let canvas = pixels(
        &browser,
        "const canvas = document.querySelector('canvas'); const { width, height } = canvas;
        return { width, height, data: [...canvas.getContext('2d').getImageData(0, 0, width, height).data] };",
    );
    assert_eq!(canvas.dimensions(), (2 * size, 2 * size));
    for seed in 0..4 {
        let (x, y) = (seed as u32 % 2 * size, seed as u32 / 2 * size);
        let face = canvas.view(x, y, size, size).to_image();
        assert_same(&face, &native(&model, seed), &format!("seed {seed}"));
        assert_different(&face, &native(&model, seed + 1), &format!("seeds {seed} and {}", seed + 1));
    }
}

#[test]
fn every_option_of_the_package_works_and_wrong_ones_are_refused() {
    let (browser, _server) = open();
    let run = |script: &str| {
        browser.run(&format!(
            "return (async () => {{
               const {{ Lddgan }} = await import('./index.js');
               {script}
             }})().catch((error) => `${{error.name}}: ${{error.message}}`)"
        ))
    };
    let face = pixels(
        &browser,
        "return (async () => {
        const { Lddgan } = await import('./index.js');
        const told = [];
        const onProgress = (progress) => told.push(progress);
        const g = await Lddgan.load('faces64.safetensors', { onProgress, executor: 'webgpu' });
        if (!g.executor.startsWith('WebGPU') || g.imageSize !== 64) throw new Error(g.executor);
        const { bytes, total } = told.at(-1);
        if (bytes !== total || told.length < 2) throw new Error(`${bytes} of ${total}`);
        const [fast] = await g.generate({ seed: 7n, steps: 1 });
        const [face, ...others] = await g.generate({ seed: 7n });
        if (fast.data.every((value, i) => value === face.data[i])) throw new Error('one step is not four');
        if (others.length !== 0 || !(face instanceof ImageData)) throw new Error('one face is asked for');
        return { width: face.width, height: face.height, data: [...face.data] };
      })()",
    );
    assert_same(&face, &native(&shipped(), 7), "seed 7");

    let refused = [
        (
            "await Lddgan.load('missing.safetensors')",
            "missing.safetensors could not be downloaded: the server answered 404",
        ),
        ("await Lddgan.load('README.md')", "README.md: not a whole safetensors file"),
        ("await Lddgan.load('faces64.safetensors', { executor: 'cuda' })", "executor must be webgpu, candle or auto"),
        ("const g = await load(); await g.generate({ seed: -1 })", "seed must be a whole number"),
        ("const g = await load(); await g.generate({ count: 0 })", "count must be a whole number from 1 to 1024"),
        ("const g = await load(); await g.generate({ steps: 5 })", "steps must be a whole number from 1 to 4"),
        (
            "const g = await load(); await Promise.all([g.generate(), g.generate()])",
            "The faces of an earlier call are not done",
        ),
    ];
    for (script, words) in refused {
        let load = "const load = () => Lddgan.load('faces64.safetensors', { executor: 'candle' });";
        let error = run(&format!("{load} {script}"));
        assert!(
            error.as_str().is_some_and(|error| error.starts_with("Error: ") && error.contains(words)),
            "{script}: {error}"
        );
    }
}

#[test]
fn the_types_name_what_the_package_has() {
    let read = |name| fs::read_to_string(workspace().join("target/npm").join(name)).expect("the package is whole");
    let types = read("program.d.ts");
    for line in [
        "static load(url: string, options?: LoadOptions | null): Promise<Lddgan>;",
        "generate(options?: GenerateOptions | null): Promise<ImageData[]>;",
        "readonly executor: string;",
        "readonly imageSize: number;",
        "onProgress?: (progress: { bytes: number; total?: number }) => void;",
    ] {
        assert!(types.contains(line), "{line}");
    }
    let manifest: Value = serde_json::from_str(&read("package.json")).expect("it is JSON");
    for name in [&manifest["types"], &manifest["exports"]["."]["types"], &manifest["exports"]["."]["default"]] {
        let name = name.as_str().expect("names are strings");
        assert!(workspace().join("target/npm").join(name).is_file(), "{name}");
    }
}

fn shipped() -> Model {
    model("faces64", &shipped_model("faces64"))
}

/// The picture that a script answers with, as width, height and RGBA.
fn pixels(browser: &Browser, script: &str) -> RgbImage {
    let answer = browser.run(script);
    let size = |name: &str| answer[name].as_u64().expect("sizes are numbers") as u32;
    let data: Vec<u8> = serde_json::from_value(answer["data"].clone()).expect("pixels are bytes");
    let rgb = data.chunks(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    RgbImage::from_raw(size("width"), size("height"), rgb).expect("there are as many pixels as the size says")
}
