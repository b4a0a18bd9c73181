//! What differs between faces, and the way from one to another.

use candle_core::DType;
use image::RgbImage;
use lddgan::{Direction, Mix, Recipe, Shifts};
use lddgan_tests::{directions, gaussian_config, random_model_file, tiny_config};

use crate::page::{Page, assert_different, assert_same};

#[test]
fn the_address_says_how_faces_are_made() {
    let mut page = Page::open("?seed=2&count=4&steps=2&truncation=0.5&x-of=7&model=tiny&executor=cpu");
    page.finish();
    assert_eq!(page.browser.text("#error") + &page.browser.text("#notes"), "");
    page.model.set_steps(2).expect("the model has four steps");
    page.assert_grid((2..6u64).map(|seed| Recipe { x: 7.into(), truncation: Some(0.5), ..seed.into() }));

    page.open_panels();
    page.browser.click("input[name=steps][value='1']");
    page.browser.click("input[name=vary][value='x']");
    page.browser.wait("the address", || page.browser.address().contains("steps=1&truncation=0.5&z-of=2"));
    page.finish();
    page.model.set_steps(1).expect("the model has four steps");
    page.assert_grid((2..6u64).map(|seed| Recipe { z: 2.into(), truncation: Some(0.5), ..seed.into() }));
}

#[test]
fn z_of_a_single_step_can_vary() {
    let page = Page::open("?seed=2&count=4&model=tiny&executor=cpu");
    page.finish();
    page.open_panels();
    page.browser.click("input[name=z-step][value='3']");
    page.browser.wait("the address", || page.browser.address().contains("x-of=2&z-step=3"));
    page.finish();
    assert_eq!(page.browser.run("return document.querySelector('input[name=vary][value=z]').checked"), true);
    page.assert_grid((2..6u64).map(|seed| Recipe { x: 2.into(), z_step: Some(3), ..seed.into() }));
}

/// Two faces, moved so far along directions.
fn moved(shifts: &[(usize, f32)]) -> impl Iterator<Item = Recipe> {
    let mut all = Shifts::default();
    shifts.iter().for_each(|&(mode, amount)| all.set(mode, amount).expect("few directions, and near"));
    (2..6u64).map(move |seed| Recipe { shifts: all, ..seed.into() })
}

#[test]
fn sliders_move_the_faces_along_directions() {
    let mut file = random_model_file(&gaussian_config(tiny_config(), 10), 1).expect("the configuration is valid");
    file.provenance.directions = [(3, "light-hair"), (1, "turn"), (0, "age")]
        .map(|(mode, name)| Direction { mode, name: name.to_owned() })
        .to_vec();
    let bytes = file.to_bytes(DType::F16).expect("tensors can be written to memory");
    let page = Page::with_model("tiny", &bytes, "?seed=2&count=4&direction=9=-2&model=tiny&executor=cpu");
    page.finish();
    page.assert_grid(moved(&[(9, -2.0)]));
    page.open_panels();
    // Those that have a name: two on the page, the others in the panel.
    for (list, expected) in [("#first-sliders", &["Light hair", "Turn"][..]), ("#sliders", &["Age"])] {
        let names = format!(
            "return [...document.querySelectorAll('{list} label')].map((label) => label.firstChild.textContent.trim())"
        );
        assert_eq!(page.browser.run(&names), serde_json::json!(expected));
    }

    let drag = "const slider = document.querySelector('#direction-3'); slider.value = 2.5; \
                for (const kind of ['input', 'change']) slider.dispatchEvent(new Event(kind, { bubbles: true }))";
    page.browser.run(drag);
    page.browser.wait("the address", || page.browser.address().contains("direction=9=-2&direction=3=2.5"));
    page.finish();
    page.assert_grid(moved(&[(9, -2.0), (3, 2.5)]));
    page.browser.click(".face");
    let saved = page.save(2);
    let reader = png::Decoder::new(std::io::Cursor::new(&saved)).read_info().expect("the page saves PNG files");
    let texts = &reader.info().uncompressed_latin1_text;
    assert!(texts.iter().any(|text| (text.keyword.as_str(), text.text.as_str()) == ("Directions", "9=-2,3=2.5")));
    let saved = image::load_from_memory(&saved).expect("the page saves pictures").into_rgb8();
    assert_same(&saved, &page.native(moved(&[(9, -2.0), (3, 2.5)]).next().expect("four faces")), "moved");
    assert_different(&saved, &page.native(moved(&[(9, -2.0)]).next().expect("four faces")), "moved less");
    page.browser.click("#large .close");

    page.browser.click("#reset");
    page.browser.wait("the address", || !page.browser.address().contains("direction"));
    page.finish();
    page.assert_grid(moved(&[]));
}

