//! The parts of the page around the faces.

use std::collections::HashMap;

use wasm_bindgen::{JsCast, JsValue};
use web_sys::HtmlProgressElement;
use web_sys::{Document, Event, HtmlButtonElement, HtmlElement, HtmlFormElement, HtmlInputElement};

use crate::page::protocol::{ExecutorInfo, FileRecord};
use crate::page::settings::Settings;

pub struct View {
    document: Document,
    main: HtmlElement,
    pub form: HtmlFormElement,
    pub new_button: HtmlButtonElement,
    pub seed: HtmlInputElement,
    pub retry: HtmlButtonElement,
    seed_problem: HtmlElement,
    status: HtmlElement,
    amount: HtmlElement,
    progress: HtmlProgressElement,
    error: HtmlElement,
    notes: HtmlElement,
    note: HtmlElement,
    model: HtmlElement,
    executor: HtmlElement,
}

/// The element of index.html that this CSS selector names.
pub fn find<E: JsCast>(document: &Document, selector: &str) -> Result<E, JsValue> {
    let found = document.query_selector(selector)?.and_then(|element| element.dyn_into().ok());
    found.ok_or_else(|| format!("index.html has no fitting {selector}").into())
}

impl View {
    pub fn new(document: &Document) -> Result<Self, JsValue> {
        Ok(Self {
            main: find(document, "main")?,
            form: find(document, "#settings")?,
            new_button: find(document, "#new")?,
            seed: find(document, "#seed")?,
            retry: find(document, "#retry")?,
            seed_problem: find(document, "#seed-problem")?,
            status: find(document, "#status")?,
            amount: find(document, "#amount")?,
            progress: find(document, "#progress")?,
            error: find(document, "#error")?,
            notes: find(document, "#notes")?,
            note: find(document, "#note")?,
            model: find(document, "#model")?,
            executor: find(document, "#executor")?,
            document: document.clone(),
        })
    }

    pub fn show_settings(&self, settings: &Settings) {
        if let Some(seed) = settings.seed {
            self.seed.set_value(&seed.to_string());
        }
        let selector = format!("input[name=count][value='{}']", settings.count);
        if let Ok(input) = find::<HtmlInputElement>(&self.document, &selector) {
            input.set_checked(true);
        }
    }

    /// The count that a change in the form chose.
    pub fn chosen_count(event: &Event) -> Option<usize> {
        let input: HtmlInputElement = event.target()?.dyn_into().ok()?;
        (input.name() == "count").then(|| input.value().parse().ok())?
    }

    /// Says what is wrong with the seed that was entered; nothing is, if `problem` is empty.
    pub fn show_seed_problem(&self, problem: &str) -> Result<(), JsValue> {
        self.seed_problem.set_text_content(Some(problem));
        self.seed.set_attribute("aria-invalid", if problem.is_empty() { "false" } else { "true" })
    }

    pub fn show_download(&self, bytes: u64, total: Option<u64>) {
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
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
        self.error.set_hidden(!offered);
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
        self.model.set_text_content(Some(&format!("{name}, {image_size} × {image_size} pixels")));
        self.new_button.set_disabled(false);
    }

    pub fn show_executor(&self, info: &ExecutorInfo) {
        self.executor.set_text_content(Some(&info.name));
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
        self.new_button.set_disabled(true);
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

/// Seconds as people read them.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1000.0),
        s if s < 9.95 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}
