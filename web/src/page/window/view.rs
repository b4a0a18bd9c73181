//! The parts of the page around the faces.

use std::cell::Cell;
use std::collections::HashMap;

use lddgan::Truncation;
use wasm_bindgen::JsValue;
use web_sys::HtmlProgressElement;
use web_sys::{Document, Element, HtmlButtonElement, HtmlElement, HtmlFormElement, HtmlInputElement};

use super::dom::{append, document, find};
use crate::faces::ExecutorInfo;
use crate::fetch::FileRecord;
use crate::page::settings::{Settings, TRUNCATIONS, Vary, step_choices, z_step_choices};

/// The attribute of the bar that says how many bytes the program took, which came with the first model.
const PROGRAM: &str = "data-program";

pub struct View {
    document: Document,
    main: HtmlElement,
    /// Count and seed.
    pub form: HtmlFormElement,
    /// How faces are made and move.
    pub explore: HtmlFormElement,
    pub new_button: HtmlButtonElement,
    pub between_button: HtmlButtonElement,
    pub seed: HtmlInputElement,
    pub retry: HtmlButtonElement,
    seed_problem: HtmlElement,
    /// The choices of denoising steps, and of the steps whose z differs.
    steps: Element,
    z_steps: Element,
    /// Those that the model has.
    all_steps: Cell<usize>,
    truncation: HtmlInputElement,
    truncation_value: HtmlElement,
    status: HtmlElement,
    amount: HtmlElement,
    progress: HtmlProgressElement,
    error: HtmlElement,
    notes: HtmlElement,
    note: HtmlElement,
    model: HtmlElement,
    executor: HtmlElement,
    pub speed: Element,
    pub numbers: Element,
}

impl View {
    pub fn new() -> Result<Self, JsValue> {
        let document = &document()?;
        Ok(Self {
            main: find(document, "main")?,
            form: find(document, "#settings")?,
            explore: find(document, "#explore")?,
            new_button: find(document, "#new")?,
            between_button: find(document, "#open-between")?,
            seed: find(document, "#seed")?,
            retry: find(document, "#retry")?,
            seed_problem: find(document, "#seed-problem")?,
            steps: find(document, "#steps")?,
            z_steps: find(document, "#z-steps")?,
            all_steps: 0.into(),
            truncation: find(document, "#truncation")?,
            truncation_value: find(document, "#truncation-value")?,
            status: find(document, "#status")?,
            amount: find(document, "#amount")?,
            progress: find(document, "#progress")?,
            error: find(document, "#error")?,
            notes: find(document, "#notes")?,
            note: find(document, "#note")?,
            model: find(document, "#model")?,
            executor: find(document, "#executor")?,
            speed: find(document, "#speed")?,
            numbers: find(document, "#numbers")?,
            document: document.clone(),
        })
    }

    /// Shows the settings in the forms.
    pub fn show_settings(&self, settings: &Settings) {
        if let Some(seed) = settings.seeds.first() {
            self.seed.set_value(&seed.to_string());
        }
        let vary = match settings.vary {
            Vary::All => "all",
            Vary::Z(_) => "z",
            Vary::X(_) => "x",
        };
        let z_step = settings.z_step.map_or("all".to_owned(), |step| step.to_string());
        let steps = settings.steps.unwrap_or(self.all_steps.get());
        let chosen = [("count", settings.count.to_string()), ("steps", steps.to_string()), ("z-step", z_step)];
        let named = [("vary", vary), ("dtype", settings.dtype.name())].map(|(name, value)| (name, value.to_owned()));
        for (name, value) in chosen.into_iter().chain(named) {
            self.check(name, &value);
        }
        // One step beyond the greatest value there is none.
        let truncation = settings.limit().unwrap_or(TRUNCATIONS.end() + 0.1);
        self.truncation.set_value(&format!("{truncation:.1}"));
        let shown = settings.limit().map_or("off".to_owned(), |limit| format!("±{limit}"));
        self.truncation_value.set_text_content(Some(&shown));
    }

    /// Offers the choices that a model of so many denoising steps leaves.
    pub fn offer_steps(&self, all: usize) -> Result<(), JsValue> {
        self.all_steps.set(all);
        self.steps.set_text_content(None);
        for steps in step_choices(all) {
            append_choice(&self.steps, "steps", &steps.to_string())?.set_text_content(Some(&steps.to_string()));
        }
        while let Some(other) = self.z_steps.query_selector("label:nth-child(2)")? {
            other.remove();
        }
        for t in z_step_choices(all).into_iter().rev() {
            let step = (all + 1 - t).to_string();
            append_choice(&self.z_steps, "z-step", &t.to_string())?.set_text_content(Some(&step));
        }
        Ok(())
    }

    /// Chooses one of several.
    pub fn check(&self, name: &str, value: &str) {
        if let Ok(input) = find::<HtmlInputElement>(&self.document, &format!("input[name={name}][value='{value}']")) {
            input.set_checked(true);
        }
    }

    /// The truncation that the slider says.
    pub fn chosen_truncation(&self) -> Truncation {
        let limit = self.truncation.value().parse().ok().filter(|limit| TRUNCATIONS.contains(limit));
        limit.map_or(Truncation::Off, Truncation::At)
    }

    /// Says what is wrong with the seed that was entered; nothing is, if `problem` is empty.
    pub fn show_seed_problem(&self, problem: &str) -> Result<(), JsValue> {
        self.seed_problem.set_text_content(Some(problem));
        self.seed.set_attribute("aria-invalid", if problem.is_empty() { "false" } else { "true" })
    }

