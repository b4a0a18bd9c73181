//! Which presets networks can be built and trained from.

use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::ops::RangeBounds;

use lddgan::Cost;
use lddgan::backend::MINIBATCH_GROUP;

use super::{AutoencoderTraining, ChainTraining, LatentNormalization, Preset};
use crate::autoencoder::Lattice;

impl Preset {
    /// What is wrong with it, if anything is.
    pub(super) fn validate(&self) -> Result<(), String> {
        self.numbers().into_iter().try_for_each(|number| number.validate())?;
        self.validate_networks()?;
        self.validate_gan()?;
        self.train_autoencoder.as_ref().map_or(Ok(()), |training| self.validate_autoencoder(training))
    }

    /// Every number of the training, with the range that it must be in.
    fn numbers(&self) -> Vec<Number> {
        let gan = &self.train_gan;
        let mut numbers = vec![
            Number("train_gan.batch", gan.batch as f64, BATCH),
            Number("train_gan.generator_learning_rate", gan.generator_learning_rate, RATE),
            Number("train_gan.discriminator_learning_rate", gan.discriminator_learning_rate, RATE),
            Number("train_gan.r1_gamma", gan.r1_gamma, WEIGHT),
            Number("train_gan.lazy_reg", gan.lazy_reg as f64, COUNT),
            Number("train_gan.ema_decay", gan.ema_decay, DECAY),
            Number("train_gan.reconstruction", gan.reconstruction, WEIGHT),
        ];
        if let LatentNormalization::Fixed(scale) = gan.latent_normalization {
            numbers.push(Number("train_gan.latent_normalization.fixed", f64::from(scale), POSITIVE));
        }
        let optional = |field, value: Option<f64>, range| value.map(|value| Number(field, value, range));
        numbers.extend(optional("train_gan.final_learning_rate", gan.final_learning_rate, FINAL_RATE));
        let last = gan.final_generator_learning_rate;
        numbers.extend(optional("train_gan.final_generator_learning_rate", last, FINAL_RATE));
        numbers.extend(optional("train_gan.gradient_clip", gan.gradient_clip, POSITIVE));
        if let Some(chain) = &gan.chain {
            numbers.extend(chain_numbers(chain));
        }
        let Some(training) = &self.train_autoencoder else { return numbers };
        numbers.extend([
            Number("train_autoencoder.batch", training.batch as f64, BATCH),
            Number("train_autoencoder.learning_rate", training.learning_rate, RATE),
            Number("train_autoencoder.discriminator_learning_rate", training.discriminator_learning_rate, RATE),
            Number("train_autoencoder.commitment", training.commitment, WEIGHT),
            Number("train_autoencoder.latent_noise", training.latent_noise, WEIGHT),
            Number("train_autoencoder.structure", training.structure, WEIGHT),
            Number("train_autoencoder.perceptual", training.perceptual, WEIGHT),
            Number("train_autoencoder.features", training.features, WEIGHT),
            Number("train_autoencoder.lattice", training.lattice, WEIGHT),
            Number("train_autoencoder.projected", training.projected, WEIGHT),
            Number("train_autoencoder.adversarial", training.adversarial, WEIGHT),
            Number("train_autoencoder.discriminator_channels", training.discriminator_channels as f64, WIDTH),
            Number("train_autoencoder.discriminator_layers", training.discriminator_layers as f64, LAYERS),
        ]);
        numbers.extend(optional("train_autoencoder.final_learning_rate", training.final_learning_rate, FINAL_RATE));
        numbers.extend(optional("train_autoencoder.gradient_clip", training.gradient_clip, POSITIVE));
        let restart = training.restart_codes_after.map(f64::from);
        numbers.extend(optional("train_autoencoder.restart_codes_after", restart, COUNT));
        numbers
    }

    /// Whether the networks can be built, fit each other and do what the settings say.
    fn validate_networks(&self) -> Result<(), String> {
        let (generator, autoencoder, discriminator) = (&self.generator, &self.autoencoder, &self.discriminator);
        self.model_config().validate().map_err(|error| error.to_string())?;
        discriminator.validate().map_err(|error| error.to_string())?;
        if autoencoder.image_channels != 3 {
            let channels = autoencoder.image_channels;
            return Err(format!(
                "autoencoder.image_channels: {channels}, but training images are read in RGB: set it to 3"
            ));
        }
        let size = generator.latent_size / generator.patch.max(1);
        attention_occurs("generator", &generator.attention, size, generator.multipliers.len())?;
        for (field, coder) in
            [("autoencoder.encoder", &autoencoder.encoder), ("autoencoder.decoder", &autoencoder.decoder)]
        {
            if let Some(coder) = coder {
                let size = autoencoder.image_size / autoencoder.patch;
                attention_occurs(field, &coder.attention, size, coder.multipliers.len())?;
            }
        }
        if discriminator.latent_channels != generator.latent_channels {
            return Err("discriminator.latent_channels differs from generator.latent_channels".to_string());
        }
        let denoising = discriminator.gaussian_modes > 0;
        if denoising && discriminator.latent_size != generator.latent_size {
            return Err("discriminator.latent_size differs from generator.latent_size".to_string());
        }
        if denoising && discriminator.gaussian_modes != generator.gaussian_modes {
            return Err("discriminator.gaussian_modes differs from generator.gaussian_modes".to_string());
        }
        self.record_networks().map_err(|error| error.to_string())
    }

    /// Records all networks without weights, which finds sizes that do not fit, such as groups that do not divide channels,
    /// or more halvings than the latents have.
    fn record_networks(&self) -> lddgan::Result<()> {
        let config = self.networks();
        config.networks().try_for_each(|network| Cost::of(network, &config).map(drop))
    }

