//! Sliced Wasserstein distance between patches of Laplacian pyramids, as in "Progressive Growing of GANs": needs no
//! weights, and says at which scale two sets differ.

use candle_core::{Device, Tensor};
use lddgan::noise::Stream;
use rayon::prelude::*;

use super::{EvalError, bar, need, resample};
use crate::data::ImageSet;

/// Side of a patch.
const PATCH: usize = 7;
/// Patches per image and level.
const PATCHES: usize = 128;
/// Directions that patches are projected on, and how many at a time.
const DIRECTIONS: usize = 512;
const BATCH: usize = 32;
/// Side of the smallest images of a pyramid.
const SMALLEST: usize = 16;
/// What distances are multiplied by, as in the paper.
const UNIT: f64 = 1e3;
/// Images whose pyramids are made at a time.
const IMAGES: usize = 16;

/// The distance times 1000 at each level, with the level's size in pixels, the largest first. Of the larger set only
/// as many images are used as the other has. `seed` decides about patches and directions.
pub fn distances(real: &ImageSet, generated: &ImageSet, seed: u64) -> Result<Vec<(usize, f64)>, EvalError> {
    let count = real.len().min(generated.len());
    need("swd", 1, count)?;
    let sizes = levels(real.size())?;
    if real.size() != generated.size() {
        let reason = format!("the images have different sizes, {} and {} pixels", real.size(), generated.size());
        return Err(EvalError::features("swd", &reason));
    }
    let progress = bar((sizes.len() * DIRECTIONS) as u64, "SWD directions");
    let mut distances = Vec::new();
    for (level, &size) in sizes.iter().enumerate() {
        let last = level + 1 == sizes.len();
        let real = patches(real, count, level, last, &Draw { seed, name: "real" })?;
        let generated = patches(generated, count, level, last, &Draw { seed, name: "generated" })?;
        let mut sum = 0.0;
        for start in (0..DIRECTIONS).step_by(BATCH) {
            let directions = directions(real.dim(1)?, seed, start)?;
            sum += sliced_distance(&real, &generated, &directions)? * BATCH as f64;
            progress.inc(BATCH as u64);
        }
        distances.push((size, UNIT * sum / DIRECTIONS as f64));
    }
    progress.finish_and_clear();
    Ok(distances)
}

/// The sizes of the levels of a pyramid, the largest first.
pub fn levels(size: usize) -> Result<Vec<usize>, EvalError> {
    if size < SMALLEST {
        let reason = format!("needs images of at least {SMALLEST} pixels, not of {size}");
        return Err(EvalError::features("swd", &reason));
    }
    let sizes = std::iter::successors(Some(size), |size| Some(size.div_ceil(2)));
    Ok(sizes.take_while(|&size| size >= SMALLEST).collect())
}

/// Names the random numbers of one set.
struct Draw {
    seed: u64,
    name: &'static str,
}

/// Random patches of `count` images at one level, (count x PATCHES, values); each channel has mean 0 and
/// standard deviation 1.
fn patches(set: &ImageSet, count: usize, level: usize, last: bool, draw: &Draw) -> Result<Tensor, EvalError> {
    let mut values = Vec::new();
    let mut width = 0;
    for start in (0..count).step_by(IMAGES) {
        // Spread evenly: a set may be in some order.
        let place = |index: usize| (index * set.len() / count) as u32;
        let indices: Vec<u32> = (start..(start + IMAGES).min(count)).map(place).collect();
        let images = laplacian(set.batch(&indices, &Device::Cpu)?, level, last)?;
        let (_, channels, h, w) = images.dims4()?;
        width = channels * PATCH * PATCH;
        let pixels = images.flatten_all()?.to_vec1::<f32>()?;
        for (image, &index) in pixels.chunks_exact((channels * h * w).max(1)).zip(&indices) {
            let mut stream = Stream::new(draw.seed, u64::from(index), &format!("SWD {} {level}", draw.name));
            for _ in 0..PATCHES {
                let mut place = |size: usize| stream.below((size + 1 - PATCH) as u32) as usize;
                let (top, left) = (place(h), place(w));
                let rows = (0..channels).flat_map(|channel| (0..PATCH).map(move |row| channel * h + top + row));
                rows.for_each(|row| values.extend_from_slice(&image[row * w + left..][..PATCH]));
            }
        }
    }
    normalize(&mut values, width);
    Ok(Tensor::from_vec(values, (count * PATCHES, width), &Device::Cpu)?)
}

/// One level of the Laplacian pyramid: what halving the image once more would lose, or all of it at the last level.
fn laplacian(mut images: Tensor, level: usize, last: bool) -> candle_core::Result<Tensor> {
    for _ in 0..level {
        images = resample::apply(&images, resample::halve)?;
    }
    if last {
        return Ok(images);
    }
    let size = images.dim(2)?;
    let half = resample::apply(&images, resample::halve)?;
    images - resample::apply(&half, |_| resample::double(size))?
}

