//! From a seed to an image: the T denoising steps and the decoder, over any backend.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Device, Tensor};

use crate::backend::{Backend, CandleBackend};
use crate::config::ModelConfig;
use crate::diffusion::Schedule;
use crate::directions::Directions;
use crate::error::Result;
use crate::graph::{Graph, Recorder};
use crate::layers::{Conv2d, ConvGeometry};
use crate::networks::{Decoder, Generator, StepInputs};
use crate::parameters::TensorMap;
use crate::recipe::Recipe;
use crate::stage::Stage;

/// The input of [`Model::record_decode`].
pub const LATENT: &str = "latent";

/// A model that can make images.
pub struct Model {
    id: u64,
    /// What the networks were built from.
    pub config: ModelConfig,
    /// Undoes diffusion steps.
    pub generator: Generator,
    /// Turns latents into images.
    pub decoder: Decoder,
    /// The noise of each step.
    pub schedule: Schedule,
    /// The t of the latents on the way to an image, T, …, 0; see [`Self::set_steps`].
    levels: Vec<usize>,
    directions: Directions,
    /// Multiplies each channel of a latent by its scale: a diagonal 1x1 convolution.
    unscale: Conv2d,
    /// Where the weights are.
    device: Device,
}

/// The random numbers that a batch of images is made from. Lists have an entry for each step, the first step first.
#[derive(Clone)]
pub struct SampleInputs<V> {
    /// The starting noise, (N, latent_channels, H, W).
    pub x: V,
    /// (N, z_dim)
    pub z: Vec<V>,
    /// Noise of the posterior, shaped as `x`. The last step adds none.
    pub noise: Vec<V>,
}

/// Everything that came about on the way to an image.
pub struct Trajectory<V> {
    /// The latents of [`Model::levels`], x_T first (scaled; not quantised).
    pub latents: Vec<V>,
    /// (N, image_channels, H, W), nominally in \[-1, 1\]: not clamped.
    pub image: V,
}

/// Name, shape and values of one random input of a batch.
#[derive(Debug, Clone)]
pub struct NamedNoise {
    /// Of its [`Stage`].
    pub name: String,
    /// Batch first.
    pub shape: Vec<usize>,
    /// In the order of the shape.
    pub values: Vec<f32>,
}

impl NamedNoise {
    /// As executors take it.
    pub fn as_input(&self) -> (&str, &[f32]) {
        (&self.name, &self.values)
    }
}

impl Model {
    /// Puts the networks of a valid configuration together.
    pub fn new(config: ModelConfig, generator: Generator, decoder: Decoder, device: &Device) -> Result<Self> {
        let channels = config.latent_scale.len();
        let mut weight = vec![0.0; channels * channels];
        weight.iter_mut().step_by(channels + 1).zip(&config.latent_scale).for_each(|(value, scale)| *value = *scale);
        let weight = Tensor::from_vec(weight, (channels, channels, 1, 1), device)?;
        let unscale = Conv2d { weight, bias: None, geometry: ConvGeometry::same(1) };
        let schedule = Schedule::new(&config.diffusion)?;
        let directions =
            Directions::modes(config.generator.gaussian_modes, &Stage::Z(schedule.steps() - 1).to_string());
        static MODELS: AtomicU64 = AtomicU64::new(1);
        Ok(Self {
            id: MODELS.fetch_add(1, Ordering::Relaxed),
            levels: schedule.levels(schedule.steps())?,
            schedule,
            directions,
            config,
            generator,
            decoder,
            unscale,
            device: device.clone(),
        })
    }

    /// With the directions in the tensors of a file, if it has some; `file` is for errors.
    pub(crate) fn with_directions(mut self, tensors: &TensorMap, file: &str) -> Result<Self> {
        if !tensors.is_empty() {
            let draws: BTreeMap<_, _> = self
                .input_shapes(1)
                .into_iter()
                .map(|(stage, shape)| (stage.to_string(), shape[1..].to_vec()))
                .collect();
            self.directions = Directions::read(tensors, &draws, file)?;
        }
        Ok(self)
    }

