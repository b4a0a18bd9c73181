//! How large the networks of a configuration are, and how much they compute.

use candle_nn::VarBuilder;

use crate::backend::{NodeId, Recorder};
use crate::config::{AutoencoderConfig, DiscriminatorConfig, GeneratorConfig};
use crate::error::Result;
use crate::networks::{Decoder, Discriminator, Encoder, Generator};
use crate::parameters::Shapes;

/// The size of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Trainable numbers, without the codebook.
    pub parameters: usize,
    /// Floating-point operations per image, see [`crate::Graph::flops`].
    pub flops: u64,
}

/// Builds a network without weights and records it for one image.
fn cost(record: impl FnOnce(VarBuilder, &mut Recorder) -> Result<NodeId>) -> Result<Cost> {
    let shapes = Shapes::new();
    let mut recorder = Recorder::new();
    record(shapes.var_builder(), &mut recorder)?;
    let counted = shapes.shapes().into_iter().filter(|(name, _)| name != "codebook");
    Ok(Cost { parameters: counted.map(|(_, shape)| shape.elem_count()).sum(), flops: recorder.finish().flops() })
}

pub fn generator(config: &GeneratorConfig) -> Result<Cost> {
    cost(|vb, b| {
        let generator = Generator::new(vb, config)?;
        let x = b.input("x", &[1, config.latent_channels, config.latent_size, config.latent_size]);
        let time = b.input("time", &[1, config.channels]);
        let z = b.input("z", &[1, config.z_dim]);
        generator.forward(b, &x, &time, &z)
    })
}

/// The discriminator on latents of `latent_size` pixels.
pub fn discriminator(config: &DiscriminatorConfig, latent_size: usize) -> Result<Cost> {
    cost(|vb, b| {
        let discriminator = Discriminator::new(vb, config)?;
        let latent = [1, config.latent_channels, latent_size, latent_size];
        let (x_t, x_tp1) = (b.input("x_t", &latent), b.input("x_tp1", &latent));
        let time = b.input("time", &[1, config.time_embedding]);
        discriminator.forward(b, &x_t, &time, &x_tp1)
    })
}

/// The encoder, both halves of the last convolution included where it is of the KL kind.
pub fn encoder(config: &AutoencoderConfig) -> Result<Cost> {
    cost(|vb, b| {
        let encoder = Encoder::new(vb, config)?;
        let image = b.input("image", &[1, config.image_channels, config.image_size, config.image_size]);
        match encoder.posterior(b, &image)? {
            Some(posterior) => Ok(posterior.mean),
            None => encoder.forward(b, &image),
        }
    })
}

pub fn decoder(config: &AutoencoderConfig) -> Result<Cost> {
    cost(|vb, b| {
        let decoder = Decoder::new(vb, config)?;
        let size = config.latent_size();
        let latent = b.input("latent", &[1, config.latent_channels, size, size]);
        let quantized = decoder.quantize(b, &latent)?;
        decoder.forward(b, &quantized)
    })
}
