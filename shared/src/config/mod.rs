//! Everything that a network is built from; stored in model files and presets.

mod validate;

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

impl GeneratorConfig {
    /// The limit beyond which values of z are redrawn by default; none in the reference. With a Gaussian start, rare values of
    /// z make broken images: 8 of the first 100 of faces256 without the limit, 6 with it.
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
}
