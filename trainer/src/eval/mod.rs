//! How good generated images are, compared with real ones.

mod cache;
pub mod components;
pub mod features;
pub mod frechet;
pub mod inception;
pub mod kid;
pub mod lpips;
pub mod manifold;
pub mod neighbours;
pub mod onnx;
mod resample;
pub mod ssim;
pub mod swd;
pub mod table;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::data::ImageSet;
use crate::files::FileError;
use crate::import::pytorch::PytorchError;
use features::Extractor;
use manifold::{DENSITY_NEIGHBOUR, Manifold, PRECISION_NEIGHBOUR};

/// What can be measured. All but SWD are figures of features: those of a network, or principal components.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Metric {
    /// Sliced Wasserstein distance between Laplacian pyramids, times 1000
    Swd,
    /// Fréchet distance between principal components
    Distance,
    /// Mean distance between generated images, relative to that between real ones, in principal components
    Spread,
    /// Share of the generated images that lie within the manifold of the real ones
    Precision,
    /// Share of the real images that lie within the manifold of the generated ones
    Recall,
    /// Real images that a generated one is near to, relative to what real ones would have
    Density,
    /// Share of the real images that a generated one is near to
    Coverage,
    /// Fréchet distance between a network's features
    Fid,
    /// Kernel distance between a network's features
    Kid,
}

impl Metric {
    pub const ALL: [Self; 9] = [
        Self::Swd,
        Self::Distance,
        Self::Spread,
        Self::Precision,
        Self::Recall,
        Self::Density,
        Self::Coverage,
        Self::Fid,
        Self::Kid,
    ];

    /// As options and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swd => "swd",
            Self::Distance => "distance",
            Self::Spread => "spread",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::Density => "density",
            Self::Coverage => "coverage",
            Self::Fid => "fid",
            Self::Kid => "kid",
        }
    }

    /// How many images of each set it needs.
    fn least_images(self) -> usize {
        match self {
            Self::Swd => 1,
            Self::Distance | Self::Spread | Self::Fid | Self::Kid => 2,
            Self::Precision | Self::Recall => PRECISION_NEIGHBOUR + 1,
            Self::Density | Self::Coverage => DENSITY_NEIGHBOUR + 1,
        }
    }

    /// Whether it is measured on principal components.
    fn of_components(self) -> bool {
        !matches!(self, Self::Swd | Self::Fid | Self::Kid)
    }

    /// Whether it is measured on a network's features.
    fn of_network(self) -> bool {
        !matches!(self, Self::Swd | Self::Distance | Self::Spread)
    }

    /// Of features (N, D) and (M, D); `seed` decides about subsets. SWD is none of features.
    fn of_features(self, real: &Tensor, generated: &Tensor, seed: u64) -> Result<f64, EvalError> {
        use manifold::mean_distance;
        let moments = frechet::Moments::of;
        match self {
            Self::Swd => Ok(f64::NAN),
            Self::Distance | Self::Fid => frechet::distance(&moments(real)?, &moments(generated)?),
            Self::Spread => Ok(mean_distance(generated)? / mean_distance(real)?),
            Self::Precision => Manifold::of(real, PRECISION_NEIGHBOUR)?.share_inside(generated),
            Self::Recall => Manifold::of(generated, PRECISION_NEIGHBOUR)?.share_inside(real),
            Self::Density => Manifold::of(real, DENSITY_NEIGHBOUR)?.density(generated),
            Self::Coverage => Manifold::of(real, DENSITY_NEIGHBOUR)?.coverage(generated),
            Self::Kid => kid::distance(real, generated, seed),
        }
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error("{what} needs at least {needed} images of each set, not {given}")]
    TooFew { what: String, needed: usize, given: usize },
    #[error("{0} needs a network: name a file with --features (any network, ONNX) or --inception (its weights)")]
    NeedsNetwork(Metric),
    #[error("{what}: {reason}")]
    Features { what: String, reason: String },
    #[error("{}: {source}", .path.display())]
    Onnx { path: PathBuf, source: Box<onnx::OnnxError> },
    #[error("{}: {reason}", .path.display())]
    File { path: PathBuf, reason: String },
    #[error(transparent)]
    Io(#[from] FileError),
    #[error(transparent)]
    Pytorch(#[from] PytorchError),
    #[error(transparent)]
    Network(#[from] lddgan::Error),
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl EvalError {
    fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), reason: reason.into() }
    }

    fn features(what: &str, reason: &str) -> Self {
        Self::Features { what: what.to_string(), reason: reason.to_string() }
    }
}

fn need(what: &str, needed: usize, given: usize) -> Result<(), EvalError> {
    if given < needed { Err(EvalError::TooFew { what: what.to_string(), needed, given }) } else { Ok(()) }
}

/// A progress bar with the time left.
pub fn bar(count: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} {msg}, {eta} left");
    ProgressBar::new(count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
}

