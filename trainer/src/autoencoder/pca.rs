//! Principal components of image patches: the linear path that encoder and decoder start from.

use candle_core::{Result, Tensor};
use lddgan::parameters::Parameters;
use nalgebra::{DMatrix, SymmetricEigen};

/// Mean and leading principal components of f x f patches.
pub struct PatchPca {
    mean: Vec<f64>,
    /// Unit vectors, the one of largest variance first.
    components: Vec<Vec<f64>>,
    /// Standard deviation along each component.
    deviations: Vec<f64>,
}

impl PatchPca {
    /// Analyses the `factor` x `factor` patches of `images` (N, C, H, W); keeps `count` components.
    pub fn fit(images: &Tensor, factor: usize, count: usize) -> Result<Self> {
        let (n, c, h, w) = images.dims4()?;
        let dim = c * factor * factor;
        let patches = images.reshape((n, c, h / factor, factor, w / factor, factor))?;
        let patches = patches.permute((0, 2, 4, 1, 3, 5))?.contiguous()?.reshape(((), dim))?;
        let total = patches.dim(0)? as f64;
        let mean = patches.mean_keepdim(0)?;
        let centred = patches.broadcast_sub(&mean)?;
        let covariance = (centred.t()?.matmul(&centred)? / total)?.flatten_all()?.to_vec1::<f32>()?;
        let covariance = DMatrix::from_iterator(dim, dim, covariance.into_iter().map(f64::from));
        let eigen = SymmetricEigen::new(covariance);
        let mut order: Vec<usize> = (0..dim).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        order.truncate(count);
        Ok(Self {
            mean: mean.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect(),
            components: order.iter().map(|&i| eigen.eigenvectors.column(i).iter().copied().collect()).collect(),
            deviations: order.iter().map(|&i| eigen.eigenvalues[i].max(1e-12).sqrt()).collect(),
        })
    }

    /// Sets the linear layers of encoder and decoder. Latent channels are scaled by their standard deviation to the
    /// power of -1/2: half way between equal spread, which the generator would like, and equal effect on the image,
    /// which quantisation would like.
    pub fn set_linear_path(&self, parameters: &Parameters) -> Result<()> {
        let scales: Vec<f64> = self.deviations.iter().map(|deviation| deviation.powf(-0.5)).collect();
        let dot = |component: &[f64]| component.iter().zip(&self.mean).map(|(a, b)| a * b).sum::<f64>();
        let rows = || self.components.iter().zip(&scales);
        let encoder_weight = rows().flat_map(|(component, scale)| component.iter().map(move |value| value * scale));
        let encoder_bias = rows().map(|(component, scale)| -dot(component) * scale);
        let decoder_weight =
            (0..self.mean.len()).flat_map(|pixel| rows().map(move |(component, scale)| component[pixel] / scale));
        let set = |name: &str, values: Vec<f64>| -> Result<()> {
            let Some(var) = parameters.var(name) else { return Ok(()) };
            let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)
        };
        set("encoder.linear.weight", encoder_weight.collect())?;
        set("encoder.linear.bias", encoder_bias.collect())?;
        set("decoder.linear.weight", decoder_weight.collect())?;
        set("decoder.linear.bias", self.mean.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use lddgan::backend::CandleBackend;
    use lddgan::networks::{Decoder, Encoder};
    use lddgan::noise::Stream;

    /// With as many components as patch pixels, encoding and decoding by the linear path alone gives the image back
    /// (the learned paths start close to zero).
    #[test]
    fn a_complete_linear_path_is_the_identity() {
        let config = serde_json::json!({
            "image_channels": 3, "image_size": 8, "latent_channels": 12, "codes": 2, "linear_path": true,
            "encoder": {"channels": 4, "multipliers": [1, 1], "blocks": 1, "groups": 2},
            "decoder": {"channels": 4, "multipliers": [1, 1], "blocks": 1, "groups": 2},
        });
        let config = serde_json::from_value(config).unwrap();
        let parameters = Parameters::new(0, &Device::Cpu);
        let vb = parameters.var_builder();
        let encoder = Encoder::new(vb.pp("encoder"), &config).unwrap();
        let decoder = Decoder::new(vb.pp("decoder"), &config).unwrap();
        let images = Stream::new(0, 0, "images").normals(20 * 3 * 64);
        let images = Tensor::from_vec(images, (20, 3, 8, 8), &Device::Cpu).unwrap();
        PatchPca::fit(&images, 2, 12).unwrap().set_linear_path(&parameters).unwrap();
        let latent = encoder.forward(&mut CandleBackend, &images).unwrap();
        let restored = decoder.forward(&mut CandleBackend, &latent).unwrap();
        let error = (restored - images).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(error < 1e-2, "{error}");
    }
}
