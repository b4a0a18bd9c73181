//! Linear maps of the pixels along one side of an image, as matrices (to, from): resizing and smoothing are such a
//! matrix for the rows and one for the columns.

use candle_core::{Device, Result, Tensor};

/// The weights of Burt and Adelson's Gaussian pyramid.
const BINOMIAL: [f64; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];

/// Maps both sides of images (N, C, H, W); `matrix` makes the matrix for a side of the given size.
pub fn apply(images: &Tensor, matrix: impl Fn(usize) -> Result<Tensor>) -> Result<Tensor> {
    let (n, c, h, w) = images.dims4()?;
    let columns = map_last(&images.reshape((n * c, h, w))?, &matrix(w)?)?;
    let both = map_last(&columns.transpose(1, 2)?.contiguous()?, &matrix(h)?)?;
    let (_, w, h) = both.dims3()?;
    both.transpose(1, 2)?.contiguous()?.reshape((n, c, h, w))
}

/// Maps the last dimension of `x` (N, A, B).
fn map_last(x: &Tensor, matrix: &Tensor) -> Result<Tensor> {
    let (n, a, b) = x.dims3()?;
    let matrix = matrix.to_dtype(x.dtype())?.to_device(x.device())?;
    x.reshape((n * a, b))?.matmul(&matrix.t()?)?.reshape((n, a, ()))
}

/// The f64 matrix (to, from) that has the sum of all weights given for (row, column) there.
fn matrix(to: usize, from: usize, entries: impl Iterator<Item = (usize, usize, f64)>) -> Result<Tensor> {
    let mut values = vec![0f64; to * from];
    for (row, column, weight) in entries {
        let Some(value) = values.get_mut(row * from + column) else {
            candle_core::bail!("pixel {column} of {from} for pixel {row} of {to}");
        };
        *value += weight;
    }
    Tensor::from_vec(values, (to, from), &Device::Cpu)
}

