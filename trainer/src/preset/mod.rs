//! Presets: everything that a training run is made from, in a TOML file.

mod validate;

use std::path::Path;

use lddgan::{AutoencoderConfig, DiffusionConfig, DiscriminatorConfig, FileConfig, GeneratorConfig, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::gan::reconstruction_weight;

/// The presets that come with the program.
const BUILT_IN: [(&str, &str); 18] = [
    ("faces64", include_str!("../../presets/faces64.toml")),
    ("faces256", include_str!("../../presets/faces256.toml")),
    ("faces256-chain", include_str!("../../presets/faces256-chain.toml")),
    ("cifar10", include_str!("../../presets/cifar10.toml")),
    ("cifar10-slim", include_str!("../../presets/cifar10-slim.toml")),
    ("celebahq256", include_str!("../../presets/celebahq256.toml")),
    ("celebahq256-slim", include_str!("../../presets/celebahq256-slim.toml")),
    ("church256", include_str!("../../presets/church256.toml")),
    ("church256-slim", include_str!("../../presets/church256-slim.toml")),
    ("ddgan-cifar10", include_str!("../../presets/ddgan-cifar10.toml")),
    ("ddgan-celebahq256", include_str!("../../presets/ddgan-celebahq256.toml")),
    ("ddgan-church256", include_str!("../../presets/ddgan-church256.toml")),
    ("wavediff-cifar10", include_str!("../../presets/wavediff-cifar10.toml")),
    ("wavediff-stl10", include_str!("../../presets/wavediff-stl10.toml")),
    ("wavediff-celebahq256", include_str!("../../presets/wavediff-celebahq256.toml")),
    ("wavediff-celebahq512", include_str!("../../presets/wavediff-celebahq512.toml")),
    ("wavediff-celebahq1024", include_str!("../../presets/wavediff-celebahq1024.toml")),
    ("wavediff-church256", include_str!("../../presets/wavediff-church256.toml")),
];

/// A preset that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    #[error("there is no preset `{name}`: give the path of a .toml file, or one of {known}")]
    Unknown { name: String, known: String },
    #[error("preset {name}: {reason}")]
    Invalid { name: String, reason: String },
}

/// The networks and how they are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Goes into the model file.
    pub name: String,
    pub autoencoder: AutoencoderConfig,
    pub generator: GeneratorConfig,
    #[serde(default)]
    pub diffusion: DiffusionConfig,
    pub discriminator: DiscriminatorConfig,
    /// Absent where the autoencoder comes from elsewhere, with `lddgan import`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_autoencoder: Option<AutoencoderTraining>,
    pub train_gan: GanTraining,
}

/// How the autoencoder is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderTraining {
    /// Training images seen in all.
    pub images: u64,
    pub batch: usize,
    /// Trains on random squares of so many pixels instead of whole images, which is cheaper; a multiple of the factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<usize>,
    pub learning_rate: f64,
    /// Where both networks' learning rates end, along half a cosine over the `images`; without it, they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_learning_rate: Option<f64>,
    /// Weight of the commitment of encoder outputs to their codes (VQ-VAE's beta); of use to the VQ kind alone.
    #[serde(default)]
    pub commitment: f64,
    /// Standard deviation of noise added to the latents that the decoder sees, relative to each channel's own; prepares
    /// the decoder for the generator's errors.
    #[serde(default)]
    pub latent_noise: f64,
    /// Steps after which a code that nothing was near to is replaced by a latent vector of the batch; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_codes_after: Option<u32>,
    /// Weight of the structural dissimilarity of images and reconstructions, beside the mean absolute difference.
    #[serde(default)]
    pub structure: f64,
    /// Weight of the perceptual distance LPIPS, which takes part where its weights are given (`--lpips`).
    #[serde(default = "one")]
    pub perceptual: f64,
    /// Weight of the distance in features of a network that recognises images (`--features`).
    #[serde(default)]
    pub features: f64,
    /// Weight of the excess of regular patterns of 4 pixels over those of the images.
    #[serde(default)]
    pub lattice: f64,
    /// Size of the gradient of the projected discriminator's verdict on the image, relative to that of the losses above. It judges
    /// features of the network in `--features`, and learns from the first step on.
    #[serde(default)]
    pub projected: f64,
    /// Images seen before the decoder learns from the projected discriminator.
    #[serde(default)]
    pub projected_from: u64,
    /// Size of the gradient of the patch discriminator's verdict on the image, relative to that of the losses above `projected`.
    pub adversarial: f64,
    /// Images seen before the patch discriminator takes part.
    pub adversarial_from: u64,
    pub discriminator_learning_rate: f64,
    /// Largest norm of a network's gradient, which is scaled down to it; without it, gradients are taken as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_clip: Option<f64>,
    /// Channels of the patch discriminator's first layer, a multiple of 8.
    pub discriminator_channels: usize,
    /// Layers of the patch discriminator between its first and its last.
    pub discriminator_layers: usize,
}

