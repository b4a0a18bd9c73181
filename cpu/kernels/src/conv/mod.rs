//! Convolutions: which algorithm computes one, and what follows it in the same pass.

mod direct;
mod epilogue;
#[cfg(not(target_family = "wasm"))]
pub mod training;
#[cfg(not(target_family = "wasm"))]
mod weight_gradient;
mod winograd;

use std::ops::Range;

use crate::ConvGeometry;
pub use epilogue::Epilogue;
use winograd::{F2, F4};

use crate::layout::{BLOCK, Block, Shape, pack_weights, packed_weights};
use crate::workers::{Parts, Workers, share};

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvLayer {
    /// What is convolved, before the upsampling.
    pub x: Shape,
    /// The result.
    pub y: Shape,
    /// Kernel, stride and padding.
    pub geometry: ConvGeometry,
    /// Every pixel of x counts as so many in a row and in a column.
    pub upsample: usize,
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// One matrix product of the pixels that a kernel sees and the weights.
    Direct,
    /// Winograd's, 2x2 pixels at a time: 2.25 times fewer multiplications. Only 3x3 kernels with stride 1.
    Winograd2,
    /// 4x4 pixels at a time: 4 times fewer.
    Winograd4,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Winograd2, Self::Winograd4];

    /// Whether it can compute a layer.
    pub fn fits(self, layer: &ConvLayer) -> bool {
        self == Self::Direct || (layer.geometry.kernel, layer.geometry.stride) == (3, 1)
    }

    /// The one that should be fastest with weights that are packed once.
    pub fn estimated(layer: &ConvLayer) -> Self {
        // Every weight is read once, which takes as long as multiplying it with this many pixels.
        Self::cheapest(layer, 6.0)
    }

    fn cheapest(layer: &ConvLayer, reading: f64) -> Self {
        let fitting = Self::ALL.into_iter().filter(|algorithm| algorithm.fits(layer));
        fitting.min_by(|a, b| a.cost(layer, reading).total_cmp(&b.cost(layer, reading))).unwrap_or(Self::Direct)
    }

    /// Multiply-adds of blocks that take as long as a layer, if reading a weight takes as long as so many of them.
    fn cost(self, layer: &ConvLayer, reading: f64) -> f64 {
        let ConvLayer { x, y, geometry, .. } = layer;
        let product = (x.blocks() * BLOCK * y.blocks()) as f64;
        let tiles = |size: usize| (y.batch * y.height.div_ceil(size) * y.width.div_ceil(size)) as f64;
        let (rows, factors, moves) = match self {
            Self::Direct => (y.plane() as f64, geometry.kernel.pow(2) as f64, geometry.kernel.pow(2) * x.blocks()),
            Self::Winograd2 => (tiles(2), 16.0, 64 * x.blocks() + 48 * y.blocks()),
            Self::Winograd4 => (tiles(4), 36.0, 200 * x.blocks() + 180 * y.blocks()),
        };
        factors * product * (rows + reading) + rows * moves as f64
    }

    /// Weights (out, in, kernel, kernel) as this algorithm needs them.
    pub fn pack(self, weights: &[f32], outputs: usize, inputs: usize, geometry: ConvGeometry) -> Vec<Block> {
        match self {
            Self::Direct => pack_weights(weights, outputs, inputs, geometry.kernel.pow(2)),
            Self::Winograd2 => winograd::pack(F2, weights, outputs, inputs),
            Self::Winograd4 => winograd::pack(F4, weights, outputs, inputs),
        }
    }

    /// The blocks of [`Self::pack`].
    pub fn packed(self, outputs: usize, inputs: usize, geometry: ConvGeometry) -> usize {
        let taps = match self {
            Self::Direct => geometry.kernel.pow(2),
            Self::Winograd2 => 16,
            Self::Winograd4 => 36,
        };
        packed_weights(outputs, inputs, taps)
    }

    /// Blocks of memory that a thread needs for a layer.
    pub fn memory(self, layer: &ConvLayer) -> usize {
        match self {
            Self::Direct => direct::memory(layer),
            Self::Winograd2 => winograd::memory::<2, 4>(layer),
            Self::Winograd4 => winograd::memory::<4, 6>(layer),
        }
    }

    /// Computes a layer with weights of [`Self::pack`].
    pub fn compute(self, task: Task, workers: &mut Workers) {
        assert_eq!(task.x.len(), task.layer.x.size(), "{:?}", task.layer);
        match self {
            Self::Direct => direct::compute(task, workers),
            Self::Winograd2 => winograd::compute(F2, task, workers),
            Self::Winograd4 => winograd::compute(F4, task, workers),
        }
    }
}

/// A convolution to compute.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Its sizes.
    pub layer: &'a ConvLayer,
    /// The images.
    pub x: &'a [Block],
    /// As the algorithm needs them.
    pub weights: &'a [Block],
    /// What follows the sums.
    pub epilogue: &'a Epilogue<'a>,
    /// Gets the result.
    pub y: Parts<'a>,
}

/// How a task is divided: all rows in chunks, and each chunk by blocks of outputs.
#[derive(Debug, Clone, Copy)]
struct Division {
    rows: usize,
    chunks: usize,
    panels: usize,
    splits: usize,
}

impl Division {
    /// Chunks of at most `limit` rows; more splits where there are fewer chunks than the work is worth threads.
    fn new(rows: usize, limit: usize, panels: usize, flops: u64) -> Self {
        let fewest = rows.div_ceil(limit);
        let parts = Workers::parts(flops, rows.div_ceil(8).max(1) * panels);
        let chunks = fewest.max(parts.min(rows.div_ceil(16)));
        Self { rows, chunks, panels, splits: parts.div_ceil(chunks).min(panels.div_ceil(2)).max(1) }
    }

    fn parts(&self) -> usize {
        self.chunks * self.splits
    }

    /// The rows and the blocks of outputs of a part.
    fn part(&self, i: usize) -> (Range<usize>, Range<usize>) {
        (share(self.rows, self.chunks, i / self.splits), share(self.panels, self.splits, i % self.splits))
    }
}
