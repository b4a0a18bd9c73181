//! The package, as another page uses it.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use image::{GenericImageView, RgbImage};
use lddgan::Model;
use lddgan_tests::not_run;
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
    assert_eq!(browser.text("p"), "4 faces, made by WebAssembly on the CPU");
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
        const g = await Lddgan.load('faces64.safetensors', { onProgress, executor: 'candle' });
        if (!g.executor.startsWith('WebAssembly on the CPU')) throw new Error(g.executor);
        const { bytes, total } = told.at(-1);
        if (bytes !== total || told.length < 2) throw new Error(`${bytes} of ${total}`);
        const [fast] = await g.generate({ seed: 7n, steps: 1, executor: 'webgpu', dtype: 'f32' });
        if (!g.executor.startsWith('WebGPU') || g.imageSize !== 64) throw new Error(g.executor);
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
        ("await Lddgan.load('faces64.safetensors', { executor: 'cuda' })", "executor must be webgpu, cpu or auto"),
        ("const g = await load(); await g.generate({ seed: -1 })", "seed must be a whole number"),
        ("const g = await load(); await g.generate({ name: ' ' })", "name must have 1 to 80 characters"),
        ("const g = await load(); await g.generate({ count: 0 })", "count must be a whole number from 1 to 1024"),
        ("const g = await load(); await g.generate({ steps: 5 })", "steps must be a whole number from 1 to 4"),
        ("await Lddgan.load('example.html')", "the server answered with a web page: is the address right?"),
        ("await Lddgan.load('index.js')", "index.js: not a whole safetensors file"),
        ("const g = await load(); await g.generate({ dtype: 'f64' })", "dtype must be f32 or f16"),
        (
            "const g = await load(); g.free(); await g.generate()",
            "This model was given back with free(); load it again.",
        ),
        ("const g = await load(); g.free(); g.executor", "This model was given back with free(); load it again."),
        (
            "await (await fetch('index.js')).blob().then((wasmUrl) => import('./index.js?other')
                 .then(({ Lddgan }) => Lddgan.load('faces64.safetensors', { wasmUrl, worker: true })))",
            "The program (program_bg.wasm) cannot be loaded.",
        ),
        (
            "await (await fetch('index.js')).blob().then((relaxedWasmUrl) => import('./index.js?another')
                 .then(({ Lddgan }) => Lddgan.load('faces64.safetensors', { relaxedWasmUrl, worker: true })))",
            "The program (relaxed_bg.wasm) cannot be loaded.",
        ),
    ];
    for (script, words) in refused {
        let load = "const load = () => Lddgan.load('faces64.safetensors', { executor: 'cpu' });";
        let error = run(&format!("{load} {script}"));
        assert!(
            error.as_str().is_some_and(|error| error.starts_with("Error: ") && error.contains(words)),
            "{script}: {error}"
        );
    }
}

/// Here, and in a worker, which answers as the program does.
const PLACES: [&str; 2] = ["{}", "{ worker: true }"];

#[test]
fn a_worker_makes_the_same_faces_and_shows_the_steps() {
    let (browser, _server) = open();
    for place in PLACES {
        let face = pixels(
            &browser,
            &format!(
                "return (async () => {{
                   const {{ Lddgan }} = await import('./index.js');
                   const [told, seen] = [[], []];
                   const onProgress = (progress) => told.push(progress);
                   const g = await Lddgan.load('faces64.safetensors', {{ onProgress, executor: 'cpu', ...{place} }});
                   const {{ bytes, total }} = told.at(-1);
                   if (bytes !== total || told.length < 2) throw new Error(`${{bytes}} of ${{total}}`);
                   if (g.imageSize !== 64 || g.steps !== 4 || !g.executor.startsWith('WebAssembly on the CPU')) throw new Error(g.executor);
                   const canvas = document.createElement('canvas');
                   const onStep = ({{ face, step, image }}) => seen.push([face, step, image.data.join()]);
                   const faces = await g.generate({{ seed: 7, count: 2, onStep, canvas }});
                   const steps = seen.map(([face, step]) => `${{face}}/${{step}}`).join();
                   if (steps !== '0/0,0/1,0/2,0/3,0/4,1/0,1/1,1/2,1/3,1/4') throw new Error(steps);
                   if (seen[4][2] !== faces[0].data.join()) throw new Error('the last step is the face');
                   if (canvas.width !== 128 || canvas.height !== 64) throw new Error('the canvas is too small');
                   g.free();
                   const {{ width, height, data }} = faces[0];
                   return {{ width, height, data: [...data] }};
                 }})()"
            ),
        );
        assert_same(&face, &native(&shipped(), 7), place);
    }
    assert_eq!(browser.errors(), [""; 0]);
}

