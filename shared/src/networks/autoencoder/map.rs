//! The choice between the kinds of autoencoders, the same for both directions.

use candle_nn::VarBuilder;

use super::haar::HaarTransform;
use crate::config::{AutoencoderConfig, AutoencoderKind};
use crate::error::Result;

/// What an encoder or a decoder does; `N` is the network of the kinds with weights.
pub enum Map<N> {
    Identity,
    Haar(HaarTransform),
    Learned(Box<N>),
}

impl<N> Map<N> {
    /// Checks the configuration; builds the network where there is one.
    pub fn new(
        vb: VarBuilder,
        config: &AutoencoderConfig,
        network: impl FnOnce(VarBuilder, &AutoencoderConfig) -> Result<N>,
    ) -> Result<Self> {
        config.validate()?;
        Ok(match config.kind {
            AutoencoderKind::Identity => Self::Identity,
            AutoencoderKind::Haar => {
                let levels = config.factor().ilog2();
                Self::Haar(HaarTransform::new(config.image_channels, levels, config.band_order, vb.device())?)
            }
            AutoencoderKind::Vq | AutoencoderKind::Kl => Self::Learned(Box::new(network(vb, config)?)),
        })
    }
}