/// How latents are scaled for the diffusion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LatentNormalization {
    /// All channels are divided by this number (`scale_factor`).
    Fixed(f32),
    /// The largest absolute value of all channels becomes 1, the range of a generator with tanh (as the paper).
    MaxAbs,
    /// Each channel's standard deviation becomes 1, that of the noise; for a generator without tanh.
    Standardize,
    /// The root mean square of the channels' standard deviations becomes 1, by one number for all of them: channels that
    /// matter more stand out of the noise earlier. For a generator without tanh.
    UnitRms,
}

/// How generator and discriminator are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GanTraining {
    /// Training latents seen in all; the weighted-learning schedule runs over them.
    pub images: u64,
    pub batch: usize,
    pub generator_learning_rate: f64,
    pub discriminator_learning_rate: f64,
    /// Where both learning rates end, along half a cosine over the `images` (the reference's 1e-5, `eta_min`); without
    /// it, they stay (its `no_lr_decay`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_learning_rate: Option<f64>,
    /// Where the generator's learning rate ends, along half a cosine; the discriminator's then stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_generator_learning_rate: Option<f64>,
    /// Largest norm of a network's gradient, which is scaled down to it; without it, gradients are taken as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_clip: Option<f64>,
    /// Weight of the R1 penalty (`r1_gamma`).
    pub r1_gamma: f64,
    /// The penalty is applied at every so many steps (`lazy_reg`).
    pub lazy_reg: u64,
    /// The discriminator sees each pair moved by up to so many of the latent's pixels in both directions, so that it does not
    /// learn a small data set by heart (DiffAugment).
    #[serde(default)]
    pub translation: u32,
    /// Whether every image is trained on as its mirror image, too. That doubles the data; where left and right differ, as
    /// under light from one side, it adds images that the data has none of.
    #[serde(default = "yes")]
    pub mirrored: bool,
    /// How latents are scaled for the diffusion.
    pub latent_normalization: LatentNormalization,
    /// Decay of the generator's exponential moving average (`ema_decay`).
    pub ema_decay: f64,
    /// Weight of the reconstruction loss at the beginning (the reference has 1, or 0 without
    /// `rec_loss`). Its gradient on a latent is small, so that more of it teaches the generator's first steps sooner.
    #[serde(default = "one")]
    pub reconstruction: f64,
    /// Whether that weight falls.
    #[serde(default)]
    pub reconstruction_schedule: WeightSchedule,
    /// Train on whole chains of steps instead of single ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainTraining>,
}

