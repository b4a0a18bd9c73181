//! The normal distribution of the latents on their principal modes: what a generator can start from, and a discriminator
//! see through the noise with.
//!
//! Latents x_0 have the mean mu and, along K orthonormal directions P, the variances lambda. Given
//! x_t = a x_0 + s e, where a² = alpha_bar_t and s² = 1 - alpha_bar_t, mode k of x_0 is again normal (Bayes' rule for a
//! Gaussian prior and Gaussian noise): with y = Pᵀ (x_t - a mu) it has the mean lambda a y / (a² lambda + s²) and the
//! variance lambda s² / (a² lambda + s²).

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::StepInputs;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::layers::{Conv2d, ConvGeometry, GIVEN};

/// Mean, principal directions and variances of latents. They are given, not trained.
pub struct Gaussian {
    /// Pᵀ, as a convolution over the whole latent.
    project: Conv2d,
    /// P, and the mean: from modes to the pixels of a latent that is still folded into channels.
    expand: Conv2d,
    size: usize,
    /// Pᵀ mu
    mean: Vec<f64>,
    /// lambda
    variances: Vec<f64>,
}

impl Gaussian {
    /// Of latents (`channels`, `size`, `size`), from the tensors `mean` of that shape, `directions` (modes, channels,
    /// size, size) and `variances` (modes).
    pub fn new(vb: VarBuilder, modes: usize, channels: usize, size: usize) -> Result<Self> {
        let directions = vb.get_with_hints((modes, channels, size, size), "directions", GIVEN)?.detach();
        let mean = vb.get_with_hints((channels, size, size), "mean", GIVEN)?.detach().flatten_all()?;
        let variances = vb.get_with_hints(modes, "variances", GIVEN)?;
        let rows = directions.flatten_from(1)?;
        let projected = rows.matmul(&mean.unsqueeze(1)?)?.flatten_all()?;
        let values = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>();
        Ok(Self {
            expand: Conv2d {
                weight: rows.t()?.contiguous()?.reshape((channels * size * size, modes, 1, 1))?,
                bias: Some(mean),
                geometry: ConvGeometry::same(1),
            },
            project: Conv2d { weight: directions, bias: None, geometry: ConvGeometry::patch(size) },
            size,
            mean: values(&projected)?,
            variances: values(&variances)?,
        })
    }

    /// For samples of these alpha_bar: what the projection of x_t is multiplied by, `<name>gain` (N, modes, 1, 1), and
    /// what is added then, `<name>offset` (N, modes), to get the means of the modes; and their standard deviations
    /// `<name>deviation` (N, modes).
    pub fn step_inputs(&self, name: &str, alpha_bars: &[f32], device: &Device) -> Result<StepInputs<Tensor>> {
        let (mut gains, mut offsets, mut deviations) = (Vec::new(), Vec::new(), Vec::new());
        for &alpha_bar in alpha_bars {
            let (signal, noise) = (f64::from(alpha_bar).sqrt(), 1.0 - f64::from(alpha_bar));
            for (&variance, &mean) in self.variances.iter().zip(&self.mean) {
                // Without noise and variance there is nothing to learn from x_t.
                let spread = (signal * signal * variance + noise).max(f64::MIN_POSITIVE);
                let gain = variance * signal / spread;
                gains.push(gain as f32);
                offsets.push((-gain * signal * mean) as f32);
                deviations.push((variance * noise / spread).sqrt() as f32);
            }
        }
        let (samples, modes) = (alpha_bars.len(), self.variances.len());
        Ok(StepInputs::from([
            (format!("{name}gain"), Tensor::from_vec(gains, (samples, modes, 1, 1), device)?),
            (format!("{name}offset"), Tensor::from_vec(offsets, (samples, modes), device)?),
            (format!("{name}deviation"), Tensor::from_vec(deviations, (samples, modes), device)?),
        ]))
    }

    /// A sample of x_0 given `x`, driven by `z` (N, modes): as likely as the latents themselves, as far as their mean and
    /// covariance go.
    pub fn start<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        step: &StepInputs<B::Value>,
        z: &B::Value,
    ) -> Result<B::Value> {
        let chance = b.multiply(need(step, "deviation")?, z)?;
        let offset = b.weighted_sum(&[(1.0, need(step, "offset")?), (1.0, &chance)])?;
        self.through_modes(b, x, need(step, "gain")?, &offset)
    }

    /// The expected x_0 given `x`.
    pub fn denoise<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        name: &str,
        step: &StepInputs<B::Value>,
    ) -> Result<B::Value> {
        self.through_modes(b, x, need(step, &format!("{name}gain"))?, need(step, &format!("{name}offset"))?)
    }

    /// mu + P (gain Pᵀ x + offset)
    fn through_modes<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        gain: &B::Value,
        offset: &B::Value,
    ) -> Result<B::Value> {
        let modes = b.conv2d(x, &self.project)?;
        let modes = b.multiply(&modes, gain)?;
        let modes = b.add_per_channel(&modes, offset)?;
        let pixels = b.conv2d(&modes, &self.expand)?;
        b.depth_to_space(&pixels, self.size)
    }
}

/// The step input of this name.
pub(super) fn need<'a, V>(step: &'a StepInputs<V>, name: &str) -> Result<&'a V> {
    step.get(name).ok_or_else(|| Error::shape("step inputs", format!("`{name}` is missing")))
}
