//! The whole screen, for an audience.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::page::{Page, tiny};

const QUERY: &str = "?seed=3&count=4&model=tiny&executor=cpu";
const PAGE_UP: &str = "\u{e00e}";
const PAGE_DOWN: &str = "\u{e00f}";
const RIGHT: &str = "\u{e014}";
const ESCAPE: &str = "\u{e00c}";

/// Notes what is said, and how much of each picture covers the one before.
const RECORD: &str = "
    window.said = [];
    const words = document.querySelector('#speaker-words');
    new MutationObserver(() => window.said.push(words.textContent)).observe(words, { childList: true });
    window.faded = false;
    const draw = CanvasRenderingContext2D.prototype.drawImage;
    CanvasRenderingContext2D.prototype.drawImage = function (...rest) {
      if (this.canvas.id === 'speaker-face' && this.globalAlpha < 1) window.faded = true;
      return draw.apply(this, rest);
    };";

impl Page {
    /// Waits until this face has the screen, and is whole.
    pub fn wait_for_speaker(&self, seed: u64) {
        let title = format!("Face {seed}");
        let is_whole = || {
            self.browser.text("#speaker-title") == title
                && self.browser.text("#speaker-words") == "This person does not exist."
        };
        self.browser.wait(&title, is_whole);
    }
}

fn is_open(page: &Page) -> Value {
    page.browser.run("return [document.querySelector('#speaker').open, document.fullscreenElement !== null]")
}

#[test]
fn a_face_is_born_on_the_whole_screen_and_a_clicker_goes_on() {
    let page = Page::open(QUERY);
    page.finish();
    page.browser.run(RECORD);
    page.browser.press("body", "f");
    page.wait_for_speaker(3);
    page.assert_shown("#speaker-face", &page.native(3u64));
    let steps = ["Noise", "Step 1 of 4", "Step 2 of 4", "Step 3 of 4", "This person does not exist."];
    assert_eq!(page.browser.run("return window.said"), json!(steps));
    assert_eq!(page.browser.run("return window.faded"), true);
    for (key, seed) in [(PAGE_DOWN, 4), (RIGHT, 5), (PAGE_UP, 4)] {
        page.browser.type_keys(key);
        page.wait_for_speaker(seed);
        page.assert_shown("#speaker-face", &page.native(seed));
    }
    // A finger that goes to the right leads back.
    page.browser.run(
        "for (const [kind, clientX] of [['pointerdown', 100], ['click', 300]])
           document.querySelector('#scene').dispatchEvent(new MouseEvent(kind, { clientX, bubbles: true }))",
    );
    page.wait_for_speaker(3);
    page.browser.type_keys(ESCAPE);
    page.browser.wait("the page", || is_open(&page) == json!([false, false]));
    assert_eq!(page.shown_seeds(), [3, 4, 5, 6]);
}

#[test]
fn without_motion_the_steps_follow_each_other_and_do_not_fade() {
    let still = [("prefers-reduced-motion", "reduce")];
    let page =
        Page::with_files("tiny", &tiny(1), HashMap::new(), QUERY, |browser: &Browser| browser.emulate(360, &still));
    page.finish();
    page.browser.run(RECORD);
    page.browser.click("#present");
    page.wait_for_speaker(3);
    assert_eq!(page.browser.run("return [window.said.length, window.faded]"), json!([5, false]));
    page.assert_shown("#speaker-face", &page.native(3u64));
    // A screen that is touched has no keys.
    page.browser.run("document.querySelector('#scene .close').click()");
    page.browser.wait("the page", || is_open(&page) == json!([false, false]));
}
