//! What differs between faces, and the way from one to another.

use image::RgbImage;
use lddgan::{Mix, Recipe};

use crate::page::{Page, assert_same};

#[test]
fn the_address_says_how_faces_are_made() {
    let mut page = Page::open("?seed=2&count=4&steps=2&truncation=0.5&x-of=7&model=tiny&executor=candle");
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
    let page = Page::open("?seed=2&count=4&model=tiny&executor=candle");
    page.finish();
    page.open_panels();
    page.browser.click("input[name=z-step][value='3']");
    page.browser.wait("the address", || page.browser.address().contains("x-of=2&z-step=3"));
    page.finish();
    assert_eq!(page.browser.run("return document.querySelector('input[name=vary][value=z]').checked"), true);
    page.assert_grid((2..6u64).map(|seed| Recipe { x: 2.into(), z_step: Some(3), ..seed.into() }));
}

#[test]
fn the_way_between_two_faces_is_saved_as_an_animation() {
    let page = Page::open("?seed=2&count=1&model=tiny&executor=candle");
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
