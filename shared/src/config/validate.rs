//! Which settings networks can be built from.

use super::*;
use crate::error::{Error, Result};

impl ModelConfig {
    /// Checks that generator and autoencoder agree and that every size is possible.
    pub fn validate(&self) -> Result<()> {
        self.generator.validate()?;
        self.autoencoder.validate()?;
        self.diffusion.validate()?;
        let latent = (self.autoencoder.latent_channels, self.autoencoder.latent_size());
        let expected = (self.generator.latent_channels, self.generator.latent_size);
        if latent != expected {
            let reason =
                format!("the generator makes latents {expected:?} (channels, size), the autoencoder {latent:?}");
            return Err(Error::config("generator", reason));
        }
        let positive = self.latent_scale.iter().all(|scale| scale.is_finite() && *scale > 0.0);
        if !positive || self.latent_scale.len() != self.generator.latent_channels {
            let reason = format!("{:?} is not one positive number per channel", self.latent_scale);
            return Err(Error::config("latent_scale", reason));
        }
        Ok(())
    }
}

/// No network of this project comes near these; they keep a hostile file from exhausting memory.
const MAX_WIDTH: usize = 1 << 14;
const MAX_LEVELS: usize = 8;
const MAX_BLOCKS: usize = 16;
const MAX_PATCH: usize = 16;
/// The Haar transform's weights, the square of its channels, come from the configuration alone.
const MAX_HAAR_CHANNELS: usize = 1 << 10;
/// Numbers of all principal modes of a latent together.
const MAX_MODE_NUMBERS: usize = 1 << 24;

fn within(field: &str, value: usize, most: usize) -> Result<()> {
    if value == 0 || value > most {
        return Err(Error::config(field, format!("{value} is not between 1 and {most}")));
    }
    Ok(())
}

fn levels(field: &str, channels: usize, multipliers: &[usize], blocks: usize) -> Result<()> {
    within(&format!("{field}.channels"), channels, MAX_WIDTH)?;
    within(&format!("{field}.multipliers (count)"), multipliers.len(), MAX_LEVELS)?;
    multipliers.iter().try_for_each(|&multiplier| within(&format!("{field}.multipliers"), multiplier, 64))?;
    within(&format!("{field}.blocks"), blocks, MAX_BLOCKS)
}

fn divisible(field: &str, size: usize, factor: usize) -> Result<()> {
    within(field, size, MAX_WIDTH)?;
    if !size.is_multiple_of(factor) {
        return Err(Error::config(field, format!("{size} must be a multiple of {factor}")));
    }
    Ok(())
}

/// Whether a latent of `channels` x `size` x `size` numbers can have so many principal modes.
fn modes(field: &str, modes: usize, channels: usize, size: usize) -> Result<()> {
    within(field, modes, (channels * size * size).min(MAX_MODE_NUMBERS / (channels * size * size)))
}

impl GeneratorConfig {
    /// Whether a generator can be built from this.
    pub fn validate(&self) -> Result<()> {
        levels("generator", self.channels, &self.multipliers, self.blocks)?;
        if !self.channels.is_multiple_of(4) {
            return Err(Error::config("generator.channels", format!("{} must be a multiple of 4", self.channels)));
        }
        within("generator.patch", self.patch, 2)?;
        divisible("generator.latent_size", self.latent_size, self.size_factor())?;
        within("generator.latent_channels", self.latent_channels, MAX_WIDTH)?;
        within("generator.z_dim", self.z_dim, MAX_WIDTH)?;
        within("generator.z_embedding", self.z_embedding, MAX_WIDTH)?;
        within("generator.z_layers", self.z_layers, MAX_BLOCKS)?;
        if self.gaussian_modes == 0 {
            return Ok(());
        }
        modes("generator.gaussian_modes", self.gaussian_modes, self.latent_channels, self.latent_size)?;
        if self.z_dim != self.gaussian_modes {
            let reason = format!("{} differs from gaussian_modes, {}", self.z_dim, self.gaussian_modes);
            return Err(Error::config("generator.z_dim", reason));
        }
        if self.tanh {
            return Err(Error::config(
                "generator.tanh",
                "a prediction that starts from a normal distribution has no tanh",
            ));
        }
        Ok(())
    }
}

