//! From a seed to an image: the T denoising steps and the decoder, over any backend.

use candle_core::{Device, Tensor};

use crate::backend::{Backend, CandleBackend, Graph, Recorder};
use crate::config::ModelConfig;
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::layers::{Conv2d, ConvGeometry};
use crate::networks::{Decoder, Generator};
use crate::noise::Stream;

/// A model that can make images.
pub struct Model {
    pub config: ModelConfig,
    pub generator: Generator,
    pub decoder: Decoder,
    pub schedule: Schedule,
    /// Multiplies each channel of a latent by its scale: a diagonal 1x1 convolution.
    unscale: Conv2d,
    /// Where the weights are.
    device: Device,
}

/// The random numbers that a batch of images is made from. Lists are indexed by the step t.
pub struct SampleInputs<V> {
    /// The starting noise, (N, latent_channels, H, W).
    pub x: V,
    /// (N, z_dim)
    pub z: Vec<V>,
    /// Noise of the posterior, shaped as `x`. Step 0 adds none, so `noise[0]` is not used.
    pub noise: Vec<V>,
}

/// Everything that came about on the way to an image.
pub struct Trajectory<V> {
    /// x_T, …, x_0: T + 1 latents (scaled; not quantised).
    pub latents: Vec<V>,
    /// (N, image_channels, H, W), nominally in \[-1, 1\]: not clamped.
    pub image: V,
}