/// Gives each channel of patches of `width` values mean 0 and standard deviation 1.
fn normalize(values: &mut [f32], width: usize) {
    let area = PATCH * PATCH;
    for channel in 0..width / area {
        let mut count = 0.0;
        let (mut sum, mut squares) = (0.0, 0.0);
        for &value in values.chunks_exact(width).flat_map(|patch| &patch[channel * area..][..area]) {
            count += 1.0;
            sum += f64::from(value);
            squares += f64::from(value).powi(2);
        }
        let mean = sum / count;
        let deviation = (squares / count - mean * mean).max(0.0).sqrt();
        // Where there is nothing but one value, nothing can be scaled.
        let scale = if deviation > 1e-6 { 1.0 / deviation } else { 1.0 };
        for value in values.chunks_exact_mut(width).flat_map(|patch| &mut patch[channel * area..][..area]) {
            *value = ((f64::from(*value) - mean) * scale) as f32;
        }
    }
}

/// BATCH random unit vectors, (BATCH, width).
fn directions(width: usize, seed: u64, start: usize) -> candle_core::Result<Tensor> {
    let normals = Stream::new(seed, start as u64, "SWD directions").normals(width * BATCH);
    let vectors = Tensor::from_vec(normals, (BATCH, width), &Device::Cpu)?;
    vectors.broadcast_div(&vectors.sqr()?.sum_keepdim(1)?.sqrt()?)
}

/// The mean over directions of the distance between the two sets of numbers that they project the patches on: the
/// mean difference of the numbers in sorted order.
fn sliced_distance(a: &Tensor, b: &Tensor, directions: &Tensor) -> candle_core::Result<f64> {
    let project = |patches: &Tensor| directions.matmul(&patches.t()?)?.to_vec2::<f32>();
    let (a, b) = (project(a)?, project(b)?);
    let count = a.len();
    let distance = |(mut a, mut b): (Vec<f32>, Vec<f32>)| {
        a.par_sort_unstable_by(f32::total_cmp);
        b.par_sort_unstable_by(f32::total_cmp);
        let sum: f64 = a.iter().zip(&b).map(|(a, b)| f64::from((a - b).abs())).sum();
        sum / a.len().max(1) as f64
    };
    // In one order, so that the sum does not depend on the number of threads.
    let distances: Vec<f64> = a.into_par_iter().zip(b).map(distance).collect();
    Ok(distances.iter().sum::<f64>() / count.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    fn noise(name: &str, count: usize, size: usize, smooth: bool) -> ImageSet {
        let values = Stream::new(0, 0, name).normals(count * 3 * size * size);
        let mut images = Tensor::from_vec(values, (count, 3, size, size), &Device::Cpu).unwrap();
        if smooth {
            images = resample::apply(&images, resample::halve).unwrap();
            images = resample::apply(&images, |_| resample::double(size)).unwrap();
        }
        let mut set = ImageSet::new(size);
        set.append(&(images * 0.3).unwrap()).unwrap();
        set
    }

    #[test]
    fn sorted_differences_are_averaged() {
        let a = Tensor::new(&[[0f32, 5.0], [3.0, 6.0]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[4f32, 6.0], [1.0, 5.0]], &Device::Cpu).unwrap();
        let axes = Tensor::eye(2, DType::F32, &Device::Cpu).unwrap();
        // {0, 3} and {1, 4} differ by 1, {5, 6} and {5, 6} not at all.
        assert_eq!(sliced_distance(&a, &b, &axes).unwrap(), 0.5);
    }

    #[test]
    fn a_pyramid_adds_up_to_the_image() {
        let images = noise("pyramid", 2, 36, false).batch(&[0, 1], &Device::Cpu).unwrap();
        let fine = laplacian(images.clone(), 0, false).unwrap();
        let coarse = laplacian(images.clone(), 1, true).unwrap();
        assert_eq!(coarse.dims(), [2, 3, 18, 18]);
        let sum = (fine + resample::apply(&coarse, |_| resample::double(36)).unwrap()).unwrap();
        let error = (sum - images).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(error < 1e-6, "{error}");
    }

    /// Patches of two samples of one distribution are close, those of smoothed noise are not.
    #[test]
    fn another_texture_is_far_away() {
        let white = noise("white", 40, 32, false);
        let mean = |other: &ImageSet| distances(&white, other, 0).unwrap();
        let (same, smooth) = (mean(&noise("other", 40, 32, false)), mean(&noise("smooth", 40, 32, true)));
        assert_eq!(same.iter().map(|(size, _)| *size).collect::<Vec<_>>(), [32, 16]);
        assert!(same[0].1 < 60.0 && smooth[0].1 > 3.0 * same[0].1, "{same:?} {smooth:?}");
    }

    #[test]
    fn images_too_small_for_a_level_are_an_error() {
        let small = noise("small", 2, 12, false);
        assert!(distances(&small, &small, 0).unwrap_err().to_string().contains("at least 16 pixels"));
    }
}