impl AutoencoderConfig {
    /// Whether an autoencoder can be built from this.
    pub fn validate(&self) -> Result<()> {
        within("autoencoder.image_channels", self.image_channels, 4)?;
        within("autoencoder.latent_channels", self.latent_channels, MAX_WIDTH)?;
        if self.kind.is_learned() {
            self.validate_coders()?;
        } else {
            self.validate_fixed()?;
        }
        divisible("autoencoder.image_size", self.image_size, self.factor())?;
        if self.band_order != BandOrder::default() && self.kind != AutoencoderKind::Haar {
            return Err(Error::config("autoencoder.band_order", "only the kind `haar` has bands"));
        }
        match self.kind {
            AutoencoderKind::Vq => within("autoencoder.codes", self.codes, 1 << 20),
            _ if self.codes > 0 => Err(Error::config("autoencoder.codes", "only the kind `vq` has a codebook")),
            _ => Ok(()),
        }
    }

    fn validate_coders(&self) -> Result<()> {
        let (encoder, decoder) = self.coders()?;
        for (field, coder) in [("autoencoder.encoder", encoder), ("autoencoder.decoder", decoder)] {
            levels(field, coder.channels, &coder.multipliers, coder.blocks)?;
            within(&format!("{field}.groups"), coder.groups, MAX_WIDTH)?;
        }
        if encoder.multipliers.len() != decoder.multipliers.len() {
            let reason = "encoder and decoder must have the same number of levels";
            return Err(Error::config("autoencoder.encoder.multipliers", reason));
        }
        if !self.patch.is_power_of_two() || self.patch > MAX_PATCH {
            let reason = format!("{} must be a power of two from 1 to {MAX_PATCH}", self.patch);
            return Err(Error::config("autoencoder.patch", reason));
        }
        Ok(())
    }

    fn validate_fixed(&self) -> Result<()> {
        if self.encoder.is_some() || self.decoder.is_some() || self.patch != 1 || self.linear_path || self.tanh {
            let reason = "the kinds `identity` and `haar` have no encoder, decoder, patch, linear_path or tanh";
            return Err(Error::config("autoencoder.kind", reason));
        }
        within("autoencoder.latent_channels", self.latent_channels, MAX_HAAR_CHANNELS)?;
        let channels = match self.kind {
            AutoencoderKind::Haar => self.image_channels * self.factor().pow(2),
            _ => self.image_channels,
        };
        if self.latent_channels != channels || (self.kind == AutoencoderKind::Haar && self.factor() == 1) {
            let reason = "needs image_channels for `identity`, and 4, 16, … times as many for `haar`";
            return Err(Error::config("autoencoder.latent_channels", reason));
        }
        Ok(())
    }
}

impl DiscriminatorConfig {
    /// Checks the widths; the layers depend on the kind.
    pub fn validate(&self) -> Result<()> {
        within("discriminator.latent_channels", self.latent_channels, MAX_WIDTH)?;
        within("discriminator.channels", self.channels, MAX_WIDTH)?;
        within("discriminator.time_embedding", self.time_embedding, MAX_WIDTH)?;
        if self.gaussian_modes == 0 {
            return Ok(());
        }
        within("discriminator.latent_size", self.latent_size, 1 << 10)?;
        modes("discriminator.gaussian_modes", self.gaussian_modes, self.latent_channels, self.latent_size)
    }
}

impl DiffusionConfig {
    /// Whether a schedule can be computed from this.
    pub fn validate(&self) -> Result<()> {
        within("diffusion.steps", self.steps(), 1000)?;
        match self {
            Self::Betas { beta_min, beta_max, .. }
                if !(0.0 < *beta_min && beta_min < beta_max && *beta_max <= 1000.0) =>
            {
                let reason = format!("needs 0 < beta_min {beta_min} < beta_max {beta_max} <= 1000");
                Err(Error::config("diffusion", reason))
            }
            Self::AlphaBar(levels) if !falls(levels) => {
                let reason = format!("{levels:?} does not fall from below 1 to above 0");
                Err(Error::config("diffusion.alpha_bar", reason))
            }
            _ => Ok(()),
        }
    }
}

/// Whether all values are between 0 and 1, each less than the one before.
fn falls(levels: &[f64]) -> bool {
    let before = std::iter::once(&1.0).chain(levels);
    levels.iter().zip(before).all(|(level, before)| 0.0 < *level && level < before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_a_haar_transform_are_bounded() {
        let haar = |latent_channels: usize| {
            let config = format!(
                r#"{{"kind": "haar", "image_channels": 4, "image_size": 64, "latent_channels": {latent_channels}}}"#
            );
            serde_json::from_str::<AutoencoderConfig>(&config).unwrap().validate().map_err(|error| error.to_string())
        };
        assert_eq!(haar(1 << 10), Ok(()));
        assert!(haar(1 << 12).unwrap_err().contains("autoencoder.latent_channels"));
    }
}