/// Training on whole chains: the generator makes x_0 from noise in all of its steps, as it does afterwards, and learns from what
/// judges say of x_0, by a gradient through all steps. Single steps see training latents with noise instead, and never the
/// faults that other steps leave. For generators that have learned single steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainTraining {
    /// How many steps a chain may have; each iteration draws one of these numbers.
    pub steps: Vec<usize>,
    /// How often the discriminator sees a pair (x_t, x_{t+1}) of each step t, relative to each other. The pairs are drawn by the
    /// diffusion, from x_0 of a chain as from training latents.
    pub pairs: Vec<f64>,
    /// Size of the projected discriminator's gradient on x_0, relative to that of the discriminator of pairs. It judges features
    /// of the network in `--features`, on pictures that a linear map makes of latents. 0 leaves it out.
    #[serde(default)]
    pub projected: f64,
    /// Learning rate of the projected discriminator.
    #[serde(default = "projected_learning_rate")]
    pub projected_learning_rate: f64,
    /// Height and width of the pictures in pixels.
    #[serde(default = "picture_size")]
    pub picture_size: usize,
    /// Each picture is moved by up to so many pixels in both directions,
    #[serde(default)]
    pub shift: u32,
    /// made brighter or darker by up to this (white is 1, black -1),
    #[serde(default)]
    pub brightness: f64,
    /// given up to so much more or less contrast (1 would leave none),
    #[serde(default)]
    pub contrast: f64,
    /// and up to so much more or less saturation.
    #[serde(default)]
    pub saturation: f64,
    /// Images seen before the generator learns: the judges learn alone until then.
    #[serde(default)]
    pub generator_from: u64,
    /// Adam's betas for generator and projected discriminator.
    pub betas: [f64; 2],
}

fn projected_learning_rate() -> f64 {
    2e-4
}

fn picture_size() -> usize {
    128
}

/// What becomes of the weight of the reconstruction loss in the course of training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightSchedule {
    /// It falls along a sigmoid from almost all to almost nothing (LDDGAN's weighted learning).
    #[default]
    Falling,
    /// It stays (WaveDiff).
    Constant,
}

impl GanTraining {
    /// The weight of the reconstruction loss after `progress` (0 to 1) of the training.
    pub fn reconstruction_weight(&self, progress: f64) -> f64 {
        self.reconstruction
            * match self.reconstruction_schedule {
                WeightSchedule::Falling => reconstruction_weight(progress),
                WeightSchedule::Constant => 1.0,
            }
    }
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

impl Preset {
    /// How to train the autoencoder, where the preset says it.
    pub fn autoencoder_training(&self) -> Result<&AutoencoderTraining, PresetError> {
        self.train_autoencoder.as_ref().ok_or_else(|| PresetError::Invalid {
            name: self.name.clone(),
            reason: "has no [train_autoencoder]: its autoencoder is read with `lddgan import`".to_string(),
        })
    }

    /// Reads a preset by its name or from a file.
    pub fn load(name: &str) -> Result<Self, PresetError> {
        let invalid = |reason: String| PresetError::Invalid { name: name.to_string(), reason };
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| text.to_string());
        let text = match built_in {
            Some(text) => text,
            None if Path::new(name).exists() => {
                std::fs::read_to_string(name).map_err(|error| invalid(error.to_string()))?
            }
            None => {
                let known = BUILT_IN.map(|(known, _)| known).join(", ");
                return Err(PresetError::Unknown { name: name.to_string(), known });
            }
        };
        Self::parse(name, &text)
    }

    /// Reads a preset from the text of a TOML file; `name` is for errors.
    pub fn parse(name: &str, text: &str) -> Result<Self, PresetError> {
        let invalid = |reason: String| PresetError::Invalid { name: name.to_string(), reason };
        let preset: Self = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        preset.validate().map_err(invalid)?;
        Ok(preset)
    }

    /// The networks, with latents that are not scaled.
    pub fn model_config(&self) -> ModelConfig {
        ModelConfig {
            generator: self.generator.clone(),
            autoencoder: self.autoencoder.clone(),
            diffusion: self.diffusion.clone(),
            latent_scale: vec![1.0; self.generator.latent_channels],
        }
    }

