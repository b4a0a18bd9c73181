//! k-means clustering: the codebook that quantisation starts from.

use candle_core::{Device, Result, Tensor};
use lddgan::noise::Stream;
use rayon::prelude::*;

const ITERATIONS: usize = 8;

/// `count` cluster centres of the rows of `points` (n, dim). A cluster that loses all its points takes up a random one.
pub fn centres(points: &Tensor, count: usize, seed: u64) -> Result<Tensor> {
    let (n, dim) = points.dims2()?;
    let points = points.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
    let point = |i: usize| &points[i * dim..(i + 1) * dim];
    let mut stream = Stream::new(seed, 0, "k-means");
    let mut pick = || point(stream.below(n as u32) as usize).to_vec();
    let mut centres: Vec<f32> = (0..count).flat_map(|_| pick()).collect();
    for _ in 0..ITERATIONS {
        let nearest: Vec<usize> = points.par_chunks_exact(dim).map(|point| nearest(point, &centres)).collect();
        let mut sums = vec![0f64; count * dim];
        let mut sizes = vec![0usize; count];
        for (i, &cluster) in nearest.iter().enumerate() {
            sizes[cluster] += 1;
            sums[cluster * dim..].iter_mut().zip(point(i)).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for (cluster, (centre, sum)) in centres.chunks_exact_mut(dim).zip(sums.chunks_exact(dim)).enumerate() {
            match sizes[cluster] {
                0 => centre.copy_from_slice(&pick()),
                size => centre.iter_mut().zip(sum).for_each(|(value, sum)| *value = (sum / size as f64) as f32),
            }
        }
    }
    Tensor::from_vec(centres, (count, dim), &Device::Cpu)
}

fn nearest(point: &[f32], centres: &[f32]) -> usize {
    let distance = |centre: &[f32]| centre.iter().zip(point).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    let distances = centres.chunks_exact(point.len()).map(distance).enumerate();
    distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_clusters_are_found() {
        let points: Vec<f32> = (0..300).flat_map(|i| [(i % 3) as f32 * 10.0 + (i % 7) as f32 * 0.01, 1.0]).collect();
        let points = Tensor::from_vec(points, (300, 2), &Device::Cpu).unwrap();
        // More centres than clusters: random picks may start two in one cluster.
        let centres = centres(&points, 12, 1).unwrap().to_vec2::<f32>().unwrap();
        for expected in [0.03, 10.03, 20.03] {
            assert!(centres.iter().any(|centre| (centre[0] - expected).abs() < 0.05 && centre[1] == 1.0));
        }
    }
}
