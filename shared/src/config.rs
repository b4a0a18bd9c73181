//! Everything that a network is built from; stored in model files and presets.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The settings of one model: generator, autoencoder and the diffusion between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Undoes diffusion steps.
    pub generator: GeneratorConfig,
    /// Turns latents into images.
    pub autoencoder: AutoencoderConfig,
    /// The steps, and how much noise they add.
    pub diffusion: DiffusionConfig,
    /// Each channel of a latent is divided by its number before diffusion and multiplied by it before decoding
    /// (reference: `scale_factor`, one number for all channels).
    pub latent_scale: Vec<f32>,
}

/// The settings of any networks: of those that a file holds, one alone or a whole model, or of all that a preset trains.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Of encoder and decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoencoder: Option<AutoencoderConfig>,
    /// Of the generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<GeneratorConfig>,
    /// The noise schedule that the generator was trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diffusion: Option<DiffusionConfig>,
    /// See [`ModelConfig::latent_scale`]; empty where there is no generator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latent_scale: Vec<f32>,
    /// Of the discriminator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<DiscriminatorConfig>,
}

impl From<ModelConfig> for FileConfig {
    fn from(model: ModelConfig) -> Self {
        let ModelConfig { generator, autoencoder, diffusion, latent_scale } = model;
        Self {
            autoencoder: Some(autoencoder),
            generator: Some(generator),
            diffusion: Some(diffusion),
            latent_scale,
            discriminator: None,
        }
    }
}

/// NCSN++ U-Net as LDDGAN uses it (reference: `NCSNpp`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Channels of the latent.
    pub latent_channels: usize,
    /// Height and width of the latent in pixels.
    pub latent_size: usize,
    /// Channels at full resolution, a multiple of 4 (reference: `num_channels_dae`).
    pub channels: usize,
    /// Channel multiplier of each level, finest first (`ch_mult`).
    pub multipliers: Vec<usize>,
    /// Residual blocks per level (`num_res_blocks`).
    pub blocks: usize,
    /// Feature map sizes that have self-attention (`attn_resolutions`); the middle always has it.
    pub attention: Vec<usize>,
    /// Dimension of z (`nz`).
    pub z_dim: usize,
    /// Width of the mapped z (`z_emb_dim`).
    pub z_embedding: usize,
    /// Hidden layers of the z mapping, one less than its linear layers (`n_mlp`).
    pub z_layers: usize,
    /// Ends with tanh, so that predictions lie in (-1, 1) (the reverse of `not_use_tanh`).
    #[serde(default = "yes")]
    pub tanh: bool,
    /// Principal modes of the latents' own normal distribution that predictions start from, driven by z, which then has
    /// as many numbers; 0 in the reference: predictions start from nothing. See [`crate::networks::Gaussian`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gaussian_modes: usize,
    /// Takes in and puts out squares of so many pixels at a time, 1 or 2 (`patch_size`).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub patch: usize,
    /// Resamples by Haar transforms instead of FIR filters (WaveDiff's `net_type` wavelet).
    #[serde(default, skip_serializing_if = "is_false")]
    pub wavelet: bool,
}

/// What is between images and latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderConfig {
    /// What latents are.
    #[serde(default, skip_serializing_if = "AutoencoderKind::is_vq")]
    pub kind: AutoencoderKind,
    /// Channels of the images.
    pub image_channels: usize,
    /// Height and width of the images in pixels.
    pub image_size: usize,
    /// Channels of the latent.
    pub latent_channels: usize,
    /// Entries of the codebook that the decoder quantises with; 0 for the KL kind, which has none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub codes: usize,
    /// The order of the sub-bands of the kind `haar`.
    #[serde(default, skip_serializing_if = "BandOrder::is_lh_first")]
    pub band_order: BandOrder,
    /// The kinds with weights take in and put out squares of so many pixels at a time, 1 in the reference: networks then
    /// have no layer at the image's own size, where each is the most expensive.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub patch: usize,
    /// The kinds with weights have encoder and decoder with as many levels; each but the last halves the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<CoderConfig>,
    /// From latents to images, as `encoder`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<CoderConfig>,
    /// Adds a linear map of patches to latents (and back) beside the learned networks, so that training starts
    /// from principal components.
    #[serde(default)]
    pub linear_path: bool,
    /// Ends the decoder with tanh.
    #[serde(default)]
    pub tanh: bool,
}

