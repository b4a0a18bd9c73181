//! How pictures of latents are changed before a network judges them, so that it does not learn a small data set by heart
//! (DiffAugment, arXiv 2006.10738): moved, and with other brightness, contrast and saturation. Real and generated pictures
//! are changed alike.

use candle_core::{Device, Tensor};
use lddgan::Result;
use lddgan::noise::Stream;

use crate::gan::augment::draw_shift;
use crate::preset::ChainTraining;

/// How one picture is changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Pixels down and to the right.
    pub shift: [i64; 2],
    /// Added to every pixel.
    pub brightness: f32,
    /// What the distance of every pixel from the picture's mean is multiplied by.
    pub contrast: f32,
    /// What the distance of every pixel from its own grey is multiplied by.
    pub saturation: f32,
}

impl Augmentation {
    pub fn draw(stream: &mut Stream, options: &ChainTraining) -> Self {
        let mut about = |middle: f64, range: f64| (middle + range * (2.0 * stream.uniform() - 1.0)) as f32;
        let (brightness, contrast) = (about(0.0, options.brightness), about(1.0, options.contrast));
        let saturation = about(1.0, options.saturation);
        Self { shift: draw_shift(stream, options.shift), brightness, contrast, saturation }
    }
}

/// The changes of a batch of pictures as tensors, which a GPU's recording can be run again with.
#[derive(Clone)]
pub struct Augmentations {
    /// (N, 1, size, size): which row each row comes from, and which column; zeros come in at the edges.
    pub rows: Tensor,
    pub columns: Tensor,
    /// Each (N, 1, 1, 1).
    pub brightness: Tensor,
    pub contrast: Tensor,
    pub saturation: Tensor,
}

impl Augmentations {
    /// For pictures of so many pixels.
    pub fn new(each: &[Augmentation], size: usize, device: &Device) -> Result<Self> {
        let shift = |axis: usize| {
            let mut values = vec![0f32; each.len() * size * size];
            for (matrix, augmentation) in values.chunks_exact_mut(size * size).zip(each) {
                for (to, row) in matrix.chunks_exact_mut(size).enumerate() {
                    let from = to as i64 - augmentation.shift[axis];
                    if let Some(place) = usize::try_from(from).ok().and_then(|from| row.get_mut(from)) {
                        *place = 1.0;
                    }
                }
            }
            Tensor::from_vec(values, (each.len(), 1, size, size), device)
        };
        let factor = |of: fn(&Augmentation) -> f32| {
            Tensor::from_vec(each.iter().map(of).collect(), (each.len(), 1, 1, 1), device)
        };
        Ok(Self {
            rows: shift(0)?,
            columns: shift(1)?,
            brightness: factor(|each| each.brightness)?,
            contrast: factor(|each| each.contrast)?,
            saturation: factor(|each| each.saturation)?,
        })
    }

    /// Changes pictures (N, 3, size, size). Can be differentiated.
    pub fn apply(&self, pictures: &Tensor) -> Result<Tensor> {
        let away_from = |x: &Tensor, middle: &Tensor, factor: &Tensor| {
            x.broadcast_sub(middle)?.broadcast_mul(factor)?.broadcast_add(middle)
        };
        let x = pictures.broadcast_add(&self.brightness)?;
        let x = away_from(&x, &x.mean_keepdim(1)?, &self.saturation)?;
        let mean = x.mean_keepdim((1, 2, 3))?;
        let x = away_from(&x, &mean, &self.contrast)?;
        let moved = self.rows.broadcast_matmul(&x.contiguous()?)?;
        Ok(moved.broadcast_matmul(&self.columns.transpose(2, 3)?.contiguous()?)?)
    }

