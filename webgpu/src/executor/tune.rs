//! Times the convolution kernels on a device, so that each layer can get the fastest.

use candle_core::{DType, Device, Tensor};
use lddgan::Graph;
use lddgan::backend::Backend;
use lddgan::graph::Recorder;
use lddgan::hash::sha256;
use lddgan::layers::{Conv2d, ConvGeometry};
use serde::{Deserialize, Serialize};

use web_time::Instant;

use super::constants::Shared;
use super::conv::ConvKernel;
use super::conv_layer::ConvLayer;
use super::executable::Executor;
use super::layout::Dtype;
use super::lower::lower;
use super::options::Options;
use super::profile::Work;
use crate::error::{Error, Result};
use crate::gpu::Gpu;

/// Measurements of each kernel, of which the fastest counts; the first warms up.
const MEASUREMENTS: usize = 3;
/// The most runs in a row that are one measurement.
const MAX_RUNS: usize = 256;

/// How long convolutions take under the kernels that compute them, on one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConvTimes {
    /// Seconds of the fastest run under each kernel.
    pub layers: Vec<(ConvLayer, Vec<(ConvKernel, f64)>)>,
    /// The layer whose measuring was interrupted, and what is known of it; infinite under kernels that do not compile.
    #[serde(skip)]
    begun: Option<(ConvLayer, Vec<(ConvKernel, f64)>)>,
}

impl ConvTimes {
    /// What the times of a device can be remembered by: it changes with the adapter and its driver, which `identity` names (see
    /// [`Gpu::identity`]), and with the kernels' sources. Fit for the name of a file.
    pub fn key(identity: &str) -> String {
        // Of any layer: others differ in constants only.
        let sources = ConvKernel::all().map(|kernel| kernel.kernel(&ConvLayer::default()).source(false));
        sha256([identity.to_string()].into_iter().chain(sources).collect::<String>().as_bytes())[..16].to_string()
    }

    /// Times the convolutions of a graph that were not timed yet under every kernel that may be the fastest, those with the most operations first,
    /// until `seconds` are over: the rest is left out. Whether there is anything new.
    pub async fn measure(&mut self, gpu: &Gpu, graph: &Graph, seconds: f64) -> Result<bool> {
        let clock = Instant::now();
        let known = self.layers.len();
        for layer in layers(graph)?.into_iter().filter(|layer| !self.knows(layer)).collect::<Vec<_>>() {
            if !self.measure_layer(gpu, &layer, || clock.elapsed().as_secs_f64() <= seconds).await? {
                break;
            }
        }
        Ok(self.layers.len() > known)
    }

    /// Times a convolution under [`ConvKernel::candidates`], as long as `go_on` says so before each; whether all are timed now. Another
    /// call for the same layer goes on from there.
    pub async fn measure_layer(&mut self, gpu: &Gpu, layer: &ConvLayer, go_on: impl Fn() -> bool) -> Result<bool> {
        let alone = recording(layer)?;
        let begun = self.begun.take().filter(|(begun, _)| begun == layer);
        let mut times = begun.map_or(Vec::new(), |(_, times)| times);
        for kernel in ConvKernel::candidates(layer).skip(times.len()) {
            if !go_on() {
                self.begun = (!times.is_empty()).then_some((*layer, times));
                return Ok(false);
            }
            let seconds = match time(gpu, &alone, kernel).await {
                // One that this device does not take is no candidate.
                Err(Error::Shader { .. }) => f64::INFINITY,
                seconds => seconds?,
            };
            times.push((kernel, seconds));
        }
        times.retain(|(_, seconds)| seconds.is_finite());
        self.layers.push((*layer, times));
        Ok(true)
    }

    /// Whether a layer was timed.
    pub fn knows(&self, layer: &ConvLayer) -> bool {
        self.layers.iter().any(|(timed, _)| timed == layer)
    }

    /// The different convolutions among this work, those first that need the most operations in it.
    pub fn convolutions<'a>(work: impl IntoIterator<Item = &'a Work>) -> Vec<ConvLayer> {
        let mut layers: Vec<(ConvLayer, u64)> = Vec::new();
        for work in work {
            let Some(conv) = work.conv else { continue };
            match layers.iter_mut().find(|(layer, _)| *layer == conv) {
                Some((_, flops)) => *flops += work.flops,
                None => layers.push((conv, work.flops)),
            }
        }
        layers.sort_by_key(|(_, flops)| std::cmp::Reverse(*flops));
        layers.into_iter().map(|(layer, _)| layer).collect()
    }

    /// The kernel that took the shortest time for a layer, if it was timed.
    pub fn fastest(&self, layer: &ConvLayer) -> Option<ConvKernel> {
        let (_, times) = self.layers.iter().find(|(timed, _)| timed == layer)?;
        Some(times.iter().min_by(|a, b| a.1.total_cmp(&b.1))?.0)
    }

    /// The kernel that took the shortest time, or else the one that should.
    pub fn kernel(&self, layer: &ConvLayer, gpu: &Gpu) -> ConvKernel {
        self.fastest(layer).unwrap_or_else(|| ConvKernel::estimated(layer, gpu.is_software()))
    }
}

/// The different convolutions of a graph.
fn layers(graph: &Graph) -> Result<Vec<ConvLayer>> {
    let options = Options { convolutions: &|_| ConvKernel::DIRECT, images: Dtype::F32 };
    let program = lower(graph, &options, &mut Shared::default())?;
    Ok(ConvTimes::convolutions(&program.work()))
}