/// What an autoencoder consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoencoderKind {
    /// The decoder replaces latents by the nearest codes of a codebook (`VQModelInterface`).
    #[default]
    Vq,
    /// The encoder gives mean and log variance of a normal distribution (`AutoencoderKL`); nothing is quantised.
    Kl,
    /// Nothing: the latent is the image, and the method becomes DDGAN.
    Identity,
    /// A fixed Haar wavelet transform, repeated until there are `latent_channels` sub-bands (the data path of WaveDiff).
    Haar,
}

impl AutoencoderKind {
    fn is_vq(&self) -> bool {
        *self == Self::Vq
    }

    /// Whether it has weights.
    pub fn is_learned(self) -> bool {
        matches!(self, Self::Vq | Self::Kl)
    }
}

/// The order of the sub-bands of a Haar transform, each with all its channels; the first letter is the vertical filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BandOrder {
    /// LL, LH, HL, HH: WaveDiff's own transform.
    #[default]
    LhFirst,
    /// LL, HL, LH, HH: that of `pytorch_wavelets` (`use_pytorch_wavelet`).
    HlFirst,
}

impl BandOrder {
    fn is_lh_first(&self) -> bool {
        *self == Self::LhFirst
    }

    /// The index in [`crate::haar::BANDS`] of each band.
    pub fn bands(self) -> [usize; 4] {
        match self {
            Self::LhFirst => [0, 1, 2, 3],
            Self::HlFirst => [0, 2, 1, 3],
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

fn one() -> usize {
    1
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

/// The sizes of an encoder or a decoder (reference: `ddconfig`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoderConfig {
    /// Channels at full resolution (`ch`).
    pub channels: usize,
    /// Channel multiplier of each level, finest first (`ch_mult`).
    pub multipliers: Vec<usize>,
    /// Residual blocks per level (`num_res_blocks`; a decoder has one more, as in the reference).
    pub blocks: usize,
    /// Groups of every group norm; the reference uses 32.
    pub groups: usize,
    /// Feature map sizes that have attention after each block (`attn_resolutions`).
    #[serde(default)]
    pub attention: Vec<usize>,
    /// Attention between the two middle blocks.
    #[serde(default = "yes")]
    pub middle_attention: bool,
}

fn yes() -> bool {
    true
}

/// The variance-preserving diffusion process: either `steps`, `beta_min` and `beta_max`, or `alpha_bar`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "DiffusionFields", into = "DiffusionFields")]
pub enum DiffusionConfig {
    /// Betas that grow linearly in continuous time, cut into `steps` denoising steps T (`num_timesteps`).
    Betas {
        /// Steps from an image to noise.
        steps: usize,
        /// The rate of noise at the first moment.
        beta_min: f64,
        /// The rate of noise at the last moment.
        beta_max: f64,
    },
    /// The share of x_0's variance in each of x_1, …, x_T.
    AlphaBar(Vec<f64>),
}

/// [`DiffusionConfig`] as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiffusionFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beta_min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beta_max: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alpha_bar: Option<Vec<f64>>,
}

impl TryFrom<DiffusionFields> for DiffusionConfig {
    type Error = &'static str;

    fn try_from(fields: DiffusionFields) -> std::result::Result<Self, Self::Error> {
        match fields {
            DiffusionFields {
                steps: Some(steps),
                beta_min: Some(beta_min),
                beta_max: Some(beta_max),
                alpha_bar: None,
            } => Ok(Self::Betas { steps, beta_min, beta_max }),
            DiffusionFields { steps: None, beta_min: None, beta_max: None, alpha_bar: Some(levels) } => {
                Ok(Self::AlphaBar(levels))
            }
            _ => Err("diffusion needs either `steps`, `beta_min` and `beta_max`, or `alpha_bar` alone"),
        }
    }
}

impl From<DiffusionConfig> for DiffusionFields {
    fn from(config: DiffusionConfig) -> Self {
        match config {
            DiffusionConfig::Betas { steps, beta_min, beta_max } => {
                Self { steps: Some(steps), beta_min: Some(beta_min), beta_max: Some(beta_max), alpha_bar: None }
            }
            DiffusionConfig::AlphaBar(levels) => {
                Self { steps: None, beta_min: None, beta_max: None, alpha_bar: Some(levels) }
            }
        }
    }
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        Self::linear(4)
    }
}

/// The time-conditional discriminator; needed for training alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Which of the reference's discriminators.
    pub kind: DiscriminatorKind,
    /// Channels of the latent; the discriminator sees two of them, x_t and x_{t+1}.
    pub latent_channels: usize,
    /// Base width (`ngf`).
    pub channels: usize,
    /// Residual blocks (`num_disc_layers`).
    pub layers: usize,
    /// Width of the time embedding (`t_emb_dim`).
    pub time_embedding: usize,
    /// Principal modes of the latents' normal distribution that it also sees x_t and x_{t+1} denoised with; 0 in the
    /// reference: it sees the two alone. See [`crate::networks::Gaussian`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gaussian_modes: usize,
    /// Height and width of the latent in pixels; needed where there are `gaussian_modes`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub latent_size: usize,
}