    /// All tensors, in an order that stays.
    pub fn each_mut(&mut self) -> [&mut Tensor; 5] {
        let Self { rows, columns, brightness, contrast, saturation } = self;
        [rows, columns, brightness, contrast, saturation]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    const PLAIN: Augmentation = Augmentation { shift: [0, 0], brightness: 0.0, contrast: 1.0, saturation: 1.0 };

    /// Two pictures of 4x4 pixels in which every number is another.
    fn pictures() -> Tensor {
        (Tensor::arange(0f32, 96.0, &Device::Cpu).unwrap().reshape((2, 3, 4, 4)).unwrap() / 100.0).unwrap()
    }

    fn changed(each: [Augmentation; 2]) -> Vec<f32> {
        let augmentations = Augmentations::new(&each, 4, &Device::Cpu).unwrap();
        augmentations.apply(&pictures()).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    #[test]
    fn no_change_leaves_pictures_as_they_are() {
        let plain: Vec<f32> = pictures().flatten_all().unwrap().to_vec1().unwrap();
        assert!(close(&changed([PLAIN; 2]), &plain));
    }

    /// One down, two to the left, against the picture itself read at other places.
    #[test]
    fn pictures_move_and_zeros_come_in() {
        let moved = changed([PLAIN, Augmentation { shift: [1, -2], ..PLAIN }]);
        let plain: Vec<f32> = pictures().flatten_all().unwrap().to_vec1().unwrap();
        let expected = (48..96).map(|i| match (i / 4 % 4, i % 4) {
            (0, _) | (_, 2..) => 0.0,
            _ => plain[i - 4 + 2],
        });
        assert!(close(&moved[..48], &plain[..48]) && close(&moved[48..], &expected.collect::<Vec<_>>()));
    }

    /// Brighter by a quarter; no contrast leaves the mean alone; no saturation leaves each pixel's grey.
    #[test]
    fn colours_change_as_they_are_named() {
        let plain: Vec<f32> = pictures().flatten_all().unwrap().to_vec1().unwrap();
        let first = |augmentation| changed([augmentation, PLAIN])[..48].to_vec();
        let brighter: Vec<f32> = plain[..48].iter().map(|value| value + 0.25).collect();
        assert!(close(&first(Augmentation { brightness: 0.25, ..PLAIN }), &brighter));
        let mean = plain[..48].iter().sum::<f32>() / 48.0;
        assert!(close(&first(Augmentation { contrast: 0.0, ..PLAIN }), &[mean; 48]));
        let grey: Vec<f32> =
            (0..48).map(|i| [0, 16, 32].map(|c| plain[i % 16 + c]).iter().sum::<f32>() / 3.0).collect();
        assert!(close(&first(Augmentation { saturation: 0.0, ..PLAIN }), &grey));
    }

    /// The gradient of a sum of squares against central differences.
    #[test]
    fn gradients_flow_to_pictures() {
        let each = [
            Augmentation { shift: [1, 0], brightness: 0.1, contrast: 1.3, saturation: 0.4 },
            Augmentation { shift: [0, -1], brightness: -0.2, contrast: 0.8, saturation: 1.5 },
        ];
        let double = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::F64).unwrap();
        let mut augmentations = Augmentations::new(&each, 4, &Device::Cpu).unwrap();
        for tensor in augmentations.each_mut() {
            *tensor = double(tensor);
        }
        let value = |x: &Tensor| augmentations.apply(x).unwrap().sqr().unwrap().sum_all().unwrap();
        let x = Var::from_tensor(&double(&pictures())).unwrap();
        let gradient = value(&x).backward().unwrap().get(&x).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let values: Vec<f64> = x.flatten_all().unwrap().to_vec1().unwrap();
        for pixel in (0..96).step_by(7) {
            let moved = |by: f64| {
                let mut values = values.clone();
                values[pixel] += by;
                let x = Tensor::from_vec(values, (2, 3, 4, 4), &Device::Cpu).unwrap();
                value(&x).to_scalar::<f64>().unwrap()
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient[pixel] - expected).abs() < 1e-6, "{pixel}: {} not {expected}", gradient[pixel]);
        }
    }
}