    pub fn show_download(&self, bytes: u64, total: Option<u64>) {
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        // The bar goes on where it was before the program was here.
        let program = self.progress.get_attribute(PROGRAM).and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let (bytes, total) = (bytes + program, total.map(|total| total + program));
        let amount = match total {
            Some(total) => {
                self.progress.set_max(total as f64);
                self.progress.set_value(bytes as f64);
                format!("{} of {} MB", megabytes(bytes), megabytes(total))
            }
            None => format!("{} MB", megabytes(bytes)),
        };
        self.set_state("loading", "Loading the model…");
        self.amount.set_text_content(Some(&amount));
    }

    /// A broken connection may explain a long wait, so it stays on the page.
    pub fn show_interruption(&self, resumed: Option<u64>) {
        let went_on = match resumed {
            Some(bytes) => format!("went on after {:.1} MB", bytes as f64 / 1e6),
            None => "began again".to_owned(),
        };
        self.show_problems(&[format!("The connection broke while the model was loading; the download {went_on}.")]);
    }

    /// Shows or hides the way on after a download that failed.
    pub fn offer_retry(&self, offered: bool) {
        self.retry.set_hidden(!offered);
        if !offered {
            self.clear_error();
        }
    }

    fn clear_error(&self) {
        self.error.set_text_content(None);
        self.error.set_hidden(true);
    }

    /// What the build recorded of a file; nothing in a page that was not published.
    pub fn record(&self, file: &str) -> Option<FileRecord> {
        let list: HtmlElement = find(&self.document, "#files").ok()?;
        let mut list: HashMap<String, FileRecord> = serde_json::from_str(&list.text_content()?).ok()?;
        list.remove(file)
    }

    /// A time of unknown length.
    pub fn show_waiting(&self, text: &str) {
        self.progress.remove_attribute("value").unwrap_or_default();
        self.set_state("loading", text);
    }

    pub fn show_model(&self, name: &str, image_size: usize) {
        self.progress.remove_attribute(PROGRAM).unwrap_or_default();
        self.clear_error();
        self.model.set_text_content(Some(&format!("{name}, {image_size} × {image_size} pixels")));
    }

    /// Says something that changes no state.
    pub fn say(&self, text: &str) {
        self.status.set_text_content(Some(text));
    }

    pub fn show_amount(&self, text: &str) {
        self.amount.set_text_content(Some(text));
    }

    /// A model was refused, and the one before it stays.
    pub fn show_refused(&self, reason: &str) {
        self.set_state("done", reason);
    }

    pub fn show_executor(&self, info: &ExecutorInfo) {
        self.executor.set_text_content(Some(&info.name));
        if let Ok(f16) = find::<HtmlInputElement>(&self.document, "input[name=dtype][value=f16]") {
            f16.set_disabled(!info.f16);
        }
        self.note.set_text_content(info.note.as_deref());
    }

    /// Shows what is wrong with the page's address.
    pub fn show_problems(&self, problems: &[String]) {
        for problem in problems {
            if let Ok(item) = self.document.create_element("li") {
                item.set_text_content(Some(problem));
                let shown = self.notes.append_child(&item).is_ok();
                self.notes.set_hidden(!shown);
            }
        }
    }

    pub fn show_making(&self, count: usize) {
        self.clear_error();
        let text = if count == 1 { "Making a face…".to_owned() } else { format!("Making {count} faces…") };
        self.set_state("making", &text);
        self.show_progress(0, count);
    }

    pub fn show_progress(&self, done: usize, count: usize) {
        self.progress.set_max(count as f64);
        self.progress.set_value(done as f64);
        self.amount.set_text_content(Some(&format!("{done} of {count}")));
    }

    pub fn show_done(&self, count: usize, seconds: f64) {
        // What went wrong meanwhile stays to be read.
        if !self.error.hidden() {
            return;
        }
        let text = match count {
            1 => format!("A face in {}.", duration(seconds)),
            _ => format!("{count} faces in {}, {} each.", duration(seconds), duration(seconds / count as f64)),
        };
        self.set_state("done", &text);
    }

    /// Shows an error after which no faces can be made.
    pub fn fail(&self, reason: &str) {
        if self.error.hidden() {
            self.error.set_text_content(Some(reason));
            self.error.set_hidden(false);
        }
        self.set_state("failed", "No faces can be made.");
    }

    /// `state` is for the style sheet, `text` for people; how much of it is done is not known.
    fn set_state(&self, state: &str, text: &str) {
        self.main.set_attribute("data-state", state).unwrap_or_default();
        self.amount.set_text_content(None);
        // Screen readers read it out again even if it is set to the same.
        if self.status.text_content().as_deref() != Some(text) {
            self.status.set_text_content(Some(text));
        }
    }
}

/// Adds a radio button to a row of choices; gives the element for its words.
fn append_choice(row: &Element, name: &str, value: &str) -> Result<Element, JsValue> {
    let label = append(row, "label", "")?;
    let input = append(&label, "input", "")?;
    for (attribute, value) in [("type", "radio"), ("name", name), ("value", value)] {
        input.set_attribute(attribute, value)?;
    }
    append(&label, "span", "")
}

/// Seconds as people read them.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1000.0),
        s if s < 9.95 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}
