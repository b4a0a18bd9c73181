//! The directions in which rows of numbers vary most.

use candle_core::{DType, Device, Result, Tensor};
use lddgan::noise::Stream;
use nalgebra::{DMatrix, SymmetricEigen};

/// Directions that are iterated beside those that are wanted, so that these converge, and how often.
const SPARE: usize = 64;
const ITERATIONS: usize = 5;
/// Directions with less of the variance than this, relative to the first one, are rounding errors.
const RESOLUTION: f64 = 1e-6;

/// The axes of the ellipsoid that rows describe.
pub struct Axes {
    /// (D, K), orthonormal, the longest first, those without length left out.
    pub directions: Tensor,
    /// (K), roots of the sums of squares along them.
    pub lengths: Vec<f64>,
}

impl Axes {
    /// The `count` longest axes of centred `rows` (N, D) in f32, or as many as there are; directions in f32. By subspace
    /// iteration (Halko, Martinsson and Tropp, arXiv 0909.4061) from directions that are always the same.
    pub fn longest(rows: &Tensor, count: usize) -> Result<Self> {
        let (size, block) = (rows.dim(1)?, count + SPARE);
        let start = Stream::new(0, 0, "principal components").normals(size * block);
        let mut directions = Tensor::from_vec(start, (size, block), &Device::Cpu)?;
        for _ in 0..ITERATIONS {
            let stretched = rows.t()?.matmul(&rows.matmul(&directions)?)?.to_dtype(DType::F64)?;
            let axes = Self::of(&stretched)?;
            let lengths = Tensor::from_vec(axes.lengths, (1, ()), &Device::Cpu)?;
            directions = stretched.matmul(&axes.directions.broadcast_div(&lengths)?)?.to_dtype(DType::F32)?;
        }
        let Self { directions: within, mut lengths } = Self::of(&rows.matmul(&directions)?.to_dtype(DType::F64)?)?;
        lengths.truncate(count);
        let within = within.narrow(1, 0, lengths.len())?.to_dtype(DType::F32)?;
        Ok(Self { directions: directions.matmul(&within)?, lengths })
    }

    /// All axes of `rows` (N, D) in f64, which are not centred here.
    fn of(rows: &Tensor) -> Result<Self> {
        let size = rows.dim(1)?;
        let products = rows.t()?.matmul(rows)?.flatten_all()?.to_vec1::<f64>()?;
        let eigen = SymmetricEigen::try_new(DMatrix::from_vec(size, size, products), f64::EPSILON, 1000 * size);
        let Some(eigen) = eigen else { candle_core::bail!("principal directions cannot be found") };
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let mut lengths: Vec<f64> = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0).sqrt()).collect();
        let longest = lengths.first().copied().unwrap_or_default();
        lengths.truncate(lengths.iter().take_while(|&&length| length > RESOLUTION * longest).count());
        if lengths.is_empty() {
            candle_core::bail!("they are all the same");
        }
        let columns = order[..lengths.len()].iter().flat_map(|&i| eigen.eigenvectors.column(i).data.into_slice());
        let columns = Tensor::from_vec(columns.copied().collect::<Vec<_>>(), (lengths.len(), size), &Device::Cpu)?;
        Ok(Self { directions: columns.t()?.contiguous()?, lengths })
    }
}
