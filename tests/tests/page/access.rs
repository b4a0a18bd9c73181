//! The page for everyone: an accessibility checker, the keyboard, and narrow screens.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::browser::Browser;
use crate::page::{Page, tiny};

const QUERY: &str = "?seed=0&count=4&model=tiny&executor=cpu";
/// What opens each dialog.
const DIALOGS: [&str; 4] = [".face", "#open-between", "#open-card", "#present"];

/// The text of axe-core, an accessibility checker.
fn axe() -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm");
    let script = folder.join("node_modules/axe-core/axe.min.js");
    if !script.is_file() {
        let mut npm = Command::new("npm");
        let installed =
            npm.args(["install", "--no-save", "--no-audit", "--prefix"]).arg(&folder).arg("axe-core@4").status();
        assert!(installed.is_ok_and(|status| status.success()), "`npm install axe-core` fails; this test needs npm");
    }
    fs::read_to_string(script).expect("axe-core was installed")
}

#[test]
fn an_accessibility_checker_finds_nothing() {
    let axe = axe();
    for scheme in ["light", "dark"] {
        let prepare = |browser: &Browser| {
            browser.emulate(1280, &[("prefers-color-scheme", scheme), ("prefers-reduced-motion", "reduce")]);
        };
        let page = Page::with_files("tiny", &tiny(1), HashMap::new(), QUERY, prepare);
        page.finish();
        page.open_panels();
        page.browser.run(&axe);
        assert_accessible(&page, &format!("the page, {scheme}"));
        for opener in DIALOGS {
            page.browser.click(opener);
            assert_accessible(&page, &format!("{opener}, {scheme}"));
            page.browser.click("dialog[open] .close");
        }
    }
}

fn assert_accessible(page: &Page, what: &str) {
    page.browser.run("window.found = null; axe.run().then(({ violations }) => { window.found = violations; })");
    page.browser.wait("the accessibility checker", || !page.browser.run("return window.found").is_null());
    let found = page.browser.run(
        "return window.found.map(({ id, nodes }) => id + ': ' + nodes.map((node) => node.html + ' ' + node.failureSummary))",
    );
    assert_eq!(found, Value::Array(Vec::new()), "{what}");
}

#[test]
fn nothing_is_wider_than_a_small_phone() {
    let prepare = |browser: &Browser| browser.emulate(360, &[]);
    let page = Page::with_files("tiny", &tiny(1), HashMap::new(), QUERY, prepare);
    page.finish();
    page.open_panels();
    let width = "return Math.max(document.documentElement.scrollWidth,
        ...Array.from(document.querySelectorAll('dialog[open], dialog[open] *'), (part) => part.getBoundingClientRect().right))";
    let fits = |what: &str| {
        let width = page.browser.run(width).as_f64().unwrap_or(f64::INFINITY);
        assert!(width <= 360.0, "{what} is {width} pixels wide");
    };
    fits("the page");
    for opener in DIALOGS {
        page.browser.click(opener);
        fits(opener);
        page.browser.click("dialog[open] .close");
    }
}

/// From the address bar, with the keys of a keyboard alone.
#[test]
fn every_control_is_reached_with_the_tab_key() {
    let page = Page::open(QUERY);
    page.finish();
    let mut reached = Vec::new();
    for _ in 0..15 {
        page.browser.type_keys("\u{e004}");
        let focused = page.browser.run("const e = document.activeElement; return e.id || e.className || e.innerText");
        reached.push(focused.as_str().unwrap_or_default().to_owned());
    }
    for control in ["play", "new", "Choose faces", "Explore", "Model", "For experts", "morph", "face shown"] {
        assert!(reached.iter().any(|reached| reached == control), "{control}: {reached:?}");
    }
}
