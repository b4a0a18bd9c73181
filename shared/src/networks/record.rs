//! Recordings of single networks for one image, for what needs no values: counting and exporting.

use super::{Decoder, Generator};
use crate::backend::{Graph, Recorder};
use crate::config::AutoencoderConfig;
use crate::error::Result;

impl Generator {
    /// From `x` (1, latent_channels, H, W), `time` (1, channels) and `z` (1, z_dim) to `x0`.
    pub fn record(&self) -> Result<Graph> {
        let config = self.config();
        let mut b = Recorder::new();
        let x = b.input("x", &[1, config.latent_channels, config.latent_size, config.latent_size]);
        let time = b.input("time", &[1, config.channels]);
        let z = b.input("z", &[1, config.z_dim]);
        let x0 = self.forward(&mut b, &x, &time, &z)?;
        b.output("x0", x0);
        Ok(b.finish())
    }
}

impl Decoder {
    /// From an unscaled `latent` (1, latent_channels, h, w) of the sizes in `config` to `image`, quantiser included.
    pub fn record(&self, config: &AutoencoderConfig) -> Result<Graph> {
        let mut b = Recorder::new();
        let size = config.latent_size();
        let latent = b.input("latent", &[1, config.latent_channels, size, size]);
        let quantized = self.quantize(&mut b, &latent)?;
        let image = self.forward(&mut b, &quantized)?;
        b.output("image", image);
        Ok(b.finish())
    }
}
