//! The operations of this folder made of Candle's own: for devices that have no kernel of ours, and what those kernels
//! are tested against.

use candle_core::{DType, Result, Tensor};

use crate::backend::{FirMode, LEAKY_SLOPE};
use crate::layers::{ConvGeometry, GROUP_NORM_EPS};

pub fn pad(x: &Tensor, before: usize, after: usize) -> Result<Tensor> {
    x.pad_with_zeros(2, before, after)?.pad_with_zeros(3, before, after)
}

pub fn conv2d(x: &Tensor, weight: &Tensor, geometry: ConvGeometry) -> Result<Tensor> {
    pad(x, geometry.pad_before, geometry.pad_after)?.contiguous()?.conv2d(weight, 0, geometry.stride, 1, 1)
}

pub fn depthwise_conv2d(x: &Tensor, weight: &Tensor, geometry: ConvGeometry) -> Result<Tensor> {
    let padded = pad(x, geometry.pad_before, geometry.pad_after)?.contiguous()?;
    padded.conv2d(weight, 0, geometry.stride, 1, weight.dim(0)?)
}

pub fn clamp(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    x.clamp(low, high)
}

pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.broadcast_add(&bias.unsqueeze(2)?.unsqueeze(3)?)
}

pub fn leaky_relu(x: &Tensor) -> Result<Tensor> {
    x.maximum(&(x * LEAKY_SLOPE)?)
}

pub fn fir(x: &Tensor, mode: FirMode) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let planes = x.contiguous()?.reshape((n * c, 1, h, w))?;
    // Upsampling inserts zeros, which takes four times the gain.
    let (padded, stride, gain) = match mode {
        FirMode::Downsample => (pad(&planes, 1, 1)?, 2, 1.0),
        FirMode::Smooth => (pad(&planes, 2, 2)?, 1, 1.0),
        FirMode::Upsample => {
            let spread = planes.reshape((n * c, h, 1, w, 1))?.pad_with_zeros(2, 0, 1)?.pad_with_zeros(4, 0, 1)?;
            (pad(&spread.reshape((n * c, 1, 2 * h, 2 * w))?, 2, 1)?, 1, 4.0)
        }
    };
    let taps = FirMode::TAPS.map(f64::from);
    let kernel: Vec<f64> = taps.iter().flat_map(|a| taps.map(|b| a * b * gain)).collect();
    let kernel = Tensor::from_vec(kernel, (1, 1, 4, 4), &candle_core::Device::Cpu)?;
    let kernel = kernel.to_dtype(x.dtype())?.to_device(x.device())?;
    let y = padded.contiguous()?.conv2d(&kernel, 0, stride, 1, 1)?;
    y.reshape((n, c, y.dim(2)?, y.dim(3)?))
}

pub fn group_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, groups: usize, silu: bool) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let grouped = x.contiguous()?.reshape((n, groups, c / groups * h * w))?;
    let grouped = if x.dtype() == DType::F64 { grouped } else { grouped.to_dtype(DType::F32)? };
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(2)? + GROUP_NORM_EPS)?.sqrt()?;
    let normed = centred.broadcast_div(&deviation)?.to_dtype(x.dtype())?.reshape((n, c, h * w))?;
    let y = normed.broadcast_mul(&scale.unsqueeze(2)?)?.broadcast_add(&shift.unsqueeze(2)?)?.reshape((n, c, h, w))?;
    if silu { y.silu() } else { Ok(y) }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::super as ours;
    use crate::backend::FirMode;
    use crate::layers::ConvGeometry;
    use crate::noise::Stream;

    fn random(shape: &[usize], name: &str) -> Tensor {
        let values = Stream::new(5, 0, name).normals(shape.iter().product());
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    }

    fn assert_close(found: Tensor, expected: Tensor) {
        assert_eq!(found.dims(), expected.dims());
        let error = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(error < 1e-12, "{error}");
    }

    #[test]
    fn convolution() {
        let geometries = [
            ConvGeometry::same(3),
            ConvGeometry::same(1),
            ConvGeometry::patch(2),
            ConvGeometry { kernel: 3, stride: 2, pad_before: 0, pad_after: 1 },
            ConvGeometry { kernel: 4, stride: 2, pad_before: 1, pad_after: 1 },
            // Lines keep their width, with more or less padding on one side, and with more than the image's width.
            ConvGeometry { kernel: 4, stride: 1, pad_before: 1, pad_after: 2 },
            ConvGeometry { kernel: 4, stride: 1, pad_before: 3, pad_after: 0 },
            ConvGeometry::same(15),
        ];
        for geometry in geometries {
            for batch in [1, 5] {
                let (x, w) = (random(&[batch, 3, 8, 6], "x"), random(&[4, 3, geometry.kernel, geometry.kernel], "w"));
                assert_close(ours::conv2d(&x, &w, geometry).unwrap(), super::conv2d(&x, &w, geometry).unwrap());
            }
        }
    }

    #[test]
    fn depthwise_convolution() {
        for geometry in [
            ConvGeometry::same(3),
            ConvGeometry::same(5),
            ConvGeometry { kernel: 3, stride: 2, pad_before: 0, pad_after: 1 },
            ConvGeometry { kernel: 5, stride: 2, pad_before: 1, pad_after: 2 },
            ConvGeometry { kernel: 2, stride: 3, pad_before: 0, pad_after: 0 },
        ] {
            let (x, w) = (random(&[2, 3, 8, 6], "x"), random(&[3, 1, geometry.kernel, geometry.kernel], "w"));
            let found = ours::depthwise_conv2d(&x, &w, geometry).unwrap();
            assert_close(found, super::depthwise_conv2d(&x, &w, geometry).unwrap());
        }
    }

    #[test]
    fn resampling() {
        for mode in [FirMode::Upsample, FirMode::Downsample, FirMode::Smooth] {
            let x = random(&[2, 3, 6, 10], "x");
            assert_close(ours::fir(&x, mode).unwrap(), super::fir(&x, mode).unwrap());
        }
    }

    #[test]
    fn bias_and_activations() {
        let x = random(&[2, 6, 3, 5], "x");
        for rows in [1, 2] {
            let bias = random(&[rows, 6], "bias");
            assert_close(ours::add_bias(&x, &bias).unwrap(), super::add_bias(&x, &bias).unwrap());
        }
        assert_close(ours::leaky_relu(&x).unwrap(), super::leaky_relu(&x).unwrap());
        assert_close(ours::clamp(&x, -0.5, 1.0).unwrap(), super::clamp(&x, -0.5, 1.0).unwrap());
    }

    #[test]
    fn normalization() {
        let x = random(&[2, 6, 3, 5], "x");
        for rows in [1, 2] {
            let (scale, shift) = (random(&[rows, 6], "scale"), random(&[rows, 6], "shift"));
            for silu in [false, true] {
                assert_close(
                    ours::group_norm(&x, &scale, &shift, 3, silu).unwrap(),
                    super::group_norm(&x, &scale, &shift, 3, silu).unwrap(),
                );
            }
        }
    }
}
