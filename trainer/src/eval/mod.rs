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

    /// How many images of each set it needs, on features of this width, to mean anything. A Fréchet distance of as many
    /// images as features or fewer is one of degenerate covariances; principal components are few where images are.
    fn least_images(self, features: usize) -> usize {
        match self {
            Self::Fid => features + 1,
            _ => MIN_IMAGES,
        }
    }

    /// With how many images of each set it is what publications give.
    fn usual_images(self) -> usize {
        match self {
            Self::Fid => 10_000,
            _ => 1_000,
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

/// The least number of images that any figure is given for.
const MIN_IMAGES: usize = 10;

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
    /// Leaves out what there are too few images for, instead of failing.
    pub leave_out: bool,
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
    warnings: Vec<String>,
}

/// The real images in one kind of features.
struct Described {
    extractor: Extractor,
    /// (N, D)
    real: Tensor,
    /// What is measured on them.
    metrics: Vec<Metric>,
}

impl Described {
    /// Checks that there are images enough for each metric. The first that has too few is an error; if `leave_out`, such
    /// metrics are left out instead, and what they need is returned.
    fn need_images(&mut self, count: usize, leave_out: bool) -> Result<Vec<EvalError>, EvalError> {
        let features = self.real.dim(1)?;
        let mut left_out = Vec::new();
        for metric in std::mem::take(&mut self.metrics) {
            match need(metric.name(), metric.least_images(features), count) {
                Ok(()) => self.metrics.push(metric),
                Err(error) if leave_out => left_out.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(left_out)
    }
}

/// Warnings of figures that are of fewer images than publications take.
fn too_few_to_publish(described: &[Described], count: usize) -> Vec<String> {
    let mut few: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for metric in described.iter().flat_map(|described| &described.metrics) {
        if count < metric.usual_images() {
            few.entry(metric.usual_images()).or_default().push(metric.name());
        }
    }
    let warning = |(usual, names): (usize, Vec<&str>)| {
        format!(
            "{} of {count} images: compare only with figures of as many images; publications use {usual} or more",
            names.join(", ")
        )
    };
    few.into_iter().map(warning).collect()
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
        let swd = metrics.contains(&Metric::Swd);
        if swd {
            swd::levels(real.size())?;
        }
        let chosen = |of: fn(Metric) -> bool| metrics.iter().copied().filter(|metric| of(*metric)).collect::<Vec<_>>();
        let (of_components, of_network) = (chosen(Metric::of_components), chosen(Metric::of_network));
        if let (None, Some(&metric)) = (&network, of_network.iter().find(|metric| !metric.of_components())) {
            return Err(EvalError::NeedsNetwork(metric));
        }
        if swd || !of_components.is_empty() {
            need(metrics[0].name(), MIN_IMAGES, count)?;
        }
        let mut described = Vec::new();
        if !of_components.is_empty() {
            let extractor = Extractor::components(real)?;
            let real = extractor.extract_some(real, &against)?;
            described.push(Described { extractor, real, metrics: of_components });
        }
        if let Some(extractor) = network.filter(|_| !of_network.is_empty()) {
            let rows = Tensor::new(against.as_slice(), &Device::Cpu)?;
            let real = real_features(&extractor, real, options.cache)?.index_select(&rows, 0)?;
            described.push(Described { extractor, real, metrics: of_network });
        }
        let mut warnings = Vec::new();
        for described in &mut described {
            let left_out = described.need_images(count, options.leave_out)?;
            warnings.extend(left_out.into_iter().map(|error| format!("left out: {error}")));
        }
        warnings.extend(too_few_to_publish(&described, count));
        Ok(Self { real, seed: options.seed, swd, described, warnings })
    }

    /// What is left out, and which figures are of few images.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
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

#[cfg(test)]
mod tests {
    use super::*;
    use lddgan::noise::Stream;

    fn images(count: usize) -> ImageSet {
        let values = Stream::new(0, count as u64, "images").normals(count * 3 * 16 * 16);
        let mut set = ImageSet::new(16);
        set.append(&Tensor::from_vec(values, (count, 3, 16, 16), &Device::Cpu).unwrap()).unwrap();
        set
    }

    fn prepare<'a>(real: &'a ImageSet, metrics: &'a [Metric], generated: u64) -> Result<Evaluation<'a>, EvalError> {
        let options = Options { metrics, leave_out: metrics.is_empty(), generated, real: None, cache: None, seed: 0 };
        Evaluation::prepare(real, Some(Extractor::Pixels), options)
    }

    /// 32x32 pixels in three channels are 3072 features.
    #[test]
    fn figures_of_too_few_images_are_refused_or_left_out() {
        let real = images(12);
        for (metric, generated, least) in [
            (Metric::Fid, 12, 3073),
            (Metric::Kid, 9, 10),
            (Metric::Precision, 9, 10),
            (Metric::Coverage, 4, 10),
            (Metric::Distance, 9, 10),
            (Metric::Swd, 9, 10),
        ] {
            let Err(EvalError::TooFew { what, needed, given }) = prepare(&real, &[metric], generated) else {
                panic!("{metric} of {generated} images")
            };
            assert_eq!((what.as_str(), needed, given as u64), (metric.name(), least, generated));
        }
        let evaluation = prepare(&real, &[], 11).unwrap();
        let left_out = "left out: fid needs at least 3073 images of each set, not 11";
        assert_eq!(evaluation.warnings()[0], left_out);
        let usual = &evaluation.warnings()[1];
        assert!(usual.contains("kid of 11 images") && usual.contains("1000 or more"), "{usual}");
        let measured = evaluation.measure(&images(11)).unwrap();
        let names: Vec<&str> = measured.iter().flat_map(|part| part.figures.keys().map(String::as_str)).collect();
        assert!(names.contains(&"kid") && names.contains(&"recall") && !names.contains(&"fid"), "{names:?}");
    }
}
