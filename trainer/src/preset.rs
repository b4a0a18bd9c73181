//! Presets: everything that a training run is made from, in a TOML file.

use std::path::Path;

use lddgan::{AutoencoderConfig, DiffusionConfig, DiscriminatorConfig, GeneratorConfig, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::autoencoder::Lattice;

/// The presets that come with the program.
const BUILT_IN: [(&str, &str); 7] = [
    ("faces64", include_str!("../presets/faces64.toml")),
    ("faces256", include_str!("../presets/faces256.toml")),
    ("cifar10", include_str!("../presets/cifar10.toml")),
    ("celebahq256", include_str!("../presets/celebahq256.toml")),
    ("church256", include_str!("../presets/church256.toml")),
    ("cifar10-pixel", include_str!("../presets/cifar10-pixel.toml")),
    ("cifar10-wavelet", include_str!("../presets/cifar10-wavelet.toml")),
];

/// A preset that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    #[error("no preset `{name}`: give the path of a .toml file, or one of {known}")]
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
    /// How latents are scaled for the diffusion.
    pub latent_normalization: LatentNormalization,
    /// Decay of the generator's exponential moving average (`ema_decay`).
    pub ema_decay: f64,
    /// Weight of the reconstruction loss at the beginning, from where it falls to nothing (the reference has 1, or 0 without
    /// `rec_loss`). Its gradient on a latent is small, so that more of it teaches the generator's first steps sooner.
    #[serde(default = "one")]
    pub reconstruction: f64,
}

fn one() -> f64 {
    1.0
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
        let preset: Self = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
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

    fn validate(&self) -> Result<(), String> {
        self.model_config().validate().map_err(|error| error.to_string())?;
        let gan = &self.train_gan;
        if gan.batch == 0 || !gan.batch.is_multiple_of(gan.batch.min(4)) {
            return Err(format!("train_gan.batch: {} is no multiple of 4", gan.batch));
        }
        if gan.lazy_reg == 0 {
            return Err("train_gan.lazy_reg must be at least 1".to_string());
        }
        if self.discriminator.latent_channels != self.generator.latent_channels {
            return Err("discriminator.latent_channels differs from generator.latent_channels".to_string());
        }
        let denoising = self.discriminator.gaussian_modes > 0;
        if denoising && self.discriminator.latent_size != self.generator.latent_size {
            return Err("discriminator.latent_size differs from generator.latent_size".to_string());
        }
        if denoising && self.discriminator.gaussian_modes != self.generator.gaussian_modes {
            return Err("discriminator.gaussian_modes differs from generator.gaussian_modes".to_string());
        }
        if gan.final_learning_rate.is_some() && gan.final_generator_learning_rate.is_some() {
            return Err("train_gan: either final_learning_rate or final_generator_learning_rate".to_string());
        }
        if gan.translation as usize >= self.generator.latent_size {
            return Err("train_gan.translation must be less than generator.latent_size".to_string());
        }
        validate_clip("train_gan", gan.gradient_clip)?;
        let Some(training) = &self.train_autoencoder else { return Ok(()) };
        validate_clip("train_autoencoder", training.gradient_clip)?;
        if !self.autoencoder.kind.is_learned() {
            return Err("train_autoencoder: an autoencoder of this kind has nothing to train".to_string());
        }
        let factor = self.autoencoder.factor();
        let crop_fits = |crop: usize| crop > 0 && crop <= self.autoencoder.image_size && crop.is_multiple_of(factor);
        if !training.crop.is_none_or(crop_fits) {
            return Err(format!("train_autoencoder.crop: needs a multiple of {factor}, at most the image's size"));
        }
        let side = training.crop.unwrap_or(self.autoencoder.image_size);
        if training.structure > 0.0 && (side < 16 || !side.is_multiple_of(4)) {
            return Err(
                "train_autoencoder.structure: needs images or crops of at least 16 pixels, a multiple of 4".to_string()
            );
        }
        if training.lattice > 0.0 && side < Lattice::WINDOW {
            return Err(format!(
                "train_autoencoder.lattice: needs images or crops of at least {} pixels",
                Lattice::WINDOW
            ));
        }
        if training.batch == 0 || !training.discriminator_channels.is_multiple_of(8) {
            return Err("train_autoencoder: needs batch >= 1 and discriminator_channels a multiple of 8".to_string());
        }
        Ok(())
    }
}

fn validate_clip(section: &str, clip: Option<f64>) -> Result<(), String> {
    match clip {
        Some(clip) if !(clip.is_finite() && clip > 0.0) => Err(format!("{section}.gradient_clip: {clip} is no norm")),
        _ => Ok(()),
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

    #[test]
    fn patterns_need_images_of_a_window() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            BUILT_IN[0].1.replace("adversarial = ", "lattice = 1.0\ncrop = 16\nadversarial = "),
        )
        .unwrap();
        let error = Preset::load(file.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("train_autoencoder.lattice") && error.contains("32"), "{error}");
    }

    #[test]
    fn gradients_are_clipped_at_a_positive_norm() {
        for (clip, valid) in [("0.5", true), ("0.0", false), ("-1.0", false), ("inf", false)] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let clip = format!("gradient_clip = {clip}\nbatch = ");
            std::fs::write(file.path(), BUILT_IN[0].1.replace("batch = ", &clip)).unwrap();
            match Preset::load(file.path().to_str().unwrap()) {
                Ok(preset) => assert!(valid && preset.train_gan.gradient_clip == Some(0.5), "{clip}"),
                Err(error) => assert!(!valid && error.to_string().contains("train_gan.gradient_clip"), "{error}"),
            }
        }
    }
}
