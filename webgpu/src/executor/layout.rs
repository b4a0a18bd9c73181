//! How values lie in the GPU's memory: four channels together, absent channels zero. Images are (ceil(C / 4), N, H, W), so that
//! the concatenation of two batches is one behind the other; vectors are (N, ceil(C / 4)), so that one batch can follow another.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The type of the numbers of a value or constant in the GPU's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Dtype {
    /// Four bytes.
    #[default]
    F32,
    /// Two bytes.
    F16,
}

impl Dtype {
    /// As WGSL calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// Bytes of four numbers.
    pub fn vector_bytes(self) -> u64 {
        match self {
            Self::F32 => 16,
            Self::F16 => 8,
        }
    }
}

/// The shape of an image (N, C, H, W), or of vectors (N, C).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    pub batch: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// Whether it is vectors, which have one pixel.
    pub vector: bool,
}

impl Shape {
    pub fn new(dims: &[usize]) -> Result<Self> {
        match *dims {
            [batch, channels] => Ok(Self { batch, channels, height: 1, width: 1, vector: true }),
            [batch, channels, height, width] => Ok(Self { batch, channels, height, width, vector: false }),
            _ => Err(Error::Graph(format!("a value of shape {dims:?} is neither image nor vector"))),
        }
    }

    pub fn dims(&self) -> [usize; 4] {
        [self.batch, self.channels, self.height, self.width]
    }

    /// Groups of four channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(4)
    }

    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Values, without the absent channels.
    pub fn elements(&self) -> usize {
        self.batch * self.channels * self.pixels()
    }

    /// Groups of four channels in the whole image.
    pub fn vectors(&self) -> usize {
        self.batch * self.blocks() * self.pixels()
    }

    /// Where each of the values in the order (N, C, H, W) lies in the GPU's memory, in f32.
    fn places(self) -> impl Iterator<Item = usize> {
        let planes = (0..self.batch).flat_map(move |n| (0..self.channels).map(move |c| (n, c)));
        planes.flat_map(move |(n, c)| {
            let plane = if self.vector { n * self.blocks() + c / 4 } else { c / 4 * self.batch + n };
            let start = plane * self.pixels();
            (0..self.pixels()).map(move |pixel| (start + pixel) * 4 + c % 4)
        })
    }

    /// From (N, C, H, W) to the GPU's order; `values` has as many as [`Self::elements`].
    pub fn pack(self, values: &[f32]) -> Vec<f32> {
        let mut packed = vec![0.0; 4 * self.vectors()];
        for (place, value) in self.places().zip(values) {
            packed[place] = *value;
        }
        packed
    }

    /// From the GPU's order to (N, C, H, W).
    pub fn unpack(self, packed: &[f32]) -> Vec<f32> {
        self.places().filter_map(|place| packed.get(place).copied()).collect()
    }
}

/// From (out, in, taps) to (out blocks, in blocks, taps) of 4 x 4 matrices with a column for each input channel.
pub fn pack_weights(weights: &[f32], outputs: usize, inputs: usize, taps: usize) -> Vec<f32> {
    let in_blocks = inputs.div_ceil(4);
    let mut packed = vec![0.0; outputs.div_ceil(4) * in_blocks * taps * 16];
    for (i, value) in weights.iter().enumerate() {
        let (output, input, tap) = (i / (inputs * taps), i / taps % inputs, i % taps);
        let matrix = (output / 4 * in_blocks + input / 4) * taps + tap;
        packed[matrix * 16 + input % 4 * 4 + output % 4] = *value;
    }
    packed
}

/// The kernels of the four phases of y, see conv_common.wgsl: (out, in, 3, 3) to (out, in, 2, 2) for even rows and even
/// columns, even and odd, odd and even, odd and odd.
pub fn phase_weights(weights: &[f32]) -> [Vec<f32>; 4] {
    // Which rows of a 3x3 kernel see the first and the second pixel of x; likewise columns.
    const SEEN: [[&[usize]; 2]; 2] = [[&[0], &[1, 2]], [&[0, 1], &[2]]];
    [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[odd_row, odd_column]| {
        let element = |kernel: &[f32; 9], rows: &[usize], columns: &[usize]| -> f32 {
            rows.iter().flat_map(|row| columns.iter().map(move |column| kernel[row * 3 + column])).sum()
        };
        let of_kernel = |kernel: &[f32; 9]| {
            let row = |rows: &[usize]| SEEN[odd_column].map(|columns| element(kernel, rows, columns));
            SEEN[odd_row].map(row).concat()
        };
        weights.as_chunks().0.iter().flat_map(of_kernel).collect()
    })
}

/// What conv_winograd.wgsl multiplies with: g Gᵀ from both sides of each 3x3 kernel, (out, in, 3, 3) to (out, in, 4, 4).
pub fn winograd_weights(weights: &[f32]) -> Vec<f32> {
    const G: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    let transformed = |kernel: &[f32; 9]| {
        let element = |row: &[f32; 3], column: &[f32; 3]| {
            let product = |i: usize| row[i / 3] * kernel[i] * column[i % 3];
            (0..9).map(product).sum()
        };
        G.iter().flat_map(|row| G.iter().map(move |column| element(row, column))).collect::<Vec<f32>>()
    };
    weights.as_chunks().0.iter().flat_map(transformed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_undoes_packing() {
        let shape = Shape { batch: 2, channels: 5, height: 2, width: 3, vector: false };
        let values: Vec<f32> = (0..shape.elements()).map(|i| i as f32 + 1.0).collect();
        let packed = shape.pack(&values);
        assert_eq!(packed[..8], [1.0, 7.0, 13.0, 19.0, 2.0, 8.0, 14.0, 20.0]);
        assert_eq!(packed[24..28], [31.0, 37.0, 43.0, 49.0]);
        assert_eq!(packed[48..52], [25.0, 0.0, 0.0, 0.0]);
        assert_eq!(shape.unpack(&packed), values);

        let vectors = Shape { height: 1, width: 1, vector: true, ..shape };
        let values: Vec<f32> = (1..=10).map(|i| i as f32).collect();
        let packed = vectors.pack(&values);
        assert_eq!(packed, [1., 2., 3., 4., 5., 0., 0., 0., 6., 7., 8., 9., 10., 0., 0., 0.]);
        assert_eq!(vectors.unpack(&packed), values);
    }

    #[test]
    fn weights_lie_in_columns_by_input() {
        let packed = pack_weights(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3, 1);
        let columns = [[1.0, 4.0, 0.0, 0.0], [2.0, 5.0, 0.0, 0.0], [3.0, 6.0, 0.0, 0.0], [0.0; 4]];
        assert_eq!(packed, columns.concat());
    }

    #[test]
    fn the_kernels_of_phases() {
        let [even, _, odd_even, odd] = phase_weights(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]);
        assert_eq!(even, [1.0, 6.0, 72.0, 432.0]);
        assert_eq!(odd_even, [9.0, 54.0, 64.0, 384.0]);
        assert_eq!(odd, [27.0, 36.0, 192.0, 256.0]);
    }

    #[test]
    fn winograd_weights_of_a_kernel_with_one_tap() {
        // The transform of an outer product is the outer product of the transforms.
        let mut kernel = [0.0; 9];
        kernel[3 + 2] = 8.0;
        let (row, column) = ([0.0, 0.5, -0.5, 0.0], [0.0, 0.5, 0.5, 1.0]);
        let expected: Vec<f32> = row.iter().flat_map(|r| column.map(|c| 8.0 * r * c)).collect();
        assert_eq!(winograd_weights(&kernel), expected);
    }
}
