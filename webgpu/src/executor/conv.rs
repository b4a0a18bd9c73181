//! The kernels that compute convolutions, and which of them a layer gets.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::conv_layer::ConvLayer;
use super::program::Kernel;

/// Threads of a workgroup, in every kernel.
pub const THREADS: usize = 64;

/// Workgroups that keep a GPU busy, and a software adapter, whose every processor core takes one.
const BUSY_WORKGROUPS: f64 = 128.0;
const BUSY_SOFTWARE_WORKGROUPS: f64 = 4.0;

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConvKernel {
    /// conv_direct.wgsl
    Direct(Strip),
    /// conv_tiled.wgsl
    Tiled(Tile),
    /// conv_winograd.wgsl, for 3x3 kernels of stride 1 without upsampling
    Winograd(Patches),
    /// conv_summed.wgsl, for results of one pixel
    Summed(Lanes),
}

/// The part of the result that a thread of conv_direct.wgsl computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strip {
    /// Neighbouring pixels of a row.
    pixels: usize,
    /// Groups of four channels.
    blocks: usize,
}

impl Strip {
    /// From small to large.
    pub const ALL: [Self; 4] = [
        Self { pixels: 4, blocks: 1 },
        Self { pixels: 4, blocks: 2 },
        Self { pixels: 8, blocks: 2 },
        Self { pixels: 8, blocks: 4 },
    ];

    fn workgroups(&self, layer: &ConvLayer) -> usize {
        let [batch, height, width] = layer.phase();
        let rows = layer.phases() * batch * height * layer.out_blocks().div_ceil(self.blocks);
        (rows * width.div_ceil(self.pixels)).div_ceil(THREADS)
    }

    fn cost(&self, layer: &ConvLayer, enough: f64) -> f64 {
        /// Multiply-adds that take as long as a load: as measured on lavapipe.
        const LOAD: f64 = 10.0;
        let workgroups = self.workgroups(layer) as f64;
        let computed = workgroups * (THREADS * self.pixels * self.blocks) as f64;
        cost(computed, LOAD * loads(self.pixels, self.blocks), workgroups / enough)
    }
}

/// Loads of four numbers for each multiply-add of a thread that computes so many pixels and groups of four channels.
fn loads(pixels: usize, blocks: usize) -> f64 {
    (pixels + 4 * blocks) as f64 / (4 * pixels * blocks) as f64
}

/// A guess at the time, in no unit: the multiply-adds, those for pixels and channels that do not exist included, and what the
/// loads for one take, over the share of the machine that is busy.
fn cost(computed: f64, loads: f64, busy: f64) -> f64 {
    computed * (1.0 + loads) / busy.min(1.0)
}

/// The part of the result that a workgroup of conv_tiled.wgsl computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tile {
    /// Threads side by side along the pixels; the others lie along the channels.
    pixel_threads: usize,
    /// Pixels of each thread.
    pixels: usize,
    /// Groups of four channels of each thread.
    blocks: usize,
}

impl Tile {
    /// From large to small. Their pixels divide the threads of a workgroup.
    pub const ALL: [Self; 6] = [
        Self { pixel_threads: 8, pixels: 8, blocks: 2 },
        Self { pixel_threads: 8, pixels: 8, blocks: 1 },
        Self { pixel_threads: 8, pixels: 4, blocks: 2 },
        Self { pixel_threads: 8, pixels: 4, blocks: 1 },
        Self { pixel_threads: 16, pixels: 4, blocks: 1 },
        Self { pixel_threads: 8, pixels: 2, blocks: 1 },
    ];

    fn tile_pixels(&self) -> usize {
        self.pixel_threads * self.pixels
    }

    fn tile_blocks(&self) -> usize {
        THREADS / self.pixel_threads * self.blocks
    }

    fn workgroups(&self, layer: &ConvLayer) -> usize {
        let pixels = layer.phase().iter().product::<usize>();
        layer.phases() * pixels.div_ceil(self.tile_pixels()) * layer.out_blocks().div_ceil(self.tile_blocks())
    }

    fn cost(&self, layer: &ConvLayer) -> f64 {
        let workgroups = self.workgroups(layer) as f64;
        let computed = workgroups * (self.tile_pixels() * self.tile_blocks()) as f64;
        // From workgroup memory, which is as fast as arithmetic.
        cost(computed, loads(self.pixels, self.blocks), workgroups / BUSY_WORKGROUPS)
    }
}

