//! The networks that a model file can hold: for each, its name, how it is built, what it takes and what it gives.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;

use super::{Decoder, Discriminator, Encoder, Generator, LatentDistribution, StepInputs};
use crate::backend::Backend;
use crate::config::{AutoencoderConfig, FileConfig};
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::graph::{Graph, Recorder};

/// A network by name; in model files its tensors are named `<name>.…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkName {
    /// x_{t+1}, t and z to x_0
    Generator,
    /// Images to latents
    Encoder,
    /// Latents to images
    Decoder,
    /// x_t, t and x_{t+1} to logits
    Discriminator,
}

/// What an input of a network is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The step t of each sample. Networks take what follows from it: see [`Network::step_inputs`].
    Steps,
    /// A tensor, batch first; the dimensions after the batch.
    Tensor(Vec<Dimension>),
}

/// One dimension of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// This size alone.
    Exactly(usize),
    /// A side of an image: any multiple of `factor`. `usual` is that of the configuration, 0 if it names none.
    Side {
        /// 1 where any size will do.
        factor: usize,
        /// In pixels.
        usual: usize,
    },
}

impl Dimension {
    /// Whether an input may have this size.
    pub fn admits(self, size: usize) -> bool {
        match self {
            Self::Exactly(expected) => size == expected,
            Self::Side { factor, .. } => size > 0 && size.is_multiple_of(factor),
        }
    }

    /// The size that the configuration names.
    fn usual(self) -> usize {
        match self {
            Self::Exactly(size) => size,
            Self::Side { usual, .. } => usual,
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(size) => write!(f, "{size}"),
            Self::Side { factor: 1, .. } => write!(f, "any"),
            Self::Side { factor, .. } => write!(f, "multiple of {factor}"),
        }
    }
}

impl NetworkName {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Generator, Self::Encoder, Self::Decoder, Self::Discriminator];

    /// As in model files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generator => "generator",
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Discriminator => "discriminator",
        }
    }

    /// Whether `config` has the settings of this network.
    pub fn is_described_by(self, config: &FileConfig) -> bool {
        match self {
            Self::Generator => config.generator.is_some(),
            Self::Encoder | Self::Decoder => config.autoencoder.is_some(),
            Self::Discriminator => config.discriminator.is_some(),
        }
    }

    /// The inputs by name, in the order in which they are written down everywhere. An error if `config` does not describe
    /// this network.
    pub fn inputs(self, config: &FileConfig) -> Result<Vec<(&'static str, Input)>> {
        let image = |channels, factor, usual| {
            let side = Dimension::Side { factor, usual };
            Input::Tensor(vec![Dimension::Exactly(channels), side, side])
        };
        Ok(match self {
            Self::Generator => {
                let config = self.settings(&config.generator)?;
                let x = image(config.latent_channels, config.size_factor(), config.latent_size);
                vec![("x", x), ("t", Input::Steps), ("z", Input::Tensor(vec![Dimension::Exactly(config.z_dim)]))]
            }
            Self::Encoder => {
                let config = self.settings(&config.autoencoder)?;
                vec![("x", image(config.image_channels, config.factor(), config.image_size))]
            }
            Self::Decoder => {
                let config = self.settings(&config.autoencoder)?;
                vec![("latent", image(config.latent_channels, 1, config.latent_size()))]
            }
            Self::Discriminator => {
                let own = self.settings(&config.discriminator)?;
                let size = config.generator.as_ref().map_or(own.latent_size, |generator| generator.latent_size);
                let latent = image(own.latent_channels, 1, size);
                vec![("x_t", latent.clone()), ("t", Input::Steps), ("x_tp1", latent)]
            }
        })
    }

    /// Whether `config` says how large all inputs are; it does not for a discriminator alone.
    pub fn has_sizes(self, config: &FileConfig) -> Result<bool> {
        let sized = |input: &Input| match input {
            Input::Steps => true,
            Input::Tensor(dimensions) => dimensions.iter().all(|dimension| dimension.usual() > 0),
        };
        Ok(self.inputs(config)?.iter().all(|(_, input)| sized(input)))
    }

    /// Whether more depends on a step than its number: the network knows the latents' normal distribution.
    pub fn has_gaussian(self, config: &FileConfig) -> bool {
        match self {
            Self::Generator => config.generator.as_ref().is_some_and(|config| config.gaussian_modes > 0),
            Self::Discriminator => config.discriminator.as_ref().is_some_and(|config| config.gaussian_modes > 0),
            Self::Encoder | Self::Decoder => false,
        }
    }

    fn settings<T>(self, field: &Option<T>) -> Result<&T> {
        field.as_ref().ok_or_else(|| Error::config(self.as_str(), "has no settings"))
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for NetworkName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|network| network.as_str() == name);
        found.ok_or_else(|| Error::config(name, "no network has this name"))
    }
}

impl FileConfig {
    /// The networks that it describes.
    pub fn networks(&self) -> impl Iterator<Item = NetworkName> {
        NetworkName::ALL.into_iter().filter(|name| name.is_described_by(self))
    }
}

