//! Finding the directions in a model's random numbers along which its images differ most.
//!
//! As GANSpace (arXiv 2004.02546) does for generators that take noise in several places: the principal modes of the latents
//! of many images, and for each mode the direction in the noise that changes it most. That is the mean gradient of the mode.
//! By Stein's lemma the mean gradient of a function of standard normal numbers is the mean of the numbers, each times the
//! function: so images and their noise are enough, and no network is differentiated. In which of its draws a model keeps
//! what an image shows, differs between models: those that say next to nothing about the modes are left out.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use lddgan::directions::PREFIX;
use lddgan::model::NamedNoise;
use lddgan::parameters::TensorMap;
use thiserror::Error;

use crate::principal::Axes;

/// A draw that accounts for less of the modes than this, relative to the draw that accounts for most, is left out.
const LEAST: f64 = 0.1;

/// Why no directions were found.
#[derive(Debug, Error)]
pub enum DirectionsError {
    #[error("{wanted} directions are asked for, but the latents of {images} images vary in {found}: ask for fewer")]
    Few { wanted: usize, images: usize, found: usize },
    #[error("the latents of {images} images do not follow their noise in any direction: take more images")]
    Unclear { images: usize },
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Directions, the one whose mode is the strongest first.
pub struct Found {
    /// For a model file, `directions.<draw>`: unit vectors over all draws together.
    pub tensors: TensorMap,
    /// How much each of them moves.
    pub strengths: Vec<Strength>,
}

/// How much a direction moves, as shares of variances.
#[derive(Debug, Clone, Copy)]
pub struct Strength {
    /// Of the latents, what their mode has.
    pub mode: f64,
    /// Of the mode, what moving along the direction accounts for.
    pub direction: f64,
}

/// The mean gradients of the modes in one draw.
struct Gradients {
    /// Of the draw of one image.
    shape: Vec<usize>,
    /// (K, numbers of the draw)
    rows: Tensor,
}

impl Gradients {
    /// The squares of their lengths, of modes of variance one: without what chance adds, which is 1/images for each number.
    fn squares(&self, images: usize) -> candle_core::Result<Vec<f64>> {
        let by_chance = self.rows.dim(1)? as f64 / images as f64;
        let squares = self.rows.sqr()?.sum(1)?.to_vec1::<f32>()?;
        Ok(squares.into_iter().map(|square| f64::from(square) - by_chance).collect())
    }
}

/// Of latents (N, C, H, W), and the noise that the same images were made of, in batches.
pub fn find(
    latents: &Tensor,
    noise: impl Iterator<Item = Vec<NamedNoise>>,
    count: usize,
) -> Result<Found, DirectionsError> {
    let images = latents.dim(0)?;
    let rows = latents.flatten_from(1)?;
    let rows = rows.broadcast_sub(&rows.mean_keepdim(0)?)?;
    let variance = f64::from(rows.sqr()?.sum_all()?.to_scalar::<f32>()?);
    let Axes { directions, lengths } = Axes::longest(&rows, count)?;
    if lengths.len() < count {
        return Err(DirectionsError::Few { wanted: count, images, found: lengths.len() });
    }
    let deviations: Vec<f32> = lengths.iter().map(|length| (length / (images as f64).sqrt()) as f32).collect();
    let modes = rows.matmul(&directions)?.broadcast_div(&Tensor::from_vec(deviations, (1, count), &Device::Cpu)?)?;

    let mut strengths: Vec<_> =
        lengths.iter().map(|length| Strength { mode: length * length / variance, direction: 0.0 }).collect();
    let mut lengths = Tensor::zeros((count, 1), modes.dtype(), &Device::Cpu)?;
    let told = telling(gradients(&modes, noise)?, images)?;
    for (_, gradients, squares) in &told {
        lengths = (lengths + gradients.rows.sqr()?.sum_keepdim(1)?)?;
        strengths.iter_mut().zip(squares).for_each(|(all, square)| all.direction += square);
    }
    let lengths = lengths.sqrt()?;
    let unit = |(name, Gradients { shape, rows }, _): (String, Gradients, _)| -> candle_core::Result<_> {
        let rows = rows.broadcast_div(&lengths)?.reshape([&[count], shape.as_slice()].concat())?;
        Ok((format!("{PREFIX}{name}"), rows))
    };
    let tensors = told.into_iter().map(unit).collect::<candle_core::Result<_>>()?;
    Ok(Found { tensors, strengths })
}

/// By the name of the draw, of modes (N, K).
fn gradients(
    modes: &Tensor,
    noise: impl Iterator<Item = Vec<NamedNoise>>,
) -> candle_core::Result<BTreeMap<String, Gradients>> {
    let mut gradients = BTreeMap::<String, Gradients>::new();
    let mut first = 0;
    for batch in noise {
        let size = batch.first().map_or(0, |noise| noise.shape[0]);
        let weights = (modes.narrow(0, first, size)?.t()? / modes.dim(0)? as f64)?;
        first += size;
        for NamedNoise { name, shape, values } in batch {
            let added = weights.matmul(&Tensor::from_vec(values, (size, ()), &Device::Cpu)?)?;
            let rows = match gradients.remove(&name) {
                Some(Gradients { rows, .. }) => (rows + added)?,
                None => added,
            };
            gradients.insert(name, Gradients { shape: shape[1..].to_vec(), rows });
        }
    }
    Ok(gradients)
}

/// The draws that say something about the modes, with [`Gradients::squares`].
fn telling(
    gradients: BTreeMap<String, Gradients>,
    images: usize,
) -> Result<Vec<(String, Gradients, Vec<f64>)>, DirectionsError> {
    let squares = |(name, gradients): (String, Gradients)| -> candle_core::Result<_> {
        let squares = gradients.squares(images)?;
        Ok((name, gradients, squares))
    };
    let mut all = gradients.into_iter().map(squares).collect::<candle_core::Result<Vec<_>>>()?;
    let told = |squares: &[f64]| squares.iter().sum::<f64>();
    let most = all.iter().map(|(.., squares)| told(squares)).fold(0.0, f64::max);
    if most == 0.0 {
        return Err(DirectionsError::Unclear { images });
    }
    all.retain(|(.., squares)| told(squares) >= LEAST * most);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use lddgan::noise::Stream;

    use super::*;

    const IMAGES: usize = 4096;

    /// Latents 1x2x2 whose first number follows a·0.6 + b·0.8 three times, and the second one a² and c: of three draws.
    fn made() -> (Tensor, Vec<Vec<NamedNoise>>) {
        let draw = |name: &str, width: usize| Stream::new(3, 0, name).normals(IMAGES * width);
        let (a, b, c) = (draw("a", 3), draw("b", 2), draw("c", 5));
        let latent = |i: usize| {
            let (a, b, c) = (a[3 * i + 1], b[2 * i], c[5 * i + 4]);
            [3.0 * (0.6 * a + 0.8 * b) + 7.0, 0.2 * a * a + 0.05 * c, 0.01 * c, 0.01 * a]
        };
        let latents = (0..IMAGES).flat_map(latent).collect::<Vec<f32>>();
        let batch = |start: usize, end: usize| {
            [("a", &a, 3), ("b", &b, 2), ("c", &c, 5)]
                .map(|(name, values, width)| NamedNoise {
                    name: name.to_string(),
                    shape: vec![end - start, width],
                    values: values[start * width..end * width].to_vec(),
                })
                .into()
        };
        let latents = Tensor::from_vec(latents, (IMAGES, 1, 2, 2), &Device::Cpu).unwrap();
        (latents, vec![batch(0, 1000), batch(1000, IMAGES)])
    }

    #[test]
    fn the_direction_of_a_known_mode_is_found() {
        let (latents, noise) = made();
        let Found { tensors, strengths } = find(&latents, noise.into_iter(), 1).unwrap();
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["directions.a", "directions.b"]);
        let (a, b) = (&tensors["directions.a"], &tensors["directions.b"]);
        assert_eq!((a.dims(), b.dims()), (&[1, 3][..], &[1, 2][..]));
        let found = [a, b].map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()).concat();
        let sign = found[1].signum();
        // Four standard errors of each number: 4 / sqrt(IMAGES).
        for (found, expected) in found.iter().zip([0.0, 0.6, 0.0, 0.8, 0.0]) {
            assert!((found * sign - expected).abs() < 0.0625, "{found} {expected}");
        }
        assert!(strengths[0].mode > 0.95 && (strengths[0].direction - 1.0).abs() < 0.15, "{strengths:?}");
    }

    #[test]
    fn what_cannot_be_found_is_an_error() {
        let (latents, noise) = made();
        let error = find(&latents, noise.into_iter(), 5).err().unwrap().to_string();
        assert!(error.contains("5 directions") && error.contains("vary in 4"), "{error}");
        let error = find(&latents, std::iter::empty(), 1).err().unwrap().to_string();
        assert!(error.contains("take more images"), "{error}");
    }
}