/// The part of the result that a workgroup of conv_winograd.wgsl computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patches {
    /// Patches of 2x2 pixels.
    patches: usize,
    /// Groups of four channels.
    blocks: usize,
}

impl Patches {
    /// Each gives a thread 16 sums.
    pub const ALL: [Self; 2] = [Self { patches: 32, blocks: 2 }, Self { patches: 16, blocks: 4 }];

    fn workgroups(&self, layer: &ConvLayer) -> usize {
        let [batch, _, height, width] = layer.y;
        let patches = batch * height.div_ceil(2) * width.div_ceil(2);
        patches.div_ceil(self.patches) * layer.out_blocks().div_ceil(self.blocks)
    }
}

/// The threads that share a sum in conv_summed.wgsl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lanes(usize);

impl Lanes {
    /// From few to many. Powers of two, up to [`THREADS`].
    pub const ALL: [Self; 2] = [Self(8), Self(THREADS)];

    fn workgroups(&self, layer: &ConvLayer) -> usize {
        layer.y[0] * layer.out_blocks().div_ceil(THREADS / self.0)
    }

    /// As few as fill the machine.
    fn estimated(layer: &ConvLayer, enough: f64) -> Self {
        let fills = |lanes: &Self| lanes.workgroups(layer) as f64 >= enough;
        Self::ALL.into_iter().find(fills).unwrap_or(Self(THREADS))
    }
}

impl fmt::Display for ConvKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Pixels times channels.
            Self::Direct(Strip { pixels, blocks }) => f.pad(&format!("d{pixels}x{}", 4 * blocks)),
            Self::Tiled(tile) => f.pad(&format!("{}x{}", tile.tile_pixels(), 4 * tile.tile_blocks())),
            Self::Winograd(Patches { patches, blocks }) => f.pad(&format!("w{}x{}", 4 * patches, 4 * blocks)),
            Self::Summed(Lanes(lanes)) => f.pad(&format!("s{lanes}")),
        }
    }
}

impl ConvKernel {
    /// Computes every layer, without workgroup memory.
    pub const DIRECT: Self = Self::Direct(Strip { pixels: 4, blocks: 1 });

    /// Every kernel.
    pub fn all() -> impl Iterator<Item = Self> {
        Strip::ALL
            .map(Self::Direct)
            .into_iter()
            .chain(Tile::ALL.map(Self::Tiled))
            .chain(Patches::ALL.map(Self::Winograd))
            .chain(Lanes::ALL.map(Self::Summed))
    }

    /// The kernels of which one should be the fastest for a layer. Others waste most of their threads on a single pixel.
    pub fn candidates(layer: &ConvLayer) -> impl Iterator<Item = Self> {
        let summed = layer.is_to_one_pixel();
        Self::all().filter(move |kernel| kernel.fits(layer) && matches!(kernel, Self::Summed(_)) == summed)
    }

    /// Whether it computes this layer.
    pub fn fits(self, layer: &ConvLayer) -> bool {
        match self {
            Self::Direct(_) | Self::Tiled(_) => true,
            Self::Winograd(_) => (layer.kernel, layer.stride, layer.upsample) == (3, 1, 1),
            Self::Summed(_) => layer.is_to_one_pixel(),
        }
    }

    /// The kernel that should be fast, as long as nobody has measured.
    ///
    /// Results of few channels waste most of a tile. On software adapters workgroup memory is slow: the direct kernel is the fastest
    /// for every layer on lavapipe (`lddgan bench kernels --tune`).
    pub fn estimated(layer: &ConvLayer, software: bool) -> Self {
        let enough = if software { BUSY_SOFTWARE_WORKGROUPS } else { BUSY_WORKGROUPS };
        if layer.is_to_one_pixel() {
            return Self::Summed(Lanes::estimated(layer, enough));
        }
        let tile = Tile::ALL.into_iter().min_by(|a, b| a.cost(layer).total_cmp(&b.cost(layer)));
        if let Some(tile) = tile.filter(|_| !software && layer.out_blocks() >= 4) {
            return Self::Tiled(tile);
        }
        // Larger strips take seconds more to compile, which they save after many images: they are for those who measure.
        let strips = Strip::ALL.into_iter().filter(|strip| strip.blocks <= 2);
        let strip = strips.min_by(|a, b| a.cost(layer, enough).total_cmp(&b.cost(layer, enough)));
        strip.map_or(Self::DIRECT, Self::Direct)
    }