/// What to measure, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Everything that can be measured if empty.
    pub metrics: &'a [Metric],
    /// How many generated images there will be, at least.
    pub generated: u64,
    /// How many of the real images, spread evenly, figures of features are against; all unless given.
    pub real: Option<usize>,
    /// Keeps the network's features of the real images.
    pub cache: Option<&'a Path>,
    /// Decides about patches, directions and subsets.
    pub seed: u64,
}

/// Measures sets of generated images against one of real ones.
pub struct Evaluation<'a> {
    real: &'a ImageSet,
    seed: u64,
    /// Whether the sliced Wasserstein distance is measured.
    swd: bool,
    described: Vec<Described>,
}

/// The real images in one kind of features.
struct Described {
    extractor: Extractor,
    /// (N, D)
    real: Tensor,
    /// What is measured on them.
    metrics: Vec<Metric>,
}

/// Measured numbers by their names, such as `fid` or `swd 64px`.
pub type Figures = BTreeMap<String, f64>;

/// Figures of one kind of features.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// `None`: pixels themselves.
    pub features: Option<String>,
    pub figures: Figures,
}

impl<'a> Evaluation<'a> {
    /// Does everything that the generated images are not needed for. Without a network there are no figures of one.
    pub fn prepare(real: &'a ImageSet, network: Option<Extractor>, options: Options<'_>) -> Result<Self, EvalError> {
        let metrics = match options.metrics {
            [] => possible(real, network.is_some()),
            chosen => chosen.to_vec(),
        };
        let against = real.spread(options.real.unwrap_or(usize::MAX));
        let count = options.generated.min(against.len() as u64) as usize;
        for metric in &metrics {
            need(metric.name(), metric.least_images(), count)?;
        }
        let swd = metrics.contains(&Metric::Swd);
        if swd {
            swd::levels(real.size())?;
        }
        let chosen = |of: fn(Metric) -> bool| metrics.iter().copied().filter(|metric| of(*metric)).collect::<Vec<_>>();
        let (of_components, of_network) = (chosen(Metric::of_components), chosen(Metric::of_network));
        let mut described = Vec::new();
        if !of_components.is_empty() {
            let extractor = Extractor::components(real)?;
            let real = extractor.extract_some(real, &against)?;
            described.push(Described { extractor, real, metrics: of_components });
        }
        match network {
            Some(extractor) if !of_network.is_empty() => {
                let rows = Tensor::new(against.as_slice(), &Device::Cpu)?;
                let real = real_features(&extractor, real, options.cache)?.index_select(&rows, 0)?;
                described.push(Described { extractor, real, metrics: of_network });
            }
            Some(_) => {}
            None => {
                if let Some(metric) = of_network.into_iter().find(|metric| !metric.of_components()) {
                    return Err(EvalError::NeedsNetwork(metric));
                }
            }
        }
        Ok(Self { real, seed: options.seed, swd, described })
    }

    pub fn measure(&self, generated: &ImageSet) -> Result<Vec<Measured>, EvalError> {
        let mut measured = Vec::new();
        if self.swd {
            measured.push(Measured { features: None, figures: self.pyramids(generated)? });
        }
        for Described { extractor, real, metrics } in &self.described {
            let generated = extractor.extract(generated)?;
            let figure = |metric: &Metric| Ok((metric.to_string(), metric.of_features(real, &generated, self.seed)?));
            let figures = metrics.iter().map(figure).collect::<Result<_, EvalError>>()?;
            measured.push(Measured { features: Some(extractor.name().to_string()), figures });
        }
        Ok(measured)
    }

    /// The sliced Wasserstein distance: mean, and of each level.
    fn pyramids(&self, generated: &ImageSet) -> Result<Figures, EvalError> {
        let distances = swd::distances(self.real, generated, self.seed)?;
        let mean = distances.iter().map(|(_, distance)| distance).sum::<f64>() / distances.len().max(1) as f64;
        let levels = distances.into_iter().map(|(size, distance)| (format!("swd {size}px"), distance));
        Ok(levels.chain([(Metric::Swd.to_string(), mean)]).collect())
    }
}

/// All that can be measured against such images.
fn possible(real: &ImageSet, with_network: bool) -> Vec<Metric> {
    let can = |metric: &Metric| match metric {
        Metric::Swd => swd::levels(real.size()).is_ok(),
        metric => metric.of_components() || with_network,
    };
    Metric::ALL.into_iter().filter(can).collect()
}

/// From the cache if they are there, else computed and put there.
fn real_features(extractor: &Extractor, real: &ImageSet, cache: Option<&Path>) -> Result<Tensor, EvalError> {
    let Some(path) = cache else { return extractor.extract(real) };
    let source = extractor.source(real);
    if let Some(features) = cache::read(path, &source, real.len())? {
        return Ok(features);
    }
    let features = extractor.extract(real)?;
    cache::write(path, &features, &source)?;
    Ok(features)
}
