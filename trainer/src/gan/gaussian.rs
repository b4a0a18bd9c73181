//! The normal distribution of the training latents that generator and discriminator are given, see
//! [`lddgan::networks::Gaussian`].

use candle_core::{DType, Device, Tensor};
use lddgan::parameters::TensorMap;
use lddgan::{Error, Result};

use super::latents::Latents;
use crate::preset::Preset;
use crate::principal::Axes;

/// The most that [`Moments::calibrated`] takes for a lack of variance, rather than for a lack of samples.
const MAX_FACTOR: f32 = 1e4;

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

    /// The variances under which samples should vary as much as the latents of images, along each direction: those there
    /// are, times how much more these latents vary than `samples`, both (N, C, H, W). The network behind the start makes
    /// samples narrower than the data; the start makes up for it. An error where samples do not vary.
    pub fn calibrated(&self, latents: &Tensor, samples: &Tensor) -> Result<Self> {
        let [wanted, found] = [self.variances_of(latents)?, self.variances_of(samples)?];
        let mut calibrated = self.clone();
        let variances = calibrated.0.get_mut("variances").ok_or_else(|| missing("variances"))?;
        let factors = (wanted / found)?.to_dtype(variances.dtype())?;
        *variances = variances.mul(&factors)?;
        let plausible = |factor: &f32| *factor < MAX_FACTOR;
        if !factors.to_dtype(DType::F32)?.to_vec1::<f32>()?.iter().all(plausible) {
            let reason = "the samples hardly vary along some of its directions".to_string();
            return Err(Error::Config { field: "generator.gaussian_modes".to_string(), reason });
        }
        Ok(calibrated)
    }

    /// The variances of latents (N, C, H, W) along the directions, (modes), in f32.
    pub fn variances_of(&self, latents: &Tensor) -> Result<Tensor> {
        let directions = self.0.get("directions").ok_or_else(|| missing("directions"))?;
        let rows = latents.flatten_from(1)?.to_dtype(DType::F32)?;
        let modes = rows.matmul(&directions.flatten_from(1)?.to_dtype(DType::F32)?.t()?)?;
        Ok(modes.var(0)?)
    }

    fn new(mean: Tensor, directions: Tensor, variances: Tensor) -> Self {
        let named = [("mean", mean), ("directions", directions), ("variances", variances)];
        Self(named.map(|(name, tensor)| (name.to_string(), tensor)).into())
    }
}

fn missing(tensor: &str) -> Error {
    Error::Config { field: format!("generator.gaussian.{tensor}"), reason: "is missing".to_string() }
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

    /// Samples that are half as wide as the data along the first direction and twice as wide along the second.
    #[test]
    fn variances_make_up_for_samples_that_are_too_narrow() {
        let latents = Stream::new(1, 0, "latents").normals(4 * 1000);
        let of = |values: Vec<f32>| Tensor::from_vec(values, (1000, 1, 2, 2), &Device::Cpu).unwrap();
        let moments = Moments::new(
            Tensor::zeros((1, 2, 2), DType::F32, &Device::Cpu).unwrap(),
            Tensor::new(&[[1f32, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], &Device::Cpu)
                .unwrap()
                .reshape((2, 1, 2, 2))
                .unwrap(),
            Tensor::new(&[3f32, 5.0], &Device::Cpu).unwrap(),
        );
        let scaled =
            |factors: [f32; 4]| of(latents.iter().zip(factors.iter().cycle()).map(|(x, f)| x * f + 7.0).collect());
        let calibrated = moments.calibrated(&of(latents.clone()), &scaled([0.5, 9.0, 2.0, 9.0])).unwrap();
        let found = calibrated.0["variances"].to_vec1::<f32>().unwrap();
        assert!((found[0] - 12.0).abs() < 1e-3 && (found[1] - 1.25).abs() < 1e-3, "{found:?}");
        let error =
            moments.calibrated(&of(latents.clone()), &scaled([0.0, 1.0, 1.0, 1.0])).err().map(|e| e.to_string());
        assert!(error.is_some_and(|error| error.contains("hardly vary")));
    }

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
