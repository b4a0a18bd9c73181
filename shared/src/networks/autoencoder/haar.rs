//! The two-dimensional Haar wavelet transform and its inverse as convolutions, so that every backend has it.

use candle_core::{Device, Tensor};

use crate::backend::Backend;
use crate::config::BandOrder;
use crate::error::Result;
use crate::haar::BANDS;
use crate::layers::{Conv2d, ConvGeometry};

/// One orthonormal level over `channels` channels.
struct Level {
    /// (N, channels, H, W) to (N, 4 channels, H / 2, W / 2), all channels of a sub-band side by side.
    analysis: Conv2d,
    /// The same back, up to depth to space.
    synthesis: Conv2d,
}

impl Level {
    fn new(channels: usize, order: BandOrder, device: &Device) -> Result<Self> {
        let outputs = 4 * channels;
        let (mut analysis, mut synthesis) = (vec![0.0; outputs * outputs], vec![0.0; outputs * outputs]);
        for channel in 0..channels {
            for (place, band) in order.bands().into_iter().enumerate() {
                for (pixel, weight) in BANDS[band].into_iter().enumerate() {
                    let value = 2.0 * weight;
                    let (coefficient, position) = (place * channels + channel, channel * 4 + pixel);
                    analysis[coefficient * outputs + position] = value;
                    synthesis[position * outputs + coefficient] = value;
                }
            }
        }
        let conv = |weight: Vec<f32>, inputs: usize, geometry: ConvGeometry| -> Result<Conv2d> {
            let weight = Tensor::from_vec(weight, (outputs, inputs, geometry.kernel, geometry.kernel), device)?;
            Ok(Conv2d { weight, bias: None, geometry })
        };
        Ok(Self {
            analysis: conv(analysis, channels, ConvGeometry::patch(2))?,
            synthesis: conv(synthesis, outputs, ConvGeometry::same(1))?,
        })
    }
}

/// The transform of an image, and of its sub-bands, some times over (a wavelet packet).
pub struct HaarTransform(Vec<Level>);

impl HaarTransform {
    /// Halves the size `levels` times.
    pub fn new(channels: usize, levels: u32, order: BandOrder, device: &Device) -> Result<Self> {
        let level = |level| Level::new(channels << (2 * level), order, device);
        Ok(Self((0..levels).map(level).collect::<Result<_>>()?))
    }

    /// (N, C, H, W) to (N, C f², H / f, W / f) with f = 2^levels.
    pub fn analyse<B: Backend>(&self, b: &mut B, image: &B::Value) -> Result<B::Value> {
        self.0.iter().try_fold(image.clone(), |x, level| b.conv2d(&x, &level.analysis))
    }

    /// The image that [`Self::analyse`] came from.
    pub fn synthesise<B: Backend>(&self, b: &mut B, coefficients: &B::Value) -> Result<B::Value> {
        self.0.iter().rev().try_fold(coefficients.clone(), |x, level| {
            let pixels = b.conv2d(&x, &level.synthesis)?;
            b.depth_to_space(&pixels, 2)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::CandleBackend;
    use crate::noise::Stream;

    /// The four sub-bands of one 2x2 block, worked out by hand.
    #[test]
    fn sub_bands_of_one_block() {
        let image = Tensor::new(&[[[[1f32, 2.0], [4.0, 9.0]]]], &Device::Cpu).unwrap();
        for (order, expected) in
            [(BandOrder::LhFirst, [8.0, -3.0, -5.0, 2.0]), (BandOrder::HlFirst, [8.0, -5.0, -3.0, 2.0])]
        {
            let transform = HaarTransform::new(1, 1, order, &Device::Cpu).unwrap();
            let bands = transform.analyse(&mut CandleBackend, &image).unwrap();
            assert_eq!(bands.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
        }
    }

    #[test]
    fn two_levels_are_orthonormal_and_invertible() {
        let image = Stream::new(0, 0, "image").normals(2 * 3 * 8 * 12);
        let image = Tensor::from_vec(image, (2, 3, 8, 12), &Device::Cpu).unwrap();
        let transform = HaarTransform::new(3, 2, BandOrder::HlFirst, &Device::Cpu).unwrap();
        let bands = transform.analyse(&mut CandleBackend, &image).unwrap();
        assert_eq!(bands.dims(), [2, 48, 2, 3]);
        let energy = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!((energy(&bands) / energy(&image) - 1.0).abs() < 1e-5);
        let restored = transform.synthesise(&mut CandleBackend, &bands).unwrap();
        assert!(energy(&(restored - image).unwrap()) < 1e-9);
    }
}
