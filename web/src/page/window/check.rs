//! "Check this device": reports, stage by stage, and their files.

use std::cell::RefCell;
use std::rc::Rc;

use lddgan::check::{IMAGE_PSNR, LATENT_TOLERANCE, Report, StageDifference};
use wasm_bindgen::prelude::*;
use web_sys::{Element, HtmlButtonElement, HtmlElement};

use super::App;
use super::dom::{append, append_fact, document, find, listen};
use super::save::save;
use crate::page::protocol::Request;

pub struct Check {
    pub button: HtmlButtonElement,
    status: HtmlElement,
    reports: Element,
    /// What was said so far.
    verdicts: RefCell<Vec<String>>,
}

impl Check {
    pub fn new() -> Result<Self, JsValue> {
        let document = document()?;
        Ok(Self {
            button: find(&document, "#check")?,
            status: find(&document, "#check-status")?,
            reports: find(&document, "#reports")?,
            verdicts: Vec::new().into(),
        })
    }

    /// Forgets what it found.
    pub fn clear(&self) {
        self.verdicts.borrow_mut().clear();
        self.reports.set_text_content(None);
        self.say("");
    }

    pub fn say(&self, text: &str) {
        self.status.set_text_content(Some(text));
    }

    fn show(&self, report: &Report) -> Result<(), JsValue> {
        let name = match report.executor.as_str() {
            "webgpu" => "WebGPU",
            "cpu" => "CPU",
            _ => "Candle",
        };
        let verdict = if report.passed { "passed" } else { "failed" };
        self.verdicts.borrow_mut().push(format!("{name} {verdict}."));
        let section = append(&self.reports, "section", "")?;
        section.set_class_name(verdict);
        append(&section, "h2", &format!("{name}: {verdict}"))?;
        append(&section, "p", &report.device)?.set_class_name("help");
        table(&section, &report.stages)?;
        let more = append(&section, "details", "")?;
        append(&more, "summary", "Tolerance, browser, limits")?;
        let list = append(&more, "dl", "")?;
        let tolerance =
            format!("noise equal, latents within {LATENT_TOLERANCE}, image at {IMAGE_PSNR:.0} dB PSNR or more");
        append_fact(&list, "Tolerance", &tolerance)?;
        append_fact(&list, "Browser", &report.platform)?;
        for (limit, value) in &report.limits {
            append_fact(&list, limit, &value.to_string())?;
        }
        if !report.features.is_empty() {
            append_fact(&list, "Features", &report.features.join(", "))?;
        }
        let button = append(&section, "button", "Save the report")?;
        button.set_attribute("type", "button")?;
        let json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
        let file = format!("check-{}-{}.json", report.subject.model, report.executor);
        listen(&button, "click", move |_| {
            if let Err(error) = save(&file, "application/json", json.as_bytes()) {
                wasm_bindgen::throw_val(error);
            }
        })
    }
}

fn table(section: &Element, stages: &[StageDifference]) -> Result<(), JsValue> {
    let table = append(section, "table", "")?;
    let head = append(&append(&table, "thead", "")?, "tr", "")?;
    for title in ["Stage", "Largest error", "Mean", "PSNR", ""] {
        append(&head, if title.is_empty() { "td" } else { "th" }, title)?;
    }
    let body = append(&table, "tbody", "")?;
    for stage in stages {
        let row = append(&body, "tr", "")?;
        append(&row, "th", &stage.name)?.set_attribute("scope", "row")?;
        let error = |value: f64| if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") };
        let psnr = stage.psnr.map(|psnr| format!("{psnr:.1} dB")).unwrap_or_default();
        let verdict = if stage.passed { "✓" } else { "✗" };
        for text in [error(stage.max_error), error(stage.mean_error), psnr] {
            append(&row, "td", &text)?;
        }
        let verdict = append(&row, "td", verdict)?;
        verdict.set_attribute("aria-label", if stage.passed { "passed" } else { "failed" })?;
    }
    Ok(())
}

impl App {
    pub fn start_check(self: &Rc<Self>) -> Result<(), JsValue> {
        self.check.clear();
        if self.models.is_own() {
            self.check
                .say("A file of your own has no golden tensors here; `lddgan golden` and `lddgan check` compare it.");
            return Ok(());
        }
        self.check.button.set_disabled(true);
        self.check.say("Checking…");
        let (url, expected) = self.model_file("golden.safetensors")?;
        self.send(&Request::Check { url, expected })
    }

    pub fn show_report(&self, report: &Report, last: bool) -> Result<(), JsValue> {
        self.check.show(report)?;
        let said = self.check.verdicts.borrow().join(" ");
        self.check.say(&if last { said } else { format!("{said} Going on…") });
        self.check.button.set_disabled(!last);
        Ok(())
    }

    pub fn end_check(&self, reason: &str) {
        self.check.say(reason);
        self.check.button.set_disabled(false);
    }
}
