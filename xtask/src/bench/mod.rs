//! `cargo xtask bench web`: our executors and ONNX Runtime's in one browser, on the same network.

#[cfg(target_os = "linux")]
mod launches;
mod server;

use crate::command::{command, run};
use crate::install::{Packages, install_missing};
use crate::page::Program;
use crate::tools::{Purpose, find_program};
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[derive(Subcommand)]
pub enum Options {
    /// Generator and decoder in a headless Chromium: ours and onnxruntime-web, under WebGPU and in WebAssembly
    Web(Web),
    /// What a training step asks of an NVIDIA GPU: launches, copies and waits, counted without a GPU
    #[cfg(target_os = "linux")]
    Launches(launches::Options),
}

#[derive(Args)]
pub struct Web {
    /// Model file
    #[arg(long, value_name = "FILE", default_value = "web/models/faces64.safetensors")]
    model: PathBuf,
    /// Numbers of images computed at a time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16])]
    batches: Vec<usize>,
    /// How long each network is timed at each batch; every runtime is timed once at least
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Take the computer's GPU; without this, the software adapter that comes with Chromium
    #[arg(long)]
    gpu: bool,
    /// Time WebAssembly alone: software adapters are slow
    #[arg(long)]
    cpu: bool,
    /// File that gets the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What web.js found.
#[derive(Serialize, Deserialize)]
struct Report {
    adapter: String,
    browser: String,
    /// Of onnxruntime-web in WebAssembly; 0 lets it choose.
    threads: usize,
    first: FirstImage,
    times: Vec<Time>,
}

/// Milliseconds up to the first image of a page that was just opened.
#[derive(Serialize, Deserialize)]
struct FirstImage {
    /// To compile the program.
    program: f64,
    /// To read the model and open the device.
    load: f64,
    /// To make pipelines and upload weights.
    compile: f64,
    /// All steps and the decoder.
    image: f64,
}

#[derive(Serialize, Deserialize)]
struct Time {
    network: String,
    batch: usize,
    runtime: String,
    /// The largest difference from the first runtime's result.
    difference: f64,
    milliseconds: Summary,
}

#[derive(Serialize, Deserialize)]
struct Summary {
    trials: usize,
    median: f64,
    fastest: f64,
    slowest: f64,
}

pub fn bench(options: &Options) -> Result<()> {
    match options {
        Options::Web(options) => web(options),
        #[cfg(target_os = "linux")]
        Options::Launches(options) => launches::launches(options),
    }
}

fn web(options: &Web) -> Result<()> {
    ensure!(!options.batches.is_empty() && !options.batches.contains(&0), "--batches must be positive numbers");
    install_missing(Purpose::Tests, Packages::Name)?;
    let folder = workspace::root().join("target/bench-web");
    prepare(&folder, options)?;
    let server = server::Server::start(&folder)?;
    let _browser = Browser::start(&server.address("web.html"), options.gpu)?;
    let report = server.report()?;
    let report: serde_json::Value = serde_json::from_str(&report).context("the page sent no report")?;
    if let Some(error) = report.get("error") {
        bail!("the page failed: {}", error.as_str().unwrap_or_default());
    }
    let report: Report = serde_json::from_value(report)?;
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_vec_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    print!("{}", table(&report));
    Ok(())
}

/// Fills the folder that is served: our program, onnxruntime-web, the model in both forms, the page.
fn prepare(folder: &Path, options: &Web) -> Result<()> {
    fs::create_dir_all(folder)?;
    let at = |name: &str| folder.join(name).display().to_string();
    Program::Relaxed.build(&["bench"])?;
    let bindgen = find_program("wasm-bindgen").context("wasm-bindgen is not installed")?;
    let (program, out) = (Program::Relaxed.compiled().display().to_string(), at("lddgan"));
    run(&mut command(bindgen, [program.as_str(), "--target", "web", "--no-typescript", "--out-dir", out.as_str()]))?;
    if !folder.join("node_modules/onnxruntime-web").exists() {
        run(&mut command("npm", ["install", "--no-audit", "--no-fund", "--prefix", &at(""), "onnxruntime-web"]))?;
    }
    let model = options.model.display().to_string();
    let export =
        ["run", "--release", "--package", "lddgan-trainer", "--", "export", "--model", model.as_str(), "--onnx"];
    run(command("cargo", export).arg(folder))?;
    fs::copy(workspace::root().join(&options.model), folder.join("model.safetensors")).context(model)?;
    let settings = serde_json::json!({ "batches": options.batches, "seconds": options.seconds, "cpu": options.cpu });
    fs::write(folder.join("settings.json"), settings.to_string())?;
    fs::write(folder.join("web.html"), include_str!("web.html"))?;
    fs::write(folder.join("web.js"), include_str!("web.js"))?;
    Ok(())
}

/// A Chromium without a window, which ends with this value.
struct Browser(Child);

impl Browser {
    fn start(address: &str, gpu: bool) -> Result<Self> {
        let program = find_program("chromium").or_else(|| find_program("google-chrome"));
        let profile = workspace::root().join("target/bench-web/profile");
        let mut browser = Command::new(program.context("Chromium is not installed")?);
        browser.args(["--headless=new", "--no-sandbox", "--no-first-run", "--disable-background-networking"]);
        browser.args(["--enable-unsafe-webgpu", "--enable-features=Vulkan"]);
        browser.args((!gpu).then_some("--use-webgpu-adapter=swiftshader"));
        browser.arg(format!("--user-data-dir={}", profile.display())).arg(address);
        browser.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(browser.spawn().context("Chromium cannot be started")?))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Nothing is lost with it.
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

/// The figures in Markdown: for each network and batch, the runtimes, each beside the first.
fn table(report: &Report) -> String {
    let Report { adapter, browser, first, times, .. } = report;
    let FirstImage { program, load, compile, image } = first;
    let mut text = format!(
        "{browser}, {adapter}\n\nTo the first image: program {program:.0} ms, model and device {load:.0} ms, pipelines and \
         weights {compile:.0} ms, image {image:.0} ms.\n\n| network | batch | runtime | median | fastest to slowest | \
         ratio to the first | difference |\n|---|---|---|---|---|---|---|\n"
    );
    for time in times {
        let same = |other: &&Time| (&other.network, other.batch) == (&time.network, time.batch);
        let ours = times.iter().find(same).map_or(f64::NAN, |time| time.milliseconds.median);
        let Summary { median, fastest, slowest, .. } = time.milliseconds;
        text += &format!(
            "| {} | {} | {} | {median:.1} ms | {fastest:.1} to {slowest:.1} ms | {:.2} | {:.0e} |\n",
            time.network,
            time.batch,
            time.runtime,
            median / ours,
            time.difference
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_one_network_and_batch() {
        let time = |batch: usize, runtime: &str, median: f64| Time {
            network: "decoder".to_string(),
            batch,
            runtime: runtime.to_string(),
            difference: 0.0,
            milliseconds: Summary { trials: 1, median, fastest: median, slowest: median },
        };
        let report = Report {
            adapter: "adapter".to_string(),
            browser: "browser".to_string(),
            threads: 1,
            first: FirstImage { program: 1.0, load: 2.0, compile: 3.0, image: 4.0 },
            times: vec![time(1, "ours", 2.0), time(1, "other", 5.0), time(4, "ours", 10.0), time(4, "other", 5.0)],
        };
        let text = table(&report);
        let ratios: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("| decoder"))
            .filter_map(|line| line.split(" | ").nth(5))
            .collect();
        assert_eq!(ratios, ["1.00", "2.50", "1.00", "0.50"]);
    }
}