    /// What its images can be moved along.
    pub fn directions(&self) -> &Directions {
        &self.directions
    }

    /// Tells this model from all others of this program, of the same weights or not.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Makes images in this many steps from now on. Fewer than the model was trained for are faster and less good.
    pub fn set_steps(&mut self, steps: usize) -> Result<()> {
        self.levels = self.schedule.levels(steps)?;
        Ok(())
    }

    /// The t of the latents x_t on the way to an image, from T down to 0.
    pub fn levels(&self) -> &[usize] {
        &self.levels
    }

    /// The steps: the t that each comes from and leads to.
    fn steps(&self) -> impl Iterator<Item = (usize, usize)> {
        self.levels.windows(2).map(|pair| (pair[0], pair[1]))
    }

    /// The random inputs of the images with these recipes, or seeds: [`Stage::X`], then [`Stage::Z`] and [`Stage::Noise`]
    /// for each step, the last without noise.
    pub fn draw<R: Copy + Into<Recipe>>(&self, recipes: &[R]) -> Vec<NamedNoise> {
        let recipes: Vec<Recipe> = recipes.iter().map(|&recipe| recipe.into()).collect();
        let input = |(stage, shape): (Stage, Vec<usize>)| {
            let count = shape[1..].iter().product();
            let draw = |recipe: &Recipe| {
                let mut values = recipe.draw(stage, count);
                self.directions.apply(&stage.to_string(), &recipe.shifts, &mut values);
                values
            };
            let values = recipes.iter().flat_map(draw).collect();
            NamedNoise { name: stage.to_string(), shape, values }
        };
        self.input_shapes(recipes.len()).into_iter().map(input).collect()
    }

    fn input_shapes(&self, batch: usize) -> Vec<(Stage, Vec<usize>)> {
        let config = &self.config.generator;
        let latent = self.latent_shape(batch);
        let mut shapes = vec![(Stage::X, latent.to_vec())];
        for (from, to) in self.steps() {
            let t = from - 1;
            shapes.push((Stage::Z(t), vec![batch, config.z_dim]));
            if to > 0 {
                shapes.push((Stage::Noise(t), latent.to_vec()));
            }
        }
        shapes
    }

    fn latent_shape(&self, batch: usize) -> [usize; 4] {
        let config = &self.config.generator;
        [batch, config.latent_channels, config.latent_size, config.latent_size]
    }

    /// Makes images from noise.
    pub fn sample<B: Backend>(&self, b: &mut B, inputs: &SampleInputs<B::Value>) -> Result<Trajectory<B::Value>> {
        let (mut latents, last) = self.denoise(b, inputs)?;
        let image = self.decode(b, &last)?;
        latents.push(last);
        Ok(Trajectory { latents, image })
    }

    /// Makes latents from noise, as the decoder takes them: not scaled, and not quantised.
    pub fn sample_latents<B: Backend>(&self, b: &mut B, inputs: &SampleInputs<B::Value>) -> Result<B::Value> {
        let (_, last) = self.denoise(b, inputs)?;
        b.conv2d(&last, &self.unscale)
    }

    /// The latents of all levels but the last, x_T first, and the last one.
    fn denoise<B: Backend>(&self, b: &mut B, inputs: &SampleInputs<B::Value>) -> Result<(Vec<B::Value>, B::Value)> {
        let (mut latents, mut x) = (Vec::new(), inputs.x.clone());
        for index in 0..self.steps().count() {
            let next = self.step(b, &x, inputs, index)?;
            latents.push(std::mem::replace(&mut x, next));
        }
        Ok((latents, x))
    }

    /// The latent after the denoising step of this index, the first being 0, from the latent before it.
    pub fn step<B: Backend>(
        &self,
        b: &mut B,
        x: &B::Value,
        inputs: &SampleInputs<B::Value>,
        index: usize,
    ) -> Result<B::Value> {
        let (from, to) = (self.levels[index], self.levels[index + 1]);
        let batch = b.shape(x).first().copied().unwrap_or(0);
        let step = self.generator.step_inputs(&self.schedule, &vec![from as u32 - 1; batch], &self.device)?;
        let step = constants(b, &step)?;
        let x_0 = self.generator.forward(b, x, &step, &inputs.z[index])?;
        self.schedule.posterior(from, to).sample(b, &x_0, x, inputs.noise.get(index))
    }