/// A network of any kind.
pub enum Network {
    /// See [`Generator`].
    Generator(Box<Generator>),
    /// See [`Encoder`].
    Encoder(Encoder),
    /// See [`Decoder`].
    Decoder {
        /// The network.
        decoder: Decoder,
        /// Whether it looks latents up in its codebook first.
        quantize: bool,
    },
    /// See [`Discriminator`].
    Discriminator(Box<Discriminator>),
}

impl Network {
    /// Takes its parameters from `vb`. An error if `config` does not describe it, or no network can be built so.
    pub fn new(name: NetworkName, config: &FileConfig, vb: VarBuilder) -> Result<Self> {
        let autoencoder = || -> Result<&AutoencoderConfig> { name.settings(&config.autoencoder) };
        Ok(match name {
            NetworkName::Generator => Self::Generator(Box::new(Generator::new(vb, name.settings(&config.generator)?)?)),
            NetworkName::Encoder => Self::Encoder(Encoder::new(vb, autoencoder()?)?),
            NetworkName::Decoder => Self::Decoder { decoder: Decoder::new(vb, autoencoder()?)?, quantize: true },
            NetworkName::Discriminator => {
                Self::Discriminator(Box::new(Discriminator::new(vb, name.settings(&config.discriminator)?)?))
            }
        })
    }

    /// Which one it is.
    pub fn name(&self) -> NetworkName {
        match self {
            Self::Generator(_) => NetworkName::Generator,
            Self::Encoder(_) => NetworkName::Encoder,
            Self::Decoder { .. } => NetworkName::Decoder,
            Self::Discriminator(_) => NetworkName::Discriminator,
        }
    }

    /// What it takes in place of the steps `t` of `schedule`; nothing if it takes no steps.
    pub fn step_inputs(&self, schedule: &Schedule, t: &[u32], device: &Device) -> Result<StepInputs<Tensor>> {
        match self {
            Self::Generator(generator) => generator.step_inputs(schedule, t, device),
            Self::Discriminator(discriminator) => discriminator.step_inputs(schedule, t, device),
            Self::Encoder(_) | Self::Decoder { .. } => Ok(StepInputs::new()),
        }
    }

    /// Its outputs by name: `x0` of the generator, `logits` of the discriminator, `image` of the decoder, and `quantized`
    /// where it has a codebook and uses it, `latent` of the encoder, or `mean` and `logvar` (not clamped) of the KL kind.
    /// `inputs` are those of [`NetworkName::inputs`], with [`Self::step_inputs`] in place of `t`.
    pub fn forward<B: Backend>(
        &self,
        b: &mut B,
        inputs: &BTreeMap<String, B::Value>,
    ) -> Result<BTreeMap<String, B::Value>> {
        let get = |name: &str| {
            let missing = || Error::shape("forward", format!("the input `{name}` of the {} is missing", self.name()));
            inputs.get(name).ok_or_else(missing)
        };
        let outputs = match self {
            Self::Generator(generator) => vec![("x0", generator.forward(b, get("x")?, inputs, get("z")?)?)],
            Self::Discriminator(discriminator) => {
                vec![("logits", discriminator.forward(b, get("x_t")?, inputs, get("x_tp1")?)?)]
            }
            Self::Encoder(encoder) => match encoder.latent_distribution(b, get("x")?)? {
                Some(LatentDistribution { mean, log_variance }) => vec![("mean", mean), ("logvar", log_variance)],
                None => vec![("latent", encoder.forward(b, get("x")?)?)],
            },
            Self::Decoder { decoder, quantize } if *quantize && decoder.codebook().is_some() => {
                let quantized = decoder.quantize(b, get("latent")?)?;
                vec![("image", decoder.forward(b, &quantized)?), ("quantized", quantized)]
            }
            Self::Decoder { decoder, .. } => vec![("image", decoder.forward(b, get("latent")?)?)],
        };
        Ok(outputs.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }

    /// Name and shape of each tensor that [`Self::forward`] takes for `batch` samples of the sizes in `config`.
    pub fn shapes(&self, config: &FileConfig, batch: usize) -> Result<Vec<(String, Vec<usize>)>> {
        let mut shapes = Vec::new();
        for (name, input) in self.name().inputs(config)? {
            match input {
                Input::Tensor(dimensions) => {
                    let sizes = dimensions.into_iter().map(Dimension::usual);
                    shapes.push((name.to_string(), [batch].into_iter().chain(sizes).collect()));
                }
                // Their shapes are the same whatever the schedule.
                Input::Steps => {
                    let schedule = Schedule::new(&Default::default())?;
                    let step = self.step_inputs(&schedule, &vec![0; batch], &Device::Cpu)?;
                    shapes.extend(step.into_iter().map(|(name, tensor)| (name, tensor.dims().to_vec())));
                }
            }
        }
        Ok(shapes)
    }

    /// [`Self::forward`] on inputs of these names and shapes, as a graph.
    pub fn record(&self, shapes: &[(String, Vec<usize>)]) -> Result<Graph> {
        let mut recorder = Recorder::new();
        let inputs = shapes.iter().map(|(name, shape)| (name.clone(), recorder.input(name, shape))).collect();
        for (name, node) in &self.forward(&mut recorder, &inputs)? {
            recorder.output(name, *node);
        }
        Ok(recorder.finish())
    }
}
