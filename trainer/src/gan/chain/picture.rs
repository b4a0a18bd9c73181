//! A picture of a latent without a decoder: one linear map of each latent vector to a square of pixels. It costs nothing and
//! hides nothing, so that a network that knows images can judge latents.

use candle_core::{DType, Device, Tensor};
use lddgan::backend::{Backend, CandleBackend};
use lddgan::layers::{Conv2d, ConvGeometry};
use lddgan::parameters::TensorMap;
use lddgan::{Error, Result};
use nalgebra::DMatrix;

/// Added to the variances of what the map is fitted to, relative to their mean: latents whose channels depend on each other
/// have a map, too.
const RIDGE: f64 = 1e-6;

/// The map.
#[derive(Clone)]
pub struct LinearPicture {
    /// From C channels to 3 x square x square.
    conv: Conv2d,
    /// Pixels that a latent vector becomes, in height and width.
    square: usize,
}

impl LinearPicture {
    /// The least-squares map from `latents` (N, C, h, w) to `images` (N, 3, H, W), made smaller to `size` pixels. `size` is a
    /// multiple of h, and H one of `size`.
    pub fn fit(latents: &Tensor, images: &Tensor, size: usize) -> Result<Self> {
        let (n, channels, h, w) = latents.dims4()?;
        let square = size / h;
        let pictures = images.to_device(&Device::Cpu)?.avg_pool2d(images.dim(2)? / size)?;
        let targets = pictures.reshape((n, 3, h, square, w, square))?.permute((0, 2, 4, 1, 3, 5))?;
        let targets = rows(&targets.contiguous()?.reshape((n * h * w, 3 * square * square))?)?;
        let inputs = latents.to_device(&Device::Cpu)?.permute((0, 2, 3, 1))?.contiguous()?;
        // The constant is one more channel.
        let inputs = rows(&inputs.reshape((n * h * w, channels))?)?.insert_column(channels, 1.0);
        let mut normal = inputs.transpose() * &inputs;
        let ridge = RIDGE * normal.trace() / (channels + 1) as f64;
        for i in 0..=channels {
            normal[(i, i)] += ridge;
        }
        let map = normal.cholesky().ok_or_else(|| unusable("cannot be fitted: latents are not finite"))?;
        let map = map.solve(&(inputs.transpose() * targets));
        let numbers = |range: std::ops::Range<usize>| -> Vec<f32> {
            map.column_iter().flat_map(|pixel| range.clone().map(move |i| pixel[i] as f32)).collect()
        };
        let pixels = 3 * square * square;
        Self::new(
            Tensor::from_vec(numbers(0..channels), (pixels, channels, 1, 1), &Device::Cpu)?,
            Tensor::from_vec(numbers(channels..channels + 1), pixels, &Device::Cpu)?,
            latents.device(),
        )
    }

    /// That of a checkpoint, which [`Self::tensors`] gave.
    pub fn read(tensors: &TensorMap, device: &Device) -> Result<Self> {
        let get = |name: &str| tensors.get(name).ok_or_else(|| unusable(&format!("its {name} is missing")));
        Self::new(get("weight")?.clone(), get("bias")?.clone(), device)
    }

    fn new(weight: Tensor, bias: Tensor, device: &Device) -> Result<Self> {
        let (pixels, _, _, _) = weight.dims4()?;
        let square = (pixels / 3).isqrt();
        if 3 * square * square != pixels || bias.dims() != [pixels] {
            return Err(unusable("its tensors have the wrong shapes"));
        }
        let (weight, bias) = (weight.to_device(device)?, Some(bias.to_device(device)?));
        Ok(Self { conv: Conv2d { weight, bias, geometry: ConvGeometry::same(1) }, square })
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.conv.weight.device()
    }

    /// What a checkpoint keeps.
    pub fn tensors(&self) -> TensorMap {
        let named = |name: &str, tensor: &Tensor| (name.to_string(), tensor.clone());
        let bias = self.conv.bias.iter().map(|bias| named("bias", bias));
        bias.chain([named("weight", &self.conv.weight)]).collect()
    }

    /// Pictures (N, 3, size, size) of latents (N, C, h, w), nominally from -1 to 1.
    pub fn of(&self, latents: &Tensor) -> Result<Tensor> {
        let pixels = CandleBackend.conv2d(latents, &self.conv)?;
        CandleBackend.depth_to_space(&pixels, self.square)
    }
}

fn unusable(reason: &str) -> Error {
    Error::Config { field: "the linear picture of latents".to_string(), reason: reason.to_string() }
}

/// A matrix (rows, columns) in f64.
fn rows(matrix: &Tensor) -> Result<DMatrix<f64>> {
    let (count, width) = matrix.dims2()?;
    let values = matrix.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(DMatrix::from_row_iterator(count, width, values))
}

#[cfg(test)]
mod tests {
    use lddgan::noise::Stream;

    use super::*;

    fn random(shape: &[usize], name: &str) -> Tensor {
        let values = Stream::new(5, 0, name).normals(shape.iter().product());
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Images that a known map made of latents, at twice the size that is asked for: the map is found, and makes their
    /// smaller versions again.
    #[test]
    fn a_linear_map_is_found_again() {
        let known = LinearPicture::new(random(&[12, 5, 1, 1], "weight"), random(&[12], "bias"), &Device::Cpu).unwrap();
        let latents = random(&[40, 5, 3, 3], "latents");
        let pictures = known.of(&latents).unwrap();
        assert_eq!(pictures.dims(), [40, 3, 6, 6]);
        let images = pictures.upsample_nearest2d(12, 12).unwrap();
        let found = LinearPicture::fit(&latents, &images, 6).unwrap();
        let error = (found.of(&latents).unwrap() - &pictures).unwrap().abs().unwrap().max_all().unwrap();
        assert!(error.to_scalar::<f32>().unwrap() < 1e-3);
        let again = LinearPicture::read(&found.tensors(), &Device::Cpu).unwrap();
        let difference = (again.of(&latents).unwrap() - found.of(&latents).unwrap()).unwrap().abs().unwrap();
        assert_eq!(difference.max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    }

    #[test]
    fn tensors_that_are_no_map_are_refused() {
        let map = LinearPicture::new(random(&[12, 5, 1, 1], "w"), random(&[12], "b"), &Device::Cpu).unwrap();
        let refused = |change: fn(&mut TensorMap)| {
            let mut tensors = map.tensors();
            change(&mut tensors);
            LinearPicture::read(&tensors, &Device::Cpu).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(refused(|tensors| drop(tensors.remove("bias"))).contains("bias is missing"));
        assert!(refused(|tensors| drop(tensors.insert("bias".into(), random(&[3], "b")))).contains("wrong shapes"));
        assert!(refused(|tensors| drop(tensors.insert("weight".into(), random(&[9, 5, 1, 1], "w")))).contains("wrong"));
    }
}