    /// The image of a scaled latent.
    pub fn decode<B: Backend>(&self, b: &mut B, latent: &B::Value) -> Result<B::Value> {
        let latent = b.conv2d(latent, &self.unscale)?;
        let quantized = self.decoder.quantize(b, &latent)?;
        self.decoder.forward(b, &quantized)
    }

    /// Records the making of `batch` images. Inputs are those of [`Self::draw`]; outputs are [`Stage::Latent`] for each
    /// of [`Self::levels`], and [`Stage::Image`].
    pub fn record(&self, batch: usize) -> Result<Graph> {
        let mut recorder = Recorder::new();
        let shapes = self.input_shapes(batch).into_iter();
        let values = shapes.map(|(stage, shape)| (stage, recorder.input(&stage.to_string(), &shape)));
        let inputs = arrange(values.collect());
        let trajectory = self.sample(&mut recorder, &inputs)?;
        for (latent, t) in trajectory.latents.iter().zip(&self.levels) {
            recorder.output(&Stage::Latent(*t).to_string(), *latent);
        }
        recorder.output(&Stage::Image.to_string(), trajectory.image);
        Ok(recorder.finish())
    }

    /// Records [`Self::decode`] of `batch` latents: from [`LATENT`] to [`Stage::Image`].
    pub fn record_decode(&self, batch: usize) -> Result<Graph> {
        let mut recorder = Recorder::new();
        let latent = recorder.input(LATENT, &self.latent_shape(batch));
        let image = self.decode(&mut recorder, &latent)?;
        recorder.output(&Stage::Image.to_string(), image);
        Ok(recorder.finish())
    }

    /// What [`Self::draw`] gives, as tensors.
    pub fn inputs<R: Copy + Into<Recipe>>(&self, recipes: &[R], device: &Device) -> Result<SampleInputs<Tensor>> {
        let shapes = self.input_shapes(recipes.len()).into_iter();
        let tensor = |((stage, shape), input): ((Stage, _), NamedNoise)| -> Result<_> {
            Ok((stage, Tensor::from_vec::<Vec<usize>, _>(input.values, shape, device)?))
        };
        Ok(arrange(shapes.zip(self.draw(recipes)).map(tensor).collect::<Result<_>>()?))
    }

    /// Makes the images of these seeds or recipes with Candle.
    pub fn sample_seeds<R: Copy + Into<Recipe>>(&self, recipes: &[R], device: &Device) -> Result<Trajectory<Tensor>> {
        self.sample(&mut CandleBackend, &self.inputs(recipes, device)?)
    }
}

/// Tensors that are the same at every run.
pub fn constants<B: Backend>(b: &mut B, tensors: &TensorMap) -> Result<StepInputs<B::Value>> {
    tensors.iter().map(|(name, tensor)| Ok((name.clone(), b.constant(tensor)?))).collect()
}

/// Sorts values in the order of [`Model::draw`] into [`SampleInputs`].
fn arrange<V: Clone>(values: Vec<(Stage, V)>) -> SampleInputs<V> {
    let of = |is: fn(&Stage) -> bool| -> Vec<V> {
        values.iter().filter(|(stage, _)| is(stage)).map(|(_, value)| value.clone()).collect()
    };
    SampleInputs {
        x: values[0].1.clone(),
        z: of(|stage| matches!(stage, Stage::Z(_))),
        noise: of(|stage| matches!(stage, Stage::Noise(_))),
    }
}

/// The 8-bit value of a pixel of an image that is nominally in \[-1, 1\].
pub fn to_byte(value: f32) -> u8 {
    // Casting saturates, and takes NaN to 0.
    ((value.clamp(-1.0, 1.0) + 1.0) * 127.5 + 0.5) as u8
}
