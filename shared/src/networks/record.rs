//! Recordings of single networks for one image, for what needs no values: counting and exporting.

use candle_core::Device;

use super::{Decoder, Generator, StepInputs};
use crate::config::{AutoencoderConfig, DiffusionConfig};
use crate::diffusion::Schedule;
use crate::error::Result;
use crate::graph::{Graph, NodeId, Recorder};
use crate::parameters::TensorMap;

/// Inputs of the names and shapes of these.
pub(crate) fn record_inputs(b: &mut Recorder, step: &TensorMap) -> StepInputs<NodeId> {
    step.iter().map(|(name, tensor)| (name.clone(), b.input(name, tensor.dims()))).collect()
}

impl Generator {
    /// From `x` (1, latent_channels, H, W), the [`Self::step_inputs`] and `z` (1, z_dim) to `x0`.
    pub fn record(&self) -> Result<Graph> {
        let config = self.config();
        let mut b = Recorder::new();
        let x = b.input("x", &[1, config.latent_channels, config.latent_size, config.latent_size]);
        // Shapes alone are of interest, which no schedule changes.
        let step = self.step_inputs(&Schedule::new(&DiffusionConfig::default())?, &[0], &Device::Cpu)?;
        let step = record_inputs(&mut b, &step);
        let z = b.input("z", &[1, config.z_dim]);
        let x0 = self.forward(&mut b, &x, &step, &z)?;
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
