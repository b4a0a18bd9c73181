//! The normal distribution of the training latents that generator and discriminator are given, see
//! [`lddgan::networks::Gaussian`].

use candle_core::{DType, Device, Tensor};
use lddgan::parameters::TensorMap;
use lddgan::{Error, Result};

use super::latents::Latents;
use crate::preset::Preset;
use crate::principal::Axes;

/// Mean, principal directions and variances of scaled latents, as tensors of these names.
#[derive(Debug, Clone)]
pub struct Moments(TensorMap);

impl Moments {
    /// Of latents (N, C, H, W), on their first `modes` principal directions. An error if they vary in fewer.
    pub fn of(latents: &Tensor, modes: usize) -> Result<Self> {
        let latents = latents.to_device(&Device::Cpu)?;
        let (count, channels, height, width) = latents.dims4()?;
        let rows = latents.flatten_from(1)?;
        let mean = rows.mean_keepdim(0)?;
        let Axes { directions, lengths } = Axes::longest(&rows.broadcast_sub(&mean)?, modes)?;
        if lengths.len() < modes {
            let reason = format!("{modes}, but the {count} training latents vary in {} directions", lengths.len());
            return Err(Error::Config { field: "generator.gaussian_modes".to_string(), reason });
        }
        let variances: Vec<f32> = lengths.iter().map(|length| (length * length / count as f64) as f32).collect();
        Ok(Self::new(
            mean.reshape((channels, height, width))?,
            directions.t()?.reshape((modes, channels, height, width))?,
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
            Tensor::zeros((channels, size, size), DType::F32, &Device::Cpu)?,
            Tensor::from_vec(directions, (modes, channels, size, size), &Device::Cpu)?,
            Tensor::ones(modes, DType::F32, &Device::Cpu)?,
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

#[cfg(test)]
mod tests {
    use lddgan::noise::Stream;

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
        let error = Moments::of(&latents, 5).unwrap_err().to_string();
        assert!(error.contains("gaussian_modes") && error.contains("4 directions"), "{error}");
        let first = &values("directions")[..4];
        assert!((first[0] * cosine + first[1] * sine).abs() > 0.999, "{first:?}");
        assert!((first.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