    pub(super) fn kernel(self, layer: &ConvLayer) -> Kernel {
        const COMMON: [&str; 2] = [kernel_text!("common"), kernel_text!("conv_common")];
        // A phase's kernel sees two pixels where that of the upsampled image sees three.
        let taps = if layer.upsample > 1 { 2 } else { layer.kernel };
        let mut constants = vec![("KERNEL", taps), ("STRIDE", layer.stride)];
        let (name, source) = match self {
            Self::Direct(Strip { pixels, blocks }) => {
                constants.extend([("PIXELS", pixels), ("BLOCKS", blocks)]);
                ("conv_direct", kernel_text!("conv_direct"))
            }
            Self::Tiled(Tile { pixel_threads, pixels, blocks }) => {
                constants.extend([("PIXEL_THREADS", pixel_threads), ("PIXELS", pixels), ("BLOCKS", blocks)]);
                ("conv_tiled", kernel_text!("conv_tiled"))
            }
            Self::Winograd(Patches { patches, blocks }) => {
                constants.extend([("PATCHES", patches), ("BLOCKS", blocks)]);
                ("conv_winograd", kernel_text!("conv_winograd"))
            }
            Self::Summed(Lanes(lanes)) => {
                constants.push(("LANES", lanes));
                ("conv_summed", kernel_text!("conv_summed"))
            }
        };
        let constants = constants.into_iter().map(|(name, value)| (name, value as u32)).collect();
        let parts = COMMON.into_iter().chain([source]).collect();
        Kernel { name, parts, weights: None, sums: false, constants, overrides: Vec::new(), images: Vec::new() }
    }

    pub(super) fn workgroups(self, layer: &ConvLayer) -> usize {
        match self {
            Self::Direct(strip) => strip.workgroups(layer),
            Self::Tiled(tile) => tile.workgroups(layer),
            Self::Winograd(patches) => patches.workgroups(layer),
            Self::Summed(lanes) => lanes.workgroups(layer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(batch: usize, channels: usize, size: usize) -> ConvLayer {
        let shape = [batch, channels, size, size];
        ConvLayer { x: shape, y: shape, kernel: 3, stride: 1, upsample: 1 }
    }

    #[test]
    fn tiles_fit_the_kernel() {
        for tile in Tile::ALL {
            assert!(
                THREADS.is_multiple_of(tile.pixel_threads) && THREADS.is_multiple_of(tile.tile_pixels()),
                "{tile:?}"
            );
        }
    }

    #[test]
    fn a_single_pixel_gets_threads_for_its_sum() {
        let whole = |y: usize, x: usize, size: usize| ConvLayer {
            x: [1, x, size, size],
            y: [1, y, 1, 1],
            kernel: size,
            stride: size,
            upsample: 1,
        };
        let (project, expand) = (whole(256, 16, 16), whole(4096, 256, 1));
        assert_eq!(ConvKernel::estimated(&project, false), ConvKernel::Summed(Lanes(64)));
        assert_eq!(ConvKernel::estimated(&expand, false), ConvKernel::Summed(Lanes(8)));
        assert_eq!((Lanes(64).workgroups(&project), Lanes(8).workgroups(&expand)), (64, 128));
        for layer in [project, expand] {
            assert!(ConvKernel::candidates(&layer).all(|kernel| matches!(kernel, ConvKernel::Summed(_))));
        }
        assert!(ConvKernel::candidates(&layer(1, 64, 8)).all(|kernel| !matches!(kernel, ConvKernel::Summed(_))));
    }

    #[test]
    fn large_layers_get_large_tiles_and_small_ones_many() {
        let tile = |layer| match ConvKernel::estimated(&layer, false) {
            ConvKernel::Tiled(tile) => tile,
            kernel => panic!("{layer:?} gets {kernel:?}"),
        };
        assert_eq!(tile(layer(16, 128, 64)), Tile::ALL[0]);
        assert!(tile(layer(1, 64, 8)).workgroups(&layer(1, 64, 8)) >= 8);
        // The samples of a batch fill tiles together.
        assert_eq!(Tile::ALL[0].workgroups(&layer(16, 64, 2)), 1);
        assert_eq!(ConvKernel::estimated(&layer(16, 3, 64), false), ConvKernel::DIRECT);
        let large = ConvKernel::Direct(Strip { pixels: 8, blocks: 2 });
        assert_eq!(ConvKernel::estimated(&layer(16, 128, 64), true), large);
        assert_eq!(ConvKernel::estimated(&layer(1, 64, 8), true), ConvKernel::DIRECT);
    }
}