/// A layer by itself. What its time does not depend on is left out: values, bias, residual, activation.
fn recording(layer: &ConvLayer) -> Result<Graph> {
    let ConvLayer { x, y, kernel, stride, upsample } = *layer;
    // The padding at both ends of the height; at the end of the width it is the same.
    let padding = ((y[2] - 1) * stride + kernel).saturating_sub(x[2] * upsample);
    let pad_before = padding / 2;
    let conv = Conv2d {
        weight: Tensor::zeros((y[1], x[1], kernel, kernel), DType::F32, &Device::Cpu)?,
        bias: None,
        geometry: ConvGeometry { kernel, stride, pad_before, pad_after: padding - pad_before },
    };
    let mut recorder = Recorder::new();
    let mut value = recorder.input("x", &x);
    if upsample > 1 {
        value = recorder.upsample_nearest(&value, upsample)?;
    }
    value = recorder.conv2d(&value, &conv)?;
    recorder.output("y", value);
    Ok(recorder.finish())
}

/// Seconds of the fastest run.
async fn time(gpu: &Gpu, graph: &Graph, kernel: ConvKernel) -> Result<f64> {
    // Browsers round timestamps to 0.1 ms, and without them the way to the GPU and back counts too.
    let enough = if gpu.has_timestamps() { 2e-3 } else { 2e-2 };
    let options = Options { convolutions: &|_| kernel, images: Dtype::F32 };
    let executor = Executor::with_options(gpu, graph, &options).await?;
    let (mut runs, mut measured, mut fastest) = (1, 0, f64::INFINITY);
    while measured < MEASUREMENTS {
        let seconds = executor.time(runs).await?;
        if seconds < enough && runs < MAX_RUNS {
            runs *= 4;
            continue;
        }
        fastest = fastest.min(seconds / runs as f64);
        measured += 1;
    }
    Ok(fastest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(size: usize, kernel: usize, stride: usize, upsample: usize) -> ConvLayer {
        let side = 8 * upsample / stride;
        ConvLayer { x: [2, 3, 8, 8], y: [2, size, side, side], kernel, stride, upsample }
    }

    #[test]
    fn the_fastest_kernel_of_a_layer_is_found() {
        let times = |fastest: usize| -> Vec<_> {
            ConvKernel::all().enumerate().map(|(i, kernel)| (kernel, if i == fastest { 1.0 } else { 2.0 })).collect()
        };
        let known =
            ConvTimes { layers: vec![(layer(1, 3, 1, 1), times(0)), (layer(2, 3, 1, 1), times(3))], begun: None };
        assert_eq!(known.fastest(&layer(2, 3, 1, 1)), ConvKernel::all().nth(3));
        assert_eq!(known.fastest(&layer(3, 3, 1, 1)), None);
    }

    #[test]
    fn a_layer_by_itself_is_that_layer() {
        for layer in [
            layer(5, 3, 1, 1),
            layer(4, 1, 1, 1),
            layer(4, 3, 2, 1),
            layer(7, 3, 1, 2),
            layer(4, 4, 4, 1),
            layer(5, 8, 8, 1),
        ] {
            assert_eq!(layers(&recording(&layer).unwrap()).unwrap(), [layer]);
        }
    }

    #[test]
    fn layers_are_timed_once_and_only_while_there_is_time() {
        // The error says what to install.
        let gpu = pollster::block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}"));
        let graph = recording(&layer(4, 3, 1, 1)).unwrap();
        let mut times = ConvTimes::default();
        assert!(!pollster::block_on(times.measure(&gpu, &graph, 0.0)).unwrap());
        assert_eq!(times, ConvTimes::default());
        // What an interruption leaves is no time of a layer yet.
        let asked = std::cell::Cell::new(0);
        let twice = || asked.replace(asked.get() + 1) < 2;
        assert!(!pollster::block_on(times.measure_layer(&gpu, &layer(4, 3, 1, 1), twice)).unwrap());
        let (_, begun) = times.begun.clone().unwrap();
        assert!(begun.len() == 2 && !times.knows(&layer(4, 3, 1, 1)), "{begun:?}");
        assert!(pollster::block_on(times.measure(&gpu, &graph, f64::INFINITY)).unwrap());
        let (timed, kernels) = &times.layers[0];
        assert_eq!(
            (times.layers.len(), *timed, kernels.len()),
            (1, layer(4, 3, 1, 1), ConvKernel::candidates(timed).count())
        );
        assert!(kernels.iter().all(|(_, seconds)| seconds.is_finite()), "{kernels:?}");
        assert_eq!(kernels[..2], begun);
        let kept: ConvTimes = serde_json::from_str(&serde_json::to_string(&times).unwrap()).unwrap();
        assert_eq!(kept.fastest(timed), times.fastest(timed));
        // JSON's reader may miss a number's last bit.
        let same = |(a, b): (&(ConvKernel, f64), &(ConvKernel, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-12 * b.1;
        let [(layer, seconds)] = kept.layers.as_slice() else { panic!("{kept:?}") };
        assert!(layer == timed && seconds.len() == kernels.len() && seconds.iter().zip(kernels).all(same), "{kept:?}");
        assert!(!pollster::block_on(times.measure(&gpu, &graph, f64::INFINITY)).unwrap());
        assert_eq!(gpu.identity(), pollster::block_on(gpu.reopen()).unwrap().identity());
        assert_ne!(ConvTimes::key(&gpu.identity()), ConvTimes::key("another"));
    }
}