/// The reference's two discriminators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscriminatorKind {
    /// For small images: widths 2, 4, 8 (8), the first block keeps the size.
    Small,
    /// Widths 4, 8, 8, 8 (8, 8), every block halves the size.
    Large,
}

impl DiscriminatorKind {
    /// Width of each block, as a multiple of the base width.
    pub fn widths(self) -> &'static [usize] {
        match self {
            Self::Small => &[2, 4, 8, 8],
            Self::Large => &[4, 8, 8, 8, 8, 8],
        }
    }
}

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
    /// Beyond which values of z are drawn again unless something else is asked for; none in the reference. Where z drives the
    /// modes of a normal distribution, its rare values make images that do not hold together: of the first 100 of faces256,
    /// about 15 without, about 10 with it.
    pub fn truncation(&self) -> Option<f32> {
        (self.gaussian_modes > 0).then_some(2.0)
    }

    /// The feature maps' height and width at this level, 0 the finest.
    pub fn level_size(&self, level: usize) -> usize {
        (self.latent_size / self.patch) >> level
    }

    /// What height and width of a latent are multiples of: patches, levels, and the halved coarsest level of wavelets.
    pub fn size_factor(&self) -> usize {
        self.patch << (self.multipliers.len().saturating_sub(1) + usize::from(self.wavelet))
    }

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
    /// Height and width of the latent.
    pub fn latent_size(&self) -> usize {
        self.image_size / self.factor()
    }

    /// How many times smaller the latent is than the image, per dimension.
    pub fn factor(&self) -> usize {
        match self.kind {
            AutoencoderKind::Vq | AutoencoderKind::Kl => {
                let levels = self.decoder.as_ref().map_or(1, |coder| coder.multipliers.len());
                self.patch << levels.saturating_sub(1)
            }
            AutoencoderKind::Identity => 1,
            // Each transform has four times as many channels as what it takes.
            AutoencoderKind::Haar => 1 << (self.latent_channels / self.image_channels.max(1)).max(1).ilog(4),
        }
    }

    /// The sizes of encoder and decoder of the kinds with weights.
    pub fn coders(&self) -> Result<(&CoderConfig, &CoderConfig)> {
        let missing = |field| Error::config(field, "is missing");
        let encoder = self.encoder.as_ref().ok_or_else(|| missing("autoencoder.encoder"))?;
        let decoder = self.decoder.as_ref().ok_or_else(|| missing("autoencoder.decoder"))?;
        Ok((encoder, decoder))
    }

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
    /// The reference's betas in so many steps.
    pub fn linear(steps: usize) -> Self {
        Self::Betas { steps, beta_min: 0.1, beta_max: 20.0 }
    }

    /// Denoising steps T.
    pub fn steps(&self) -> usize {
        match self {
            Self::Betas { steps, .. } => *steps,
            Self::AlphaBar(levels) => levels.len(),
        }
    }

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