#[test]
fn directions_that_stand_in_the_file_move_the_faces() {
    let mut file = random_model_file(&tiny_config(), 1).expect("the configuration is valid");
    file.tensors.extend(directions(2));
    let bytes = file.to_bytes(DType::F16).expect("tensors can be written to memory");
    let page = Page::with_model("tiny", &bytes, "?seed=2&count=4&direction=1=-2&model=tiny&executor=cpu");
    page.finish();
    page.assert_grid(moved(&[(1, -2.0)]));
    page.open_panels();
    // None of them has a name.
    assert_eq!(page.browser.run("return document.querySelector('#directions').checkVisibility()"), false);
}

#[test]
fn a_model_without_directions_offers_none() {
    let page = Page::open("?seed=2&count=4&direction=0=1&model=tiny&executor=cpu");
    page.finish();
    page.open_panels();
    assert!(page.browser.text("#notes").contains("no such direction"), "{}", page.browser.text("#notes"));
    assert_eq!(page.browser.run("return document.querySelector('#directions').checkVisibility()"), false);
    page.assert_faces(2..6);
}

#[test]
fn the_way_between_two_faces_is_saved_as_an_animation() {
    let page = Page::open("?seed=2&count=1&model=tiny&executor=cpu");
    page.finish();
    page.open_panels();
    page.browser.click("#open-between");
    page.browser.run("document.querySelector('#to').value = 'x'");
    page.browser.press("#to", "\u{e007}");
    assert!(page.browser.text("#ends-problem").contains("must be a whole number"));
    page.browser.run("document.querySelector('#to').value = '8'");
    page.browser.press("#to", "\u{e007}");
    let whole = || page.browser.text("#between-status").starts_with("All faces");
    page.browser.wait("the faces on the way", whole);
    assert_eq!(page.browser.text("#ends-problem"), "");
    page.browser.click("#between-save");
    let file = page.browser.downloaded("tiny-2-to-8.png");

    let frames = frames(&file);
    // 33 there, and back without the ends.
    assert_eq!(frames.len(), 64);
    for (frame, share) in [(0, 0.0), (16, 0.5), (32, 1.0), (48, 0.5)] {
        let native = page.native(Mix { from: 2, to: 8, share });
        assert_same(&frames[frame], &native, &format!("frame {frame}"));
    }
}

#[test]
fn the_faces_on_the_way_are_counted() {
    let page = Page::open("?seed=2&count=1&model=tiny&executor=cpu");
    page.finish();
    page.open_panels();
    page.browser.run(
        "const status = document.querySelector('#between-status');
         globalThis.said = [];
         new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true });",
    );
    page.browser.click("#open-between");
    page.browser.wait("the faces on the way", || page.browser.text("#between-status").starts_with("All faces"));
    let said: Vec<String> = serde_json::from_value(page.browser.run("return said")).expect("texts");
    let counts = (1..=33).map(|made| format!("Making the faces in between: {made} of 33…"));
    let all = ["Making the faces in between…".to_owned()].into_iter().chain(counts);
    assert_eq!(said, all.chain(["All faces in between are ready.".to_owned()]).collect::<Vec<_>>());
}

fn frames(file: &[u8]) -> Vec<RgbImage> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("the page saves PNG files");
    let count = reader.info().animation_control().map_or(1, |animation| animation.num_frames);
    let (width, height) = reader.info().size();
    let frame = |_| {
        let mut pixels = vec![0; (3 * width * height) as usize];
        reader.next_frame(&mut pixels).expect("every frame is whole");
        RgbImage::from_raw(width, height, pixels).expect("frames are RGB")
    };
    (0..count).map(frame).collect()
}

#[test]
fn numbers_are_f16_where_the_gpu_has_them() {
    let page = Page::open("?seed=0&count=1&dtype=f16&model=tiny&executor=webgpu");
    page.finish();
    page.open_panels();
    let has = "return (await navigator.gpu.requestAdapter()).features.has('shader-f16')";
    let has = page.browser.run(&format!("return (async () => {{ {has} }})()")) == true;
    let used = || page.browser.fact("#speed", "Numbers");
    assert_eq!(used(), if has { "f16" } else { "f32; there is no f16 here" });
    page.assert_faces(vec![0]);
    page.browser.click("input[name=dtype][value=f32]");
    page.browser.wait("f32", || used() == "f32");
    assert!(!page.browser.address().contains("dtype"), "{}", page.browser.address());
    page.assert_faces(vec![0]);
}
