//! "Check this device".

use std::collections::HashMap;

use candle_core::Device;
use lddgan::ModelFile;
use lddgan::check::{Golden, Report, Subject, stages};
use lddgan::hash::sha256;

use crate::page::{Page, tiny};

/// What `lddgan golden` records of these model files.
fn golden(model: &[u8], claimed: &[u8]) -> Vec<u8> {
    let file = ModelFile::from_bytes(model, "").expect("the model is whole");
    let model = file.model("", &Device::Cpu).expect("the model is whole");
    let seeds = vec![0, 1];
    let trajectory = model.sample_seeds(&seeds, &Device::Cpu).expect("the model runs");
    let stages = stages(&model, &seeds, &trajectory).expect("the model runs");
    let subject = Subject { model: "tiny".to_owned(), sha256: sha256(claimed), seeds };
    Golden { subject, stages }.to_bytes().expect("tensors can be written to memory")
}

fn checked(golden: Vec<u8>) -> Page {
    let files = HashMap::from([("models/tiny.golden.safetensors".to_owned(), golden)]);
    let page = Page::with_files("tiny", &tiny(1), files, "?seed=0&count=1&model=tiny&executor=webgpu", |_| {});
    page.finish();
    page.open_panels();
    page.browser.click("#check");
    let done = || page.browser.run("return !document.querySelector('#check').disabled") == true;
    page.browser.wait("the end of the check", done);
    page
}

#[test]
fn all_executors_make_the_golden_tensors() {
    let page = checked(golden(&tiny(1), &tiny(1)));
    assert_eq!(page.browser.text("#check-status"), "WebGPU passed. CPU passed. Candle passed.");
    for (child, executor) in [(1, "webgpu"), (2, "cpu"), (3, "candle")] {
        page.browser.click(&format!("#reports > :nth-child({child}) button"));
        let json = page.browser.downloaded(&format!("check-tiny-{executor}.json"));
        let report: Report = serde_json::from_slice(&json).expect("a report has the schema of `lddgan check`");
        assert!(report.passed && report.executor == executor && report.platform.contains("Chrome"), "{report:?}");
        let names: Vec<&str> = report.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert!(names.contains(&"x") && names.contains(&"latent/4") && names.ends_with(&["latent/0", "image"]));
        assert_eq!(report.limits.contains_key("maxBufferSize"), executor == "webgpu");
    }
}

/// The golden tensors of another model fail, stage by stage: the noise is the same.
#[test]
fn a_device_that_computes_something_else_fails() {
    let page = checked(golden(&tiny(2), &tiny(1)));
    assert_eq!(page.browser.text("#check-status"), "WebGPU failed. CPU failed. Candle failed.");
    let rows =
        "return Array.from(document.querySelectorAll('#reports > :first-child tbody tr'), (row) => row.textContent)";
    let rows: Vec<String> = serde_json::from_value(page.browser.run(rows)).expect("a list of texts");
    let row = |name: &str| rows.iter().find(|row| row.starts_with(name)).unwrap_or_else(|| panic!("{name}: {rows:?}"));
    assert!(
        row("latent/4").ends_with('✓') && row("latent/0").ends_with('✗') && row("image").ends_with('✗'),
        "{rows:?}"
    );
}

#[test]
fn golden_tensors_of_another_file_are_refused() {
    let page = checked(golden(&tiny(1), &tiny(2)));
    let status = page.browser.text("#check-status");
    assert!(status.contains("was not made with this model file"), "{status}");
}
