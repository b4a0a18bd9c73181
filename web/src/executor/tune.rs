//! Times every convolution kernel on a device, so that each layer can get the fastest.

use std::collections::BTreeMap;

use lddgan::Graph;
use serde::Serialize;

use super::conv::{ConvKernel, ConvLayer};
use super::executable::{Executor, Options};
use super::layout::NumberType;
use crate::error::Result;
use crate::gpu::Gpu;

/// How long each convolution takes under every kernel.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ConvTimes {
    /// Seconds of the fastest dispatch under each of [`ConvKernel::all`].
    pub layers: Vec<(ConvLayer, Vec<f64>)>,
}

impl ConvTimes {
    /// Runs a graph under each kernel, twice so that the first run can warm up; `inputs` are those of
    /// [`Executor::run`], `images` is as in [`Options`]. Needs an adapter with timestamp queries.
    pub async fn measure(gpu: &Gpu, graph: &Graph, inputs: &[(&str, &[f32])], images: NumberType) -> Result<Self> {
        let mut layers: BTreeMap<ConvLayer, Vec<f64>> = BTreeMap::new();
        for (i, kernel) in ConvKernel::all().enumerate() {
            let executor = Executor::with_options(gpu, graph, &Options { convolutions: &|_| kernel, images }).await?;
            for _ in 0..2 {
                for dispatch in executor.profile(inputs.iter().copied()).await? {
                    let Some(layer) = dispatch.work.conv else { continue };
                    let seconds = layers.entry(layer).or_default();
                    seconds.resize(i + 1, f64::INFINITY);
                    seconds[i] = seconds[i].min(dispatch.seconds);
                }
            }
        }
        Ok(Self { layers: layers.into_iter().collect() })
    }

    /// The kernel that took the shortest time for a layer, if it was timed.
    pub fn fastest(&self, layer: &ConvLayer) -> Option<ConvKernel> {
        let (_, seconds) = self.layers.iter().find(|(timed, _)| timed == layer)?;
        let fastest = ConvKernel::all().zip(seconds).min_by(|a, b| a.1.total_cmp(b.1))?;
        Some(fastest.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_kernel_of_a_layer_is_found() {
        let layer = |size| ConvLayer { x: [1; 4], y: [size; 4], kernel: 3, stride: 1, upsample: 1 };
        let kernels: Vec<_> = ConvKernel::all().collect();
        let mut seconds = vec![2.0; kernels.len()];
        seconds[3] = 1.0;
        let times = ConvTimes { layers: vec![(layer(1), vec![1.0; kernels.len()]), (layer(2), seconds)] };
        assert_eq!(times.fastest(&layer(2)), Some(kernels[3]));
        assert_eq!(times.fastest(&layer(3)), None);
    }
}