/// Loading, and making faces, after which others can be made.
#[test]
fn what_runs_can_be_ended() {
    let server = Server::serve(&workspace().join("target/npm"), "", HashMap::new());
    let browser = Browser::start();
    for place in PLACES {
        server.stall("faces64.safetensors", 1_000_000);
        // Not the example, which would get the answer that stands still.
        browser.open(&format!("{}package.json", server.address));
        let told = browser.run(&format!(
            "return (async () => {{
               const {{ Lddgan }} = await import('./index.js');
               const options = {{ executor: 'cpu', ...{place} }};
               const load = new AbortController();
               const onProgress = ({{ bytes }}) => bytes >= 1e6 && load.abort();
               const first = Lddgan.load('faces64.safetensors', {{ ...options, onProgress, signal: load.signal }});
               const told = [await first.catch((error) => error.name)];
               const g = await Lddgan.load('faces64.safetensors', options);
               const make = new AbortController();
               const many = g.generate({{ count: 1000, signal: make.signal }});
               const [next] = [g.generate({{ seed: 7 }})];
               make.abort(new Error('enough'));
               told.push(await many.catch((error) => error.message), (await next).length);
               const late = {{ signal: AbortSignal.abort(new Error('too late')) }};
               told.push(await g.generate(late).catch((error) => error.message));
               return told;
             }})()"
        ));
        assert_eq!(told, serde_json::json!(["AbortError", "enough", 1, "too late"]), "{place}");
    }
}

/// The oldest version that the package is made for.
const NODE: u32 = 18;

#[test]
fn node_makes_the_faces_of_the_native_program() {
    let answer = Command::new("node").arg("--version").output();
    let version = answer.ok().and_then(|answer| String::from_utf8(answer.stdout).ok());
    let major = version.as_deref().and_then(|version| version.trim_start_matches('v').split('.').next()?.parse().ok());
    if major.is_none_or(|major: u32| major < NODE) {
        return not_run(&format!("Node {NODE} or newer is not installed"));
    }
    let folder = workspace().join("target/npm");
    let node = |script: &str| {
        let mut node = Command::new("node");
        let output = node.args(["--input-type=module", "-e", script]).current_dir(&folder).output();
        let output = output.expect("node has answered before");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("node writes UTF-8")
    };
    assert_eq!(node("for (const file of ['index', 'node']) await import(`./${file}.js`);"), "");
    let told = node(
        "import { Lddgan } from 'lddgan';
         const g = await Lddgan.load('faces64.safetensors', { executor: 'cpu' });
         const [{ width, height, data }] = await g.generate({ seed: 7 });
         const refused = await Lddgan.load('faces64.safetensors', { worker: true }).catch((error) => error.message);
         console.log(JSON.stringify({ width, height, data: [...data], refused }));",
    );
    let told: Value = serde_json::from_str(&told).expect("it is JSON");
    assert_same(&picture(&told), &native(&shipped(), 7), "seed 7");
    assert!(told["refused"].as_str().is_some_and(|words| words.contains("node:worker_threads")), "{told}");
}

/// Bundlers and compilers take the first condition that they know, and `default` is known to all.
#[test]
fn the_manifest_leads_to_files_that_are_there() {
    let read = |name| fs::read_to_string(workspace().join("target/npm").join(name)).expect("the package is whole");
    let manifest = read("package.json");
    let place = |word: &str| manifest.find(&format!("\"{word}\": \"./")).unwrap_or_else(|| panic!("no {word}"));
    assert!(place("types") < place("node") && place("node") < place("default"), "{manifest}");
    let manifest: Value = serde_json::from_str(&manifest).expect("it is JSON");
    let mut names = vec![&manifest["types"]];
    for entry in manifest["exports"].as_object().expect("exports are an object").values() {
        names.extend(entry.as_object().map_or(vec![entry], |conditions| conditions.values().collect()));
    }
    for name in names {
        let name = name.as_str().expect("names are strings");
        assert!(workspace().join("target/npm").join(name).is_file(), "{name}");
    }
    // A page that imports the package waits for nothing.
    for name in ["index.js", "local.js", "remote.js", "program.js"] {
        assert!(!read(name).lines().any(|line| line.starts_with("await ")), "{name}");
    }
    let types = read("index.d.ts");
    for name in ["load(source", "generate(options", "imageSize", "steps", "executor", "note", "free()"] {
        assert!(types.contains(name), "{name}");
    }
}

fn shipped() -> Model {
    model("faces64", &shipped_model("faces64"))
}

/// The picture that a script answers with, as width, height and RGBA.
fn pixels(browser: &Browser, script: &str) -> RgbImage {
    picture(&browser.run(script))
}

fn picture(answer: &Value) -> RgbImage {
    let size = |name: &str| answer[name].as_u64().expect("sizes are numbers") as u32;
    let data: Vec<u8> = serde_json::from_value(answer["data"].clone()).expect("pixels are bytes");
    let rgb = data.chunks(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    RgbImage::from_raw(size("width"), size("height"), rgb).expect("there are as many pixels as the size says")
}
