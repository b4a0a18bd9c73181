//! How values lie in memory: sixteen channels together, absent channels zero, as (ceil(C / 16), N, H, W) blocks. The pixels
//! of a whole batch follow each other, so a 1x1 convolution is one matrix product, and concatenated values lie one behind
//! the other.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

/// Channels that lie together: a register of AVX-512, two of AVX2, four of NEON and WebAssembly.
pub const BLOCK: usize = 16;

/// The numbers of one pixel in [`BLOCK`] channels, or a row of weights; a cache line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Block(pub [f32; BLOCK]);

/// A shape that has no layout here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a value of shape {0:?} is neither image nor vector")]
pub struct NotAnImage(Vec<usize>);

/// The shape of images (N, C, H, W); vectors (N, C) have one pixel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// N
    pub batch: usize,
    /// C
    pub channels: usize,
    /// H
    pub height: usize,
    /// W
    pub width: usize,
}

impl Shape {
    /// Of (N, C) or (N, C, H, W).
    pub fn new(dims: &[usize]) -> Result<Self, NotAnImage> {
        match *dims {
            [batch, channels] => Ok(Self { batch, channels, height: 1, width: 1 }),
            [batch, channels, height, width] => Ok(Self { batch, channels, height, width }),
            _ => Err(NotAnImage(dims.to_vec())),
        }
    }

    /// Blocks of channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }

    /// Pixels of one image.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Pixels of the batch: the blocks of 16 numbers of one block of channels.
    pub fn plane(&self) -> usize {
        self.batch * self.pixels()
    }

    /// Blocks of 16 numbers of the whole value.
    pub fn size(&self) -> usize {
        self.blocks() * self.plane()
    }

    /// Numbers, without those of absent channels.
    pub fn elements(&self) -> usize {
        self.channels * self.plane()
    }

    /// From (N, C, H, W) to blocks; `values` has as many as [`Self::elements`].
    pub fn pack(&self, values: &[f32]) -> Vec<Block> {
        let mut packed = vec![Block::zeroed(); self.size()];
        for (i, packed) in packed.chunks_exact_mut(self.pixels().max(1)).enumerate() {
            pack_planes(&values[self.planes(i)], packed);
        }
        packed
    }

    /// From blocks to (N, C, H, W).
    pub fn unpack(&self, packed: &[Block]) -> Vec<f32> {
        let mut values = vec![0.0; self.elements()];
        for (i, packed) in packed.chunks_exact(self.pixels().max(1)).enumerate() {
            unpack_planes(packed, &mut values[self.planes(i)]);
        }
        values
    }

    /// Where the channels of the `i`-th image of a block are in (N, C, H, W), counted through all blocks.
    pub(crate) fn planes(&self, i: usize) -> Range<usize> {
        let (block, n) = (i / self.batch, i % self.batch);
        let first = block * BLOCK;
        let channels = first..self.channels.min(first + BLOCK);
        (n * self.channels + channels.start) * self.pixels()..(n * self.channels + channels.end) * self.pixels()
    }
}

/// The channels of one image, one after the other, as blocks of them all.
pub(crate) fn pack_planes(planes: &[f32], packed: &mut [Block]) {
    let pixels = packed.len();
    if planes.len() == BLOCK * pixels {
        for (pixel, block) in packed.iter_mut().enumerate() {
            block.0 = std::array::from_fn(|c| planes[c * pixels + pixel]);
        }
    } else {
        for (c, plane) in planes.chunks_exact(pixels).enumerate() {
            plane.iter().zip(&mut *packed).for_each(|(value, block)| block.0[c] = *value);
        }
    }
}

/// Undoes [`pack_planes`].
pub(crate) fn unpack_planes(packed: &[Block], planes: &mut [f32]) {
    for (c, plane) in planes.chunks_exact_mut(packed.len()).enumerate() {
        plane.iter_mut().zip(packed).for_each(|(value, block)| *value = block.0[c]);
    }
}

/// The blocks of [`pack_weights`].
pub fn packed_weights(outputs: usize, inputs: usize, taps: usize) -> usize {
    outputs.div_ceil(BLOCK) * taps * inputs.next_multiple_of(BLOCK)
}

/// From (out, in, taps) to panels, one for each block of outputs: for each tap and input, padded to whole blocks, the
/// weights of the block's outputs.
pub fn pack_weights(weights: &[f32], outputs: usize, inputs: usize, taps: usize) -> Vec<Block> {
    let rows = inputs.next_multiple_of(BLOCK);
    let mut packed = vec![Block::zeroed(); packed_weights(outputs, inputs, taps)];
    let panels = packed.chunks_exact_mut((taps * rows).max(1));
    for (panel, weights) in panels.zip(weights.chunks((BLOCK * inputs * taps).max(1))) {
        for input in 0..inputs {
            for (lane, weights) in weights.chunks_exact(inputs * taps).enumerate() {
                for (tap, weight) in weights[input * taps..][..taps].iter().enumerate() {
                    panel[tap * rows + input].0[lane] = *weight;
                }
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_undoes_packing() {
        let shape = Shape { batch: 2, channels: 17, height: 1, width: 3 };
        let values: Vec<f32> = (0..shape.elements()).map(|i| i as f32 + 1.0).collect();
        let packed = shape.pack(&values);
        assert_eq!(packed[0].0[..3], [1.0, 4.0, 7.0]);
        // The second image, and its last channel.
        assert_eq!(packed[3].0[0], 52.0);
        assert_eq!(packed[9].0[..2], [100.0, 0.0]);
        assert_eq!(shape.unpack(&packed), values);
    }

    #[test]
    fn weights_lie_in_rows_by_input() {
        let weights: Vec<f32> = (0..18 * 2 * 2).map(|i| i as f32).collect();
        let packed = pack_weights(&weights, 18, 2, 2);
        assert_eq!(packed.len(), 2 * 2 * 16);
        assert_eq!(packed[0].0[..3], [0.0, 4.0, 8.0]);
        // The second tap of the second input, of the last two outputs.
        assert_eq!(packed[32 + 16 + 1].0[..3], [67.0, 71.0, 0.0]);
    }
}