    /// The settings of every network that it trains.
    pub fn networks(&self) -> FileConfig {
        FileConfig { discriminator: Some(self.discriminator.clone()), ..self.model_config().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_presets_are_valid_and_carry_their_names() {
        for (name, _) in BUILT_IN {
            assert_eq!(Preset::load(name).unwrap().name, name);
        }
    }

    #[test]
    fn unknown_keys_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), BUILT_IN[0].1.replace("batch = ", "bach = ")).unwrap();
        let error = Preset::load(file.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("bach"), "{error}");
    }

    /// The message of a preset with one value changed; `None` if it is valid.
    fn refused(built_in: &str, section: &str, field: &str, value: impl Into<toml::Value>) -> Option<String> {
        let text = BUILT_IN.iter().find(|(name, _)| *name == built_in).unwrap().1;
        let mut preset: toml::Table = text.parse().unwrap();
        let mut table = &mut preset;
        for part in section.split('.') {
            table = table[part].as_table_mut().unwrap();
        }
        table.insert(field.to_string(), value.into());
        toml::Value::Table(preset).try_into::<Preset>().unwrap().validate().err()
    }

    /// Every number with a fraction that presets know, those that are left out of the built-in ones too.
    #[test]
    fn no_number_is_taken_that_makes_no_sense() {
        let text = toml::to_string(&Preset::load("faces256").unwrap()).unwrap();
        let preset: toml::Table = text.parse().unwrap();
        let mut fields = vec![("train_gan", "final_learning_rate"), ("train_gan", "gradient_clip")];
        for section in ["train_autoencoder", "train_gan"] {
            let floats = preset[section].as_table().unwrap().iter().filter(|(_, value)| value.is_float());
            fields.extend(floats.map(|(field, _)| (section, field.as_str())));
        }
        assert!(fields.len() >= 15, "{fields:?}");
        for (section, field) in fields {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-9, 1e30] {
                let said = refused("faces256", section, field, value).unwrap_or_default();
                assert!(said.starts_with(&format!("{section}.{field}: ")), "{section}.{field} = {value}: {said:?}");
            }
        }
        for (field, value) in
            [("ema_decay", 1.0), ("generator_learning_rate", 0.0), ("discriminator_learning_rate", 2.0)]
        {
            assert!(refused("faces256", "train_gan", field, value).unwrap().contains(field));
        }
        for (field, value) in [("ema_decay", 0.0), ("r1_gamma", 0.0), ("final_generator_learning_rate", 0.0)] {
            assert_eq!(refused("faces256", "train_gan", field, value), None);
        }
    }

    #[test]
    fn networks_that_cannot_be_built_or_trained_are_refused() {
        let attention = |sizes: [i64; 1]| toml::Value::from(sizes.to_vec());
        for (section, field, value, said) in [
            ("generator", "attention", attention([5]), "generator.attention: 5 is not the size"),
            (
                "autoencoder.decoder",
                "attention",
                attention([256]),
                "autoencoder.decoder.attention: 256 is not the size",
            ),
            ("autoencoder", "image_channels", 1.into(), "set it to 3"),
            ("autoencoder.decoder", "groups", 3.into(), "3"),
            ("discriminator", "layers", 0.into(), "layers"),
            ("train_gan", "batch", 0.into(), "train_gan.batch: 0 must be at least 1"),
            ("train_gan", "batch", 6.into(), "multiple of 4"),
            ("train_gan", "lazy_reg", 0.into(), "train_gan.lazy_reg: 0 must be at least 1"),
            ("train_autoencoder", "discriminator_channels", 12.into(), "multiple of 8"),
            ("train_autoencoder", "crop", 24.into(), "train_autoencoder.crop"),
        ] {
            let found = refused("faces256", section, field, value).unwrap_or_default();
            assert!(found.contains(said), "{section}.{field}: {found:?}");
        }
        assert_eq!(refused("faces256", "generator", "attention", attention([4])), None);
    }
}
