//! The sub-bands of a 2x2 block of pixels (the two-dimensional Haar wavelet transform).

/// How much the pixels of a block, row by row, weigh in the sub-bands LL, LH, HL, HH. The first letter is the vertical
/// filter, and a high pass is the first pixel minus the second (as in WaveDiff's `DWT_2D`). LL is the mean of the four: all
/// bands are half of those of an orthonormal transform, so that their plain sums, with the same signs, are the pixels.
pub const BANDS: [[f32; 4]; 4] =
    [[0.25, 0.25, 0.25, 0.25], [0.25, -0.25, 0.25, -0.25], [0.25, 0.25, -0.25, -0.25], [0.25, -0.25, -0.25, 0.25]];