    fn validate_gan(&self) -> Result<(), String> {
        let gan = &self.train_gan;
        if !gan.batch.is_multiple_of(gan.batch.min(MINIBATCH_GROUP)) {
            return Err(format!("train_gan.batch: {} must be less than 4 or a multiple of 4", gan.batch));
        }
        if gan.final_learning_rate.is_some() && gan.final_generator_learning_rate.is_some() {
            return Err("train_gan: either final_learning_rate or final_generator_learning_rate".to_string());
        }
        if gan.translation as usize >= self.generator.latent_size {
            return Err("train_gan.translation must be less than generator.latent_size".to_string());
        }
        gan.chain.as_ref().map_or(Ok(()), |chain| self.validate_chain(chain))
    }

    fn validate_chain(&self, chain: &ChainTraining) -> Result<(), String> {
        let all = self.diffusion.steps();
        if chain.steps.is_empty() || !chain.steps.iter().all(|steps| (1..=all).contains(steps)) {
            return Err(format!("train_gan.chain.steps: {:?} must be numbers from 1 to {all}", chain.steps));
        }
        if chain.pairs.len() != all || chain.pairs.iter().all(|&weight| weight == 0.0) {
            return Err(format!("train_gan.chain.pairs: {:?} must be {all} numbers, not all 0", chain.pairs));
        }
        if self.train_gan.reconstruction > 0.0 {
            return Err(
                "train_gan.reconstruction must be 0 with train_gan.chain: a chain has no image to be compared with"
                    .to_string(),
            );
        }
        let (picture, latent, image) = (chain.picture_size, self.generator.latent_size, self.autoencoder.image_size);
        let fits = picture >= latent && picture.is_multiple_of(latent) && image.is_multiple_of(picture);
        if chain.projected > 0.0 && !fits {
            return Err(format!(
                "train_gan.chain.picture_size: {picture} must be a multiple of the latent's {latent} and divide the image's \
                 {image}"
            ));
        }
        if chain.projected > 0.0 && chain.shift as usize >= picture {
            return Err(format!("train_gan.chain.shift: {} must be less than the picture's {picture}", chain.shift));
        }
        Ok(())
    }

    fn validate_autoencoder(&self, training: &AutoencoderTraining) -> Result<(), String> {
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
            let least = Lattice::WINDOW;
            return Err(format!("train_autoencoder.lattice: needs images or crops of at least {least} pixels"));
        }
        if !training.discriminator_channels.is_multiple_of(8) {
            return Err("train_autoencoder.discriminator_channels must be a multiple of 8".to_string());
        }
        Ok(())
    }
}

fn chain_numbers(chain: &ChainTraining) -> Vec<Number> {
    let mut numbers = vec![
        Number("train_gan.chain.projected", chain.projected, WEIGHT),
        Number("train_gan.chain.projected_learning_rate", chain.projected_learning_rate, RATE),
        Number("train_gan.chain.picture_size", chain.picture_size as f64, SIZE),
        Number("train_gan.chain.brightness", chain.brightness, SHARE),
        Number("train_gan.chain.contrast", chain.contrast, SHARE),
        Number("train_gan.chain.saturation", chain.saturation, SHARE),
    ];
    numbers.extend(chain.pairs.iter().map(|&weight| Number("train_gan.chain.pairs", weight, WEIGHT)));
    numbers.extend(chain.betas.map(|beta| Number("train_gan.chain.betas", beta, DECAY)));
    numbers
}

/// The name of a setting, its value, and the range that it must be in.
struct Number(&'static str, f64, (Bound<f64>, Bound<f64>));

const RATE: (Bound<f64>, Bound<f64>) = (Excluded(0.0), Included(1.0));
const FINAL_RATE: (Bound<f64>, Bound<f64>) = (Included(0.0), Included(1.0));
const WEIGHT: (Bound<f64>, Bound<f64>) = (Included(0.0), Included(1e6));
const POSITIVE: (Bound<f64>, Bound<f64>) = (Excluded(0.0), Included(1e9));
const DECAY: (Bound<f64>, Bound<f64>) = (Included(0.0), Excluded(1.0));
const BATCH: (Bound<f64>, Bound<f64>) = (Included(1.0), Included(65536.0));
const COUNT: (Bound<f64>, Bound<f64>) = (Included(1.0), Included(1e9));
const SHARE: (Bound<f64>, Bound<f64>) = (Included(0.0), Included(1.0));
const SIZE: (Bound<f64>, Bound<f64>) = (Included(1.0), Included(4096.0));
const WIDTH: (Bound<f64>, Bound<f64>) = (Included(8.0), Included(4096.0));
const LAYERS: (Bound<f64>, Bound<f64>) = (Included(0.0), Included(8.0));

impl Number {
    fn validate(&self) -> Result<(), String> {
        let Self(field, value, range) = self;
        if range.contains(value) {
            return Ok(());
        }
        let least = match range.0 {
            Included(least) => format!("at least {least}"),
            Excluded(least) => format!("more than {least}"),
            Unbounded => String::new(),
        };
        let most = match range.1 {
            Included(most) => format!("at most {most}"),
            Excluded(most) => format!("less than {most}"),
            Unbounded => String::new(),
        };
        Err(format!("{field}: {value} must be {least} and {most}"))
    }
}

/// Whether feature maps of these sizes occur in a network whose levels each have half the size of the one before.
fn attention_occurs(network: &str, attention: &[usize], size: usize, levels: usize) -> Result<(), String> {
    let sizes: Vec<usize> = (0..levels).map(|level| size >> level).collect();
    match attention.iter().find(|size| !sizes.contains(size)) {
        Some(size) => Err(format!("{network}.attention: {size} is not the size of one of its feature maps, {sizes:?}")),
        None => Ok(()),
    }
}
