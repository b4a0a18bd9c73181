//! How large the networks of a configuration are, and how much they compute.

use candle_core::Device;
use candle_nn::VarBuilder;

use crate::config::{AutoencoderConfig, DiffusionConfig, DiscriminatorConfig, GeneratorConfig};
use crate::diffusion::Schedule;
use crate::error::Result;
use crate::graph::{Graph, Recorder};
use crate::networks::{Decoder, Discriminator, Encoder, Generator, PatchDiscriminator, record_inputs};
use crate::parameters::Shapes;

/// The size of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Trainable numbers, without a codebook or a Gaussian.
    pub parameters: usize,
    /// Floating-point operations per image, see [`crate::Graph::flops`].
    pub flops: u64,
    /// Bytes of all values per image in f32, see [`crate::Graph::kept_bytes`].
    pub kept_bytes: u64,
}

/// Builds a network without weights and records it for one image.
fn cost(record: impl FnOnce(VarBuilder) -> Result<Graph>) -> Result<Cost> {
    let shapes = Shapes::new();
    let graph = record(shapes.var_builder())?;
    let trained = |name: &str| name != "codebook" && !name.starts_with("gaussian.");
    let counted = shapes.shapes().into_iter().filter(|(name, _)| trained(name));
    let parameters = counted.map(|(_, shape)| shape.elem_count()).sum();
    Ok(Cost { parameters, flops: graph.flops(), kept_bytes: graph.kept_bytes() })
}

/// The generator, one step of it.
pub fn generator(config: &GeneratorConfig) -> Result<Cost> {
    cost(|vb| Generator::new(vb, config)?.record())
}

/// The discriminator on latents of `latent_size` pixels.
pub fn discriminator(config: &DiscriminatorConfig, latent_size: usize) -> Result<Cost> {
    cost(|vb| {
        let discriminator = Discriminator::new(vb, config)?;
        let mut b = Recorder::new();
        let latent = [1, config.latent_channels, latent_size, latent_size];
        let (x_t, x_tp1) = (b.input("x_t", &latent), b.input("x_tp1", &latent));
        let step = discriminator.step_inputs(&Schedule::new(&DiffusionConfig::default())?, &[0], &Device::Cpu)?;
        let step = record_inputs(&mut b, &step);
        discriminator.forward(&mut b, &x_t, &step, &x_tp1)?;
        Ok(b.finish())
    })
}

/// The encoder, both halves of the last convolution included where it is of the KL kind.
pub fn encoder(config: &AutoencoderConfig) -> Result<Cost> {
    cost(|vb| {
        let encoder = Encoder::new(vb, config)?;
        let mut b = Recorder::new();
        let image = b.input("image", &[1, config.image_channels, config.image_size, config.image_size]);
        if encoder.posterior(&mut b, &image)?.is_none() {
            encoder.forward(&mut b, &image)?;
        }
        Ok(b.finish())
    })
}

/// The decoder, with its quantiser.
pub fn decoder(config: &AutoencoderConfig) -> Result<Cost> {
    cost(|vb| Decoder::new(vb, config)?.record(config))
}

/// The discriminator that an autoencoder trains against, on images of `size` pixels; see [`PatchDiscriminator::new`].
pub fn patch_discriminator(image_channels: usize, channels: usize, layers: usize, size: usize) -> Result<Cost> {
    cost(|vb| {
        let discriminator = PatchDiscriminator::new(vb, image_channels, channels, layers)?;
        let mut b = Recorder::new();
        let image = b.input("image", &[1, image_channels, size, size]);
        discriminator.forward(&mut b, &image)?;
        Ok(b.finish())
    })
}
