//! How good generated images are, compared with real ones.

mod cache;
pub mod features;
pub mod frechet;
pub mod inception;
pub mod kid;
pub mod lpips;
pub mod manifold;
pub mod neighbours;
mod resample;
pub mod ssim;
pub mod swd;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use indicatif::{ProgressBar, ProgressStyle};

use crate::data::ImageSet;
use crate::files::FileError;
use crate::import::pytorch::PytorchError;
use features::Extractor;
use manifold::Manifold;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Metric {
    /// Sliced Wasserstein distance between Laplacian pyramids, times 1000: needs no weights
    Swd,
    /// Share of the generated images that lie within the manifold of the real ones
    Precision,
    /// Share of the real images that lie within the manifold of the generated ones
    Recall,
    /// Fréchet distance between Inception features
    Fid,
    /// Kernel distance between Inception features
    Kid,
}

impl Metric {
    /// How many images of each set it needs.
    fn least_images(self) -> usize {
        match self {
            Self::Swd => 1,
            Self::Precision | Self::Recall => manifold::LEAST_POINTS,
            Self::Fid | Self::Kid => 2,
        }
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Swd => "swd",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::Fid => "fid",
            Self::Kid => "kid",
        })
    }
}

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error("{metric} needs at least {needed} images of each set, not {given}")]
    TooFew { metric: Metric, needed: usize, given: usize },
    #[error("{0} needs the Inception network: name the file of its weights with --inception")]
    NeedsInception(Metric),
    #[error("{metric}: {reason}")]
    Features { metric: Metric, reason: String },
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
}

fn need(metric: Metric, needed: usize, given: usize) -> Result<(), EvalError> {
    if given < needed { Err(EvalError::TooFew { metric, needed, given }) } else { Ok(()) }
}

/// A progress bar with the time left.
pub fn bar(count: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} {msg}, {eta} left");
    ProgressBar::new(count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
}

/// What to measure, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    pub metrics: &'a [Metric],
    /// How many generated images there will be.
    pub generated: u64,
    /// Weights of the Inception network; without them, precision and recall are of pixels.
    pub inception: Option<&'a Path>,
    /// Keeps the Inception features of the real images.
    pub cache: Option<&'a Path>,
    /// Decides about patches, directions and subsets.
    pub seed: u64,
}

/// Measures sets of generated images against one of real ones.
pub struct Evaluation<'a> {
    options: Options<'a>,
    real: &'a ImageSet,
    /// What computes features, and those of the real images; `None` where no metric needs them.
    features: Option<(Extractor, Tensor)>,
}

/// Measured numbers by their names, such as `fid` or `swd 64px`.
pub type Figures = BTreeMap<String, f64>;

impl<'a> Evaluation<'a> {
    /// Does everything that the generated images are not needed for.
    pub fn prepare(real: &'a ImageSet, options: Options<'a>) -> Result<Self, EvalError> {
        let count = options.generated.min(real.len() as u64) as usize;
        for metric in options.metrics {
            need(*metric, metric.least_images(), count)?;
        }
        if options.metrics.contains(&Metric::Swd) {
            swd::levels(real.size())?;
        }
        let inception_only = options.metrics.iter().find(|metric| matches!(metric, Metric::Fid | Metric::Kid));
        let extractor = match (options.inception, inception_only) {
            (None, Some(&metric)) => return Err(EvalError::NeedsInception(metric)),
            _ if options.metrics.iter().all(|metric| *metric == Metric::Swd) => None,
            (Some(path), _) => Some(Extractor::inception(path)?),
            (None, None) => Some(Extractor::components(real)?),
        };
        let with_real = |extractor: Extractor| -> Result<_, EvalError> {
            let features = real_features(&extractor, real, options.cache)?;
            Ok((extractor, features))
        };
        Ok(Self { options, real, features: extractor.map(with_real).transpose()? })
    }

    /// What FID, KID, precision and recall are of.
    pub fn feature_name(&self) -> Option<&'static str> {
        self.features.as_ref().map(|(extractor, _)| extractor.name())
    }

    pub fn measure(&self, generated: &ImageSet) -> Result<Figures, EvalError> {
        let mut figures = Figures::new();
        if self.options.metrics.contains(&Metric::Swd) {
            let distances = swd::distances(self.real, generated, self.options.seed)?;
            let mean = distances.iter().map(|(_, distance)| distance).sum::<f64>() / distances.len().max(1) as f64;
            figures.insert("swd".to_string(), mean);
            figures.extend(distances.into_iter().map(|(size, distance)| (format!("swd {size}px"), distance)));
        }
        let Some((extractor, real)) = &self.features else { return Ok(figures) };
        let generated = extractor.extract(generated)?;
        for &metric in self.options.metrics {
            let value = match metric {
                Metric::Swd => continue,
                Metric::Precision => manifold::share(&Manifold::of(real)?.contains(&generated)?),
                Metric::Recall => manifold::share(&Manifold::of(&generated)?.contains(real)?),
                Metric::Fid => frechet::distance(&frechet::Moments::of(real)?, &frechet::Moments::of(&generated)?)?,
                Metric::Kid => kid::distance(real, &generated, self.options.seed)?,
            };
            figures.insert(metric.to_string(), value);
        }
        Ok(figures)
    }
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
