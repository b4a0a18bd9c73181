//! How large the networks of a configuration are, and how much they compute.

use candle_nn::VarBuilder;

use crate::config::FileConfig;
use crate::error::Result;
use crate::graph::{Graph, Recorder};
use crate::networks::{Network, NetworkName, PatchDiscriminator};
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

impl Cost {
    /// Of one network of `config`: one step of a generator, a KL encoder with both halves of its last convolution, a decoder
    /// with its quantiser. An error if `config` does not describe it, or no network can be built so.
    pub fn of(network: NetworkName, config: &FileConfig) -> Result<Self> {
        measure(|vb| {
            let network = Network::new(network, config, vb)?;
            network.record(&network.shapes(config, 1)?)
        })
    }
}

/// Builds a network without weights and records it for one image.
fn measure(record: impl FnOnce(VarBuilder) -> Result<Graph>) -> Result<Cost> {
    let shapes = Shapes::new();
    let graph = record(shapes.var_builder())?;
    let trained = |name: &str| name != "codebook" && !name.starts_with("gaussian.");
    let counted = shapes.shapes().into_iter().filter(|(name, _)| trained(name));
    let parameters = counted.map(|(_, shape)| shape.elem_count()).sum();
    Ok(Cost { parameters, flops: graph.flops(), kept_bytes: graph.kept_bytes() })
}

/// The discriminator that an autoencoder trains against, on images of `size` pixels; see [`PatchDiscriminator::new`].
pub fn patch_discriminator(image_channels: usize, channels: usize, layers: usize, size: usize) -> Result<Cost> {
    measure(|vb| {
        let discriminator = PatchDiscriminator::new(vb, image_channels, channels, layers)?;
        let mut b = Recorder::new();
        let image = b.input("image", &[1, image_channels, size, size]);
        discriminator.forward(&mut b, &image)?;
        Ok(b.finish())
    })
}
