//! The page in motion.

use std::collections::HashMap;

use crate::page::{Page, tiny};

#[test]
fn faces_change_one_by_one_until_the_page_is_paused() {
    let page = Page::open("?count=4&model=tiny&executor=cpu");
    page.finish();
    let first = page.shown_seeds();
    assert_eq!(first.len(), 4);
    page.browser.wait("another face", || page.shown_seeds() != first);
    assert!(!page.browser.address().contains("seed"), "{}", page.browser.address());

    page.browser.press("body", " ");
    page.browser.wait("the address of the faces", || page.browser.address().contains("seed"));
    assert!(page.browser.text("#play").starts_with("Play"), "{}", page.browser.text("#play"));
    let paused = page.shown_seeds();
    page.assert_faces(paused.clone());

    page.browser.reload();
    page.finish();
    assert_eq!(page.shown_seeds(), paused);
    page.assert_faces(paused.clone());
    page.browser.click("#play");
    page.browser.wait("another face", || page.shown_seeds() != paused);
}

#[test]
fn all_faces_turn_into_others_and_arrive_when_the_page_is_paused() {
    let page = Page::open("?seed=5&count=4&model=tiny&executor=webgpu");
    page.finish();
    page.browser.click("#morph");
    page.browser.wait("a count of frames", || page.browser.text("#amount").ends_with("FPS"));
    page.browser.click("#play");
    page.browser.wait("the address of the faces", || page.browser.address().contains("seeds="));
    page.browser.wait("all faces", || page.shown_seeds().len() == 4);
    page.assert_faces(page.shown_seeds());
}

/// One face turns into another, because a CPU is too slow for all of them.
#[test]
fn on_a_cpu_morph_plays_frames_that_were_made_before() {
    let page = Page::open("?seed=5&count=4&model=tiny&executor=cpu");
    page.finish();
    page.browser.click("#morph");
    page.browser.wait("all frames", || page.browser.text("#between-status").starts_with("All faces"));
    assert_eq!(page.browser.run("return document.querySelector('#from').value"), "5");
    page.browser.click("#between .close");
    assert_eq!(page.shown_seeds(), [5, 6, 7, 8]);
}

#[test]
fn a_visitor_who_wants_less_motion_sees_faces_that_stay() {
    let still = [("prefers-reduced-motion", "reduce")];
    let prepare = |browser: &crate::browser::Browser| browser.emulate(1280, &still);
    let page = Page::with_files("tiny", &tiny(1), HashMap::new(), "?count=4&model=tiny&executor=cpu", prepare);
    page.finish();
    assert!(page.browser.text("#play").starts_with("Play"), "{}", page.browser.text("#play"));
    let seed = page.address_seed();
    page.assert_faces(seed..seed + 4);
}
