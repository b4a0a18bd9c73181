//! A measure of regular patterns that a decoder of patches leaves behind. It writes squares of 4x4 pixels, so such a pattern has the
//! frequencies of that lattice and no others, where natural texture has all.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Tensor};
use lddgan::Result;
use lddgan::backend::{Backend, CandleBackend};
use lddgan::layers::{Conv2d, ConvGeometry};

const WINDOW: usize = Lattice::WINDOW;
/// From one window to the next.
const STEP: usize = 8;
/// The frequencies of a lattice of 4 pixels, rows and columns, in periods a window. Those of an image are equal to their opposites.
const LATTICE: [[i32; 2]; 7] = [[0, 8], [8, 0], [8, 8], [8, -8], [0, 16], [16, 0], [16, 16]];
/// From a frequency to its neighbours: a Hann window takes in frequencies that are less than 2 apart.
const NEIGHBOURS: [[i32; 2]; 4] = [[0, 2], [0, -2], [2, 0], [-2, 0]];
/// Keeps what cannot be seen from counting; the power of a wave of a tenth of a grey level.
const MIN_POWER: f64 = 1e-8;

/// Measures images.
pub struct Lattice(Conv2d);

impl Lattice {
    /// Side of the windows that frequencies are measured in, in pixels.
    pub const WINDOW: usize = 32;

    pub fn new(device: &Device) -> Result<Self> {
        let waves = LATTICE
            .iter()
            .flat_map(|wave| [[0, 0]].iter().chain(&NEIGHBOURS).map(move |by| [wave[0] + by[0], wave[1] + by[1]]));
        let values: Vec<f32> = waves.flat_map(|wave| [0.0, 0.25].map(|phase| filter(wave, phase))).flatten().collect();
        let weight = Tensor::from_vec(values, (LATTICE.len() * (1 + NEIGHBOURS.len()) * 2, 1, WINDOW, WINDOW), device)?;
        let geometry = ConvGeometry { kernel: WINDOW, stride: STEP, pad_before: 0, pad_after: 0 };
        Ok(Self(Conv2d { weight, bias: None, geometry }))
    }

    /// By how much the power of the lattice's frequencies exceeds the mean power of their neighbours, as the logarithm of the ratio, on
    /// average over the windows of each of images (N, C, H, W) of at least 32 pixels: (N, frequencies). Smooth parts count as much as
    /// others, as it is there that patterns are seen. Natural images are a little below 0, which is where noise is (0.45 below).
    pub fn excess(&self, images: &Tensor) -> Result<Tensor> {
        let grey = images.mean_keepdim(1)?;
        let waves = CandleBackend.conv2d(&grey, &self.0)?.flatten_from(2)?;
        let (n, _, windows) = waves.dims3()?;
        // Of both phases together.
        let power = waves.sqr()?.reshape((n, LATTICE.len(), 1 + NEIGHBOURS.len(), 2, windows))?.sum(3)?;
        let own = (power.narrow(2, 0, 1)?.squeeze(2)? + MIN_POWER)?;
        let others = (power.narrow(2, 1, NEIGHBOURS.len())?.mean(2)? + MIN_POWER)?;
        Ok((own.log()? - others.log()?)?.mean(2)?)
    }

    /// How much more excess images have than those that they are to be like; 0 where they have less.
    pub fn loss(&self, images: &Tensor, like: &Tensor) -> Result<Tensor> {
        Ok((self.excess(images)? - self.excess(like)?.detach())?.relu()?.mean_all()?)
    }

    /// The mean excess of each of images (N, C, H, W), in dB.
    pub fn decibels(&self, images: &Tensor) -> Result<Vec<f64>> {
        let mean = (self.excess(images)?.mean(1)? * (10.0 / std::f64::consts::LN_10))?;
        Ok(mean.to_dtype(DType::F64)?.to_vec1()?)
    }
}

/// A wave under a Hann window; `phase` in periods.
fn filter([rows, columns]: [i32; 2], phase: f64) -> Vec<f32> {
    let hann = |i: usize| 0.5 - 0.5 * (TAU * (i as f64 + 0.5) / WINDOW as f64).cos();
    let wave = |y: usize, x: usize| {
        let turns = (f64::from(rows) * y as f64 + f64::from(columns) * x as f64) / WINDOW as f64;
        hann(y) * hann(x) * (TAU * (turns + phase)).cos() / (WINDOW * WINDOW) as f64
    };
    (0..WINDOW * WINDOW).map(|i| wave(i / WINDOW, i % WINDOW) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;
    use lddgan::noise::Stream;

    const SIDE: usize = 64;

    fn noise(name: &str) -> Tensor {
        let values = Stream::new(2, 0, name).normals(3 * SIDE * SIDE).into_iter().map(|value| 0.1 * value).collect();
        Tensor::from_vec(values, (1, 3, SIDE, SIDE), &Device::Cpu).unwrap()
    }

    /// Waves of such a period over the columns.
    fn waves(period: usize) -> Tensor {
        let value = |i: usize| (0.02 * (TAU * (i % SIDE) as f64 / period as f64).cos()) as f32;
        Tensor::from_vec((0..3 * SIDE * SIDE).map(value).collect(), (1, 3, SIDE, SIDE), &Device::Cpu).unwrap()
    }

    fn decibels(images: &Tensor) -> f64 {
        Lattice::new(&Device::Cpu).unwrap().decibels(images).unwrap()[0]
    }

    /// Noise has all frequencies alike: the mean logarithm of its power, less that of four, is -1.9 dB. Patterns of 4 pixels stand out of it wherever they begin, others do not.
    #[test]
    fn patterns_of_four_pixels_are_found() {
        let noise = noise("noise");
        let with = |waves: Tensor| decibels(&(&noise + waves).unwrap());
        let alone = decibels(&noise);
        assert!((alone + 1.9).abs() < 1.0, "{alone}");
        let moved = waves(4).roll(1, 3).unwrap();
        let (first, moved, other) = (with(waves(4)), with(moved), with(waves(7)));
        assert!(first > alone + 1.0 && (first - moved).abs() < 0.5, "{alone} {first} {moved}");
        assert!((other - alone).abs() < 0.5, "{alone} {other}");
    }

    /// What an image has less than the other is no loss; the gradient is that of central differences in f64.
    #[test]
    fn loss() {
        let double = |x: Tensor| x.to_dtype(DType::F64).unwrap();
        let (plain, patterned) = (double(noise("a")), double((noise("b") + waves(4)).unwrap()));
        let lattice = Lattice::new(&Device::Cpu).unwrap();
        let value = |a: &Tensor, b: &Tensor| lattice.loss(a, b).unwrap().to_scalar::<f64>().unwrap();
        assert!(value(&patterned, &plain) > value(&plain, &patterned) + 0.2);
        assert_eq!(value(&plain, &plain), 0.0);
        let var = Var::from_tensor(&patterned).unwrap();
        let gradients = lattice.loss(&var, &plain).unwrap().backward().unwrap();
        let gradient = gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for pixel in [5, 1000, 5000, 12000] {
            let moved = |by: f64| {
                let mut values = patterned.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                values[pixel] += by;
                value(&Tensor::from_vec(values, patterned.shape(), &Device::Cpu).unwrap(), &plain)
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient[pixel] - expected).abs() < 1e-7, "{pixel}: {} not {expected}", gradient[pixel]);
        }
    }
}