/// Name, shape and values of one random input of a batch.
#[derive(Debug, Clone)]
pub struct NamedNoise {
    /// `x`, `z/<t>` or `noise/<t>`
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Model {
    /// Puts the networks of a valid configuration together.
    pub fn new(config: ModelConfig, generator: Generator, decoder: Decoder, device: &Device) -> Result<Self> {
        let channels = config.latent_scale.len();
        let mut weight = vec![0.0; channels * channels];
        weight.iter_mut().step_by(channels + 1).zip(&config.latent_scale).for_each(|(value, scale)| *value = *scale);
        let weight = Tensor::from_vec(weight, (channels, channels, 1, 1), device)?;
        let unscale = Conv2d { weight, bias: None, geometry: ConvGeometry::same(1) };
        Ok(Self {
            schedule: Schedule::new(&config.diffusion)?,
            config,
            generator,
            decoder,
            unscale,
            device: device.clone(),
        })
    }

    /// The random inputs of the images with these seeds, in the order `x`, then `z/<t>` and `noise/<t>` for each
    /// step t from the last to 0 (there is no `noise/0`).
    pub fn draw(&self, seeds: &[u64]) -> Vec<NamedNoise> {
        let input = |(name, shape): (String, Vec<usize>)| {
            let count = shape[1..].iter().product();
            let values = seeds.iter().flat_map(|&seed| Stream::new(seed, 0, &name).normals(count)).collect();
            NamedNoise { name, shape, values }
        };
        self.input_shapes(seeds.len()).into_iter().map(input).collect()
    }

    fn input_shapes(&self, batch: usize) -> Vec<(String, Vec<usize>)> {
        let config = &self.config.generator;
        let latent = vec![batch, config.latent_channels, config.latent_size, config.latent_size];
        let mut shapes = vec![("x".to_string(), latent.clone())];
        for t in (0..self.schedule.steps()).rev() {
            shapes.push((format!("z/{t}"), vec![batch, config.z_dim]));
            if t > 0 {
                shapes.push((format!("noise/{t}"), latent.clone()));
            }
        }
        shapes
    }

    /// Makes images from noise.
    pub fn sample<B: Backend>(&self, b: &mut B, inputs: &SampleInputs<B::Value>) -> Result<Trajectory<B::Value>> {
        let batch = b.shape(&inputs.x).first().copied().unwrap_or(0);
        let mut x = inputs.x.clone();
        let mut latents = vec![x.clone()];
        for t in (0..self.schedule.steps()).rev() {
            let sinusoids = self.generator.time_sinusoids(&vec![t as u32; batch], &self.device)?;
            let sinusoids = b.constant(&sinusoids)?;
            let x_0 = self.generator.forward(b, &x, &sinusoids, &inputs.z[t])?;
            x = self.posterior(b, t, &x_0, &x, &inputs.noise[t])?;
            latents.push(x.clone());
        }
        let image = self.decode(b, &x)?;
        Ok(Trajectory { latents, image })
    }

    /// The image of a scaled latent.
    pub fn decode<B: Backend>(&self, b: &mut B, latent: &B::Value) -> Result<B::Value> {
        let latent = b.conv2d(latent, &self.unscale)?;
        let quantized = self.decoder.quantize(b, &latent)?;
        self.decoder.forward(b, &quantized)
    }

    fn posterior<B: Backend>(
        &self,
        b: &mut B,
        t: usize,
        x_0: &B::Value,
        x_tp1: &B::Value,
        noise: &B::Value,
    ) -> Result<B::Value> {
        let schedule = &self.schedule;
        if t == 0 {
            return b.weighted_sum(&[(schedule.posterior_mean_coef1[0], x_0)]);
        }
        let terms = [
            (schedule.posterior_mean_coef1[t], x_0),
            (schedule.posterior_mean_coef2[t], x_tp1),
            (schedule.posterior_std[t], noise),
        ];
        b.weighted_sum(&terms)
    }

    /// Records the making of `batch` images. Inputs are named as in [`Self::draw`]; outputs are `latent/<t>` for
    /// t = T, …, 0 and `image`.
    pub fn record(&self, batch: usize) -> Result<Graph> {
        let mut recorder = Recorder::new();
        let mut values = self.input_shapes(batch).into_iter().map(|(name, shape)| {
            let value = recorder.input(&name, &shape);
            (name, value)
        });
        let inputs = arrange(values.by_ref(), self.schedule.steps())?;
        drop(values);
        let trajectory = self.sample(&mut recorder, &inputs)?;
        for (latent, t) in trajectory.latents.iter().zip((0..=self.schedule.steps()).rev()) {
            recorder.output(&format!("latent/{t}"), *latent);
        }
        recorder.output("image", trajectory.image);
        Ok(recorder.finish())
    }

    /// What [`Self::draw`] gives, as tensors.
    pub fn inputs(&self, seeds: &[u64], device: &Device) -> Result<SampleInputs<Tensor>> {
        let tensor =
            |input: NamedNoise| -> Result<_> { Ok((input.name, Tensor::from_vec(input.values, input.shape, device)?)) };
        let tensors = self.draw(seeds).into_iter().map(tensor).collect::<Result<Vec<_>>>()?;
        arrange(tensors.into_iter(), self.schedule.steps())
    }

    /// Makes the images of these seeds with Candle.
    pub fn sample_seeds(&self, seeds: &[u64], device: &Device) -> Result<Trajectory<Tensor>> {
        self.sample(&mut CandleBackend, &self.inputs(seeds, device)?)
    }
}

/// Sorts named values into [`SampleInputs`]; `noise[0]` is filled with `x`, which step 0 does not use.
fn arrange<V: Clone>(values: impl Iterator<Item = (String, V)>, steps: usize) -> Result<SampleInputs<V>> {
    let values: std::collections::HashMap<String, V> = values.collect();
    let get = |name: String| {
        let missing = || Error::shape("sample", format!("input {name} is missing"));
        values.get(&name).cloned().ok_or_else(missing)
    };
    let x = get("x".to_string())?;
    let z = (0..steps).map(|t| get(format!("z/{t}"))).collect::<Result<_>>()?;
    let noise = |t| {
        if t == 0 { Ok(x.clone()) } else { get(format!("noise/{t}")) }
    };
    let noise = (0..steps).map(noise).collect::<Result<_>>()?;
    Ok(SampleInputs { x, z, noise })
}

/// The 8-bit value of a pixel of an image that is nominally in \[-1, 1\].
pub fn to_byte(value: f32) -> u8 {
    // Casting saturates, and takes NaN to 0.
    ((value.clamp(-1.0, 1.0) + 1.0) * 127.5 + 0.5) as u8
}
