//! The normal distribution of the training latents that generator and discriminator are given, see
//! [`lddgan::networks::Gaussian`].

use candle_core::{Device, Tensor};
use lddgan::Result;
use lddgan::noise::Stream;
use lddgan::parameters::TensorMap;
use nalgebra::{DMatrix, SymmetricEigen};

use super::latents::Latents;
use crate::preset::Preset;

/// Directions that are followed beside those that are wanted, so that the last of these are right, too.
const SPARE: usize = 32;
/// Multiplications with the covariance; each makes a direction's share grow by its variance.
const ITERATIONS: usize = 8;

/// Mean, principal directions and variances of scaled latents, as tensors of these names.
#[derive(Debug, Clone)]
pub struct Moments(TensorMap);

impl Moments {
    /// Of latents (N, C, H, W), on their first `modes` principal directions, by subspace iteration.
    pub fn of(latents: &Tensor, modes: usize) -> Result<Self> {
        let latents = latents.to_device(&Device::Cpu)?;
        let (count, channels, height, width) = latents.dims4()?;
        let numbers = channels * height * width;
        let rows = latents.flatten_from(1)?;
        let mean = rows.mean(0)?;
        let centred = rows.broadcast_sub(&mean)?;
        let directions = numbers.min(modes + SPARE);
        let covariance =
            |q: &Tensor| -> Result<Tensor> { Ok((centred.t()?.matmul(&centred.matmul(q)?)? / count as f64)?) };
        let start = Stream::new(0, 0, "directions").normals(numbers * directions);
        let mut q = orthonormal(&Tensor::from_vec(start, (numbers, directions), &Device::Cpu)?)?;
        for _ in 0..ITERATIONS {
            q = orthonormal(&covariance(&q)?)?;
        }
        // Within the subspace, the covariance is small enough for an exact solution.
        let eigen = SymmetricEigen::new(matrix(&q.t()?.matmul(&covariance(&q)?)?)?);
        let mut order: Vec<usize> = (0..directions).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        order.truncate(modes);
        let variances: Vec<f32> = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0) as f32).collect();
        let vectors = DMatrix::from_fn(directions, order.len(), |row, column| eigen.eigenvectors[(row, order[column])]);
        let vectors = tensor(&vectors)?;
        Ok(Self::new(
            mean.reshape((channels, height, width))?,
            q.matmul(&vectors)?.t()?.reshape((order.len(), channels, height, width))?,
            Tensor::new(variances, &Device::Cpu)?,
        ))
    }

    /// Of independent standard normal numbers: for timing networks, which need no latents.
    pub fn standard(preset: &Preset) -> Result<Self> {
        let config = &preset.generator;
        let (modes, channels, size) = (config.gaussian_modes, config.latent_channels, config.latent_size);
        let numbers = channels * size * size;
        let mut directions = vec![0f32; modes * numbers];
        directions.iter_mut().step_by(numbers + 1).for_each(|value| *value = 1.0);
        Ok(Self::new(
            Tensor::zeros((channels, size, size), candle_core::DType::F32, &Device::Cpu)?,
            Tensor::from_vec(directions, (modes, channels, size, size), &Device::Cpu)?,
            Tensor::ones(modes, candle_core::DType::F32, &Device::Cpu)?,
        ))
    }

    /// Those that a network, `generator` or `discriminator`, was given, if it was; `tensors` are named as in a model file.
    pub fn read(tensors: &TensorMap, network: &str) -> Option<Self> {
        let prefix = format!("{network}.gaussian.");
        let own =
            tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor.clone())));
        let own: TensorMap = own.collect();
        (!own.is_empty()).then_some(Self(own))
    }

    /// The tensors as a network, `generator` or `discriminator`, takes them.
    pub fn constants(&self, network: &str) -> TensorMap {
        self.0.iter().map(|(name, tensor)| (format!("{network}.gaussian.{name}"), tensor.clone())).collect()
    }

    fn new(mean: Tensor, directions: Tensor, variances: Tensor) -> Self {
        let named = [("mean", mean), ("directions", directions), ("variances", variances)];
        Self(named.map(|(name, tensor)| (name.to_string(), tensor)).into())
    }
}

impl Latents {
    /// What the networks of a preset need of the latents; nothing if they have no Gaussian.
    pub fn moments(&self, preset: &Preset) -> Result<Option<Moments>> {
        let modes = preset.generator.gaussian_modes;
        (modes > 0).then(|| Moments::of(self.means(), modes)).transpose()
    }
}

/// An orthonormal basis of the columns.
fn orthonormal(columns: &Tensor) -> Result<Tensor> {
    tensor(&matrix(columns)?.qr().q())
}

fn matrix(tensor: &Tensor) -> Result<DMatrix<f64>> {
    let (rows, columns) = tensor.dims2()?;
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(DMatrix::from_row_iterator(rows, columns, values.into_iter().map(f64::from)))
}

fn tensor(matrix: &DMatrix<f64>) -> Result<Tensor> {
    let values: Vec<f32> = matrix.transpose().iter().map(|&value| value as f32).collect();
    Ok(Tensor::from_vec(values, matrix.shape(), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Independent numbers with the deviations 4, 2, 1 and 0.1, turned by a known rotation in the plane of the first two.
    #[test]
    fn directions_and_variances_of_known_latents() {
        const COUNT: usize = 20_000;
        let deviations = [4.0f32, 2.0, 1.0, 0.1];
        let (sine, cosine) = (0.6f32, 0.8f32);
        let values = Stream::new(1, 0, "latents").normals(4 * COUNT);
        let latents = values.chunks_exact(4).flat_map(|z| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| z[i] * deviations[i]);
            [cosine * a - sine * b + 5.0, sine * a + cosine * b, c, d]
        });
        let latents = Tensor::from_vec(latents.collect::<Vec<_>>(), (COUNT, 1, 2, 2), &Device::Cpu).unwrap();
        let Moments(moments) = Moments::of(&latents, 2).unwrap();
        let values = |name: &str| moments[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!((values("mean")[0] - 5.0).abs() < 0.15, "{:?}", values("mean"));
        // Five standard errors of a variance: 5 sqrt(2 / COUNT) of it.
        for (found, expected) in values("variances").iter().zip([16.0, 4.0]) {
            assert!((found / expected - 1.0).abs() < 0.05, "{found} {expected}");
        }
        let first = &values("directions")[..4];
        assert!((first[0] * cosine + first[1] * sine).abs() > 0.999, "{first:?}");
        assert!((first.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