/// Bilinear interpolation with half-pixel centres and without antialiasing (PyTorch's `align_corners=False`).
pub fn bilinear(from: usize, to: usize) -> Result<Tensor> {
    let entries = (0..to).flat_map(|row| {
        let position = ((row as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let (first, fraction) = (position.floor() as usize, position.fract());
        let last = from.saturating_sub(1);
        [(row, first.min(last), 1.0 - fraction), (row, (first + 1).min(last), fraction)]
    });
    matrix(to, from, entries)
}

/// Cubic convolution (Keys, a = -1/2) with half-pixel centres, wider where pixels are left out, so that it smooths; at the
/// edges without what lies outside. That is Pillow's `BICUBIC`, PyTorch's `mode="bicubic", antialias=True`.
pub fn bicubic(from: usize, to: usize) -> Result<Tensor> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let entries = (0..to).flat_map(|row| {
        let centre = (row as f64 + 0.5) * scale;
        let weights: Vec<f64> = (0..from).map(|column| cubic((column as f64 + 0.5 - centre) / stretch)).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().enumerate().map(move |(column, weight)| (row, column, weight / sum))
    });
    matrix(to, from, entries)
}

/// Keys's kernel with a = -1/2.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// Each new pixel is the mean of the area that it covers.
pub fn area(from: usize, to: usize) -> Result<Tensor> {
    let size = from as f64 / to as f64;
    let entries = (0..to).flat_map(|row| {
        let (start, end) = (row as f64 * size, (row + 1) as f64 * size);
        (start as usize..(end.ceil() as usize).min(from)).map(move |column| {
            let overlap = end.min((column + 1) as f64) - start.max(column as f64);
            (row, column, overlap / size)
        })
    });
    matrix(to, from, entries)
}

/// A pixel before the first or after the last is its mirror image; the outermost pixel itself is not repeated.
fn mirror(position: isize, size: usize) -> usize {
    let last = size.saturating_sub(1);
    let inside = position.unsigned_abs();
    if inside > last { (2 * last).saturating_sub(inside) } else { inside }
}

/// Smooths and keeps every second pixel: one step down the Gaussian pyramid.
pub fn halve(from: usize) -> Result<Tensor> {
    let to = from.div_ceil(2);
    let taps = |row: usize| (0..).zip(BINOMIAL).map(move |(tap, weight)| (row, 2 * row as isize + tap - 2, weight));
    matrix(to, from, (0..to).flat_map(taps).map(|(row, position, weight)| (row, mirror(position, from), weight)))
}

/// Puts zeros between the pixels and smooths, to `to` pixels: one step back up the pyramid.
pub fn double(to: usize) -> Result<Tensor> {
    let taps = |row: usize| (0..).zip(BINOMIAL).map(move |(tap, weight)| (row, row as isize + tap - 2, weight));
    let entries = (0..to).flat_map(taps).map(|(row, position, weight)| (row, mirror(position, to), 2.0 * weight));
    let pixels = entries.filter(|(_, position, _)| position % 2 == 0);
    matrix(to, to.div_ceil(2), pixels.map(|(row, position, weight)| (row, position / 2, weight)))
}

/// Weighted means of `window` pixels each, where the window lies inside the image.
pub fn windows(from: usize, window: &[f64]) -> Result<Tensor> {
    let Some(to) = (from + 1).checked_sub(window.len()).filter(|&to| to > 0) else {
        candle_core::bail!("a window of {} pixels does not fit into {from}", window.len());
    };
    let taps = |row: usize| window.iter().enumerate().map(move |(tap, &weight)| (row, row + tap, weight));
    matrix(to, from, (0..to).flat_map(taps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(matrix: Result<Tensor>) -> Vec<Vec<f64>> {
        matrix.unwrap().to_vec2().unwrap()
    }

    #[test]
    fn bilinear_weights_are_those_of_half_pixel_centres() {
        // Centres of the new pixels at -0.25, 0.25, 0.75 and 1.25 of the old ones.
        assert_eq!(rows(bilinear(2, 4)), [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]);
        assert_eq!(rows(bilinear(4, 2)), [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]);
    }

    /// By hand: Keys's kernel is 111, 29 and -9 of 128 at 1/4, 3/4 and 5/4.
    #[test]
    fn bicubic_weights_smooth_where_pixels_are_left_out() {
        let close = |found: Vec<Vec<f64>>, expected: &[&[f64]], sum: f64| {
            let expected = expected.iter().flat_map(|row| row.iter().map(|weight| weight / sum));
            let found: Vec<f64> = found.concat();
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}");
        };
        close(rows(bicubic(4, 2)), &[&[111.0, 111.0, 29.0, -9.0], &[-9.0, 29.0, 111.0, 111.0]], 242.0);
        let mut outer = rows(bicubic(2, 4));
        let inner: Vec<_> = outer.drain(1..3).collect();
        close(outer, &[&[111.0, -9.0], &[-9.0, 111.0]], 102.0);
        close(inner, &[&[111.0, 29.0], &[29.0, 111.0]], 140.0);
        assert_eq!(rows(bicubic(2, 2)), [[1.0, 0.0], [0.0, 1.0]]);
    }

    #[test]
    fn area_weights_are_overlaps() {
        let third = 1.0 / 3.0;
        let expected = [[2.0 * third, third, 0.0], [0.0, third, 2.0 * third]];
        for (row, expected) in rows(area(3, 2)).iter().zip(expected) {
            assert!(row.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{row:?}");
        }
    }

    /// As `scipy.ndimage.convolve` with `mode='mirror'` by [1, 4, 6, 4, 1] / 16, written out by hand.
    #[test]
    fn pyramid_steps_mirror_at_the_edges() {
        let sixteenths = |rows: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            rows.into_iter().map(|row| row.into_iter().map(|value| value * 16.0).collect()).collect()
        };
        assert_eq!(sixteenths(rows(halve(4))), [[6.0, 8.0, 2.0, 0.0], [1.0, 4.0, 7.0, 4.0]]);
        assert_eq!(sixteenths(rows(double(4))), [[12.0, 4.0], [8.0, 8.0], [2.0, 14.0], [0.0, 16.0]]);
    }

    #[test]
    fn rows_and_columns_are_mapped_each_by_its_own_matrix() {
        let image = Tensor::new(&[[[[1f32, 2.0, 3.0], [5.0, 6.0, 7.0]]]], &Device::Cpu).unwrap();
        let window = |size: usize| windows(size, &[0.25, 0.75]);
        let found = apply(&image, window).unwrap();
        assert_eq!(found.dims(), [1, 1, 1, 2]);
        // Columns: 1.75, 2.75 and 5.75, 6.75; then rows: 0.25 of the first and 0.75 of the second.
        assert_eq!(found.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [4.75, 5.75]);
    }
}
