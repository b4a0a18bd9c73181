//! A discriminator that sees images as a frozen network does (projected GAN, Sauer et al. 2021): the features of each stride, in a
//! random projection that stays as it is, have a small network of their own to judge them.

use candle_core::{Device, Tensor};
use lddgan::Result;
use lddgan::backend::{Activation, Backend, CandleBackend};
use lddgan::layers::{Conv2d, ConvGeometry, WeightInit};
use lddgan::noise::Stream;
use lddgan::parameters::{Parameters, TensorMap};

/// What features are projected to, and what heads compute with.
const CHANNELS: usize = 64;
/// Steps of power iteration that a spectral norm starts with; each training step adds one.
const FIRST_ITERATIONS: usize = 15;

/// Judges features.
pub struct ProjectedDiscriminator {
    /// For each stride.
    projections: Vec<Conv2d>,
    heads: Vec<[SpectralConv; 2]>,
}

/// Whether verdicts have gradients in the discriminator's own parameters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    Yes,
    No,
}

impl ProjectedDiscriminator {
    /// For features with so many channels at each stride. Projections depend on the seed, and `parameters` get the heads' weights
    /// under the name `projected`.
    pub fn new(parameters: &Parameters, seed: u64, channels: &[usize]) -> Result<Self> {
        let device = parameters.device();
        let halve = ConvGeometry { kernel: 4, stride: 2, pad_before: 1, pad_after: 1 };
        let head = |stride: usize| -> Result<_> {
            let vb = parameters.var_builder().pp("projected").pp(stride);
            let conv = |name: &str, outputs, geometry| -> Result<_> {
                let conv = Conv2d::new(vb.pp(name), CHANNELS, outputs, geometry, WeightInit::average(1.0))?;
                SpectralConv::new(conv, &mut Stream::new(seed, stride as u64, name))
            };
            Ok([conv("conv_in", CHANNELS, halve)?, conv("conv_out", 1, ConvGeometry::same(3))?])
        };
        Ok(Self {
            heads: (0..channels.len()).map(head).collect::<Result<_>>()?,
            projections: (0..)
                .zip(channels)
                .map(|(i, &channels)| projection(seed, i, channels, device))
                .collect::<Result<_>>()?,
        })
    }

    /// Logits (N, 1, h, w) of features of each stride.
    pub fn judge(&self, features: &[Tensor], learning: Learning) -> Result<Vec<Tensor>> {
        let judge = |((features, projection), [conv_in, conv_out]): ((&Tensor, &Conv2d), &[SpectralConv; 2])| {
            let b = &mut CandleBackend;
            let h = b.conv2d(features, projection)?;
            let h = b.conv2d(&h, &conv_in.normalised(learning)?)?;
            let h = b.activate(&h, Activation::LeakyRelu)?;
            b.conv2d(&h, &conv_out.normalised(learning)?)
        };
        features.iter().zip(&self.projections).zip(&self.heads).map(judge).collect()
    }

    /// Follows the spectral norms of weights that have changed.
    pub fn follow(&mut self) -> Result<()> {
        self.heads.iter_mut().flatten().try_for_each(SpectralConv::iterate)
    }

    /// What is needed beside the parameters to go on.
    pub fn state(&self) -> TensorMap {
        let convs = self.heads.iter().flatten().enumerate();
        convs.map(|(i, conv)| (i.to_string(), conv.direction.clone())).collect()
    }

    /// Takes up a state; tensors that it has not stay as they are.
    pub fn load(&mut self, state: &TensorMap) -> Result<()> {
        for (i, conv) in self.heads.iter_mut().flatten().enumerate() {
            if let Some(direction) = state.get(&i.to_string()).filter(|saved| saved.dims() == conv.direction.dims()) {
                conv.direction = direction.to_device(conv.direction.device())?;
            }
        }
        Ok(())
    }
}

/// Keeps the size of features on average.
fn projection(seed: u64, stride: u64, channels: usize, device: &Device) -> Result<Conv2d> {
    let values = Stream::new(seed, stride, "projection").normals(CHANNELS * channels);
    let weight = (Tensor::from_vec(values, (CHANNELS, channels, 1, 1), device)? / (channels as f64).sqrt())?;
    Ok(Conv2d { weight, bias: None, geometry: ConvGeometry::same(1) })
}

/// A convolution whose weights are divided by their largest singular value, which is followed by power iteration (Miyato et al. 2018).
struct SpectralConv {
    conv: Conv2d,
    /// The left singular vector, (out).
    direction: Tensor,
}

impl SpectralConv {
    fn new(conv: Conv2d, stream: &mut Stream) -> Result<Self> {
        let outputs = conv.weight.dim(0)?;
        let direction = Tensor::from_vec(stream.normals(outputs), outputs, conv.weight.device())?;
        let mut conv = Self { conv, direction };
        for _ in 0..FIRST_ITERATIONS {
            conv.iterate()?;
        }
        Ok(conv)
    }

    /// The weights as a matrix, and the right singular vector.
    fn right(&self) -> Result<(Tensor, Tensor)> {
        let matrix = self.conv.weight.detach().flatten_from(1)?;
        let right = self.direction.unsqueeze(0)?.matmul(&matrix)?;
        Ok((matrix, of_length_one(&right)?))
    }

    fn iterate(&mut self) -> Result<()> {
        let (matrix, right) = self.right()?;
        // In place: a GPU's recording finds it there.
        Ok(self.direction.slice_set(&of_length_one(&matrix.matmul(&right.t()?)?)?.squeeze(1)?, 0, 0)?)
    }

    fn normalised(&self, learning: Learning) -> Result<Conv2d> {
        let (_, right) = self.right()?;
        let (weight, bias) = match learning {
            Learning::Yes => (self.conv.weight.clone(), self.conv.bias.clone()),
            Learning::No => (self.conv.weight.detach(), self.conv.bias.as_ref().map(Tensor::detach)),
        };
        let norm = weight.flatten_from(1)?.matmul(&right.t()?)?.squeeze(1)?;
        let norm = (norm * &self.direction)?.sum_all()?;
        Ok(Conv2d { weight: weight.broadcast_div(&norm)?, bias, geometry: self.conv.geometry })
    }
}

fn of_length_one(vector: &Tensor) -> Result<Tensor> {
    Ok(vector.broadcast_div(&(vector.sqr()?.sum_all()? + 1e-20)?.sqrt()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(outputs: usize) -> (Parameters, SpectralConv) {
        let parameters = Parameters::new(7, &Device::Cpu);
        let vb = parameters.var_builder();
        let conv = Conv2d::new(vb, 5, outputs, ConvGeometry::same(3), WeightInit::average(3.0)).unwrap();
        let conv = SpectralConv::new(conv, &mut Stream::new(0, 0, "direction")).unwrap();
        (parameters, conv)
    }

    /// The largest singular value is 1 after enough iterations, by a library's decomposition.
    #[test]
    fn the_largest_singular_value_is_one() {
        for outputs in [1, 12] {
            let (_, mut conv) = conv(outputs);
            for _ in 0..200 {
                conv.iterate().unwrap();
            }
            let weight = conv.normalised(Learning::No).unwrap().weight.flatten_from(1).unwrap();
            let rows = weight.to_vec2::<f32>().unwrap();
            let matrix = nalgebra::DMatrix::from_fn(outputs, rows[0].len(), |i, j| f64::from(rows[i][j]));
            let largest = matrix.singular_values()[0];
            assert!((largest - 1.0).abs() < 1e-4, "{outputs}: {largest}");
        }
    }

    /// Only where it learns do its parameters get gradients.
    #[test]
    fn it_learns_only_when_it_is_to() {
        let (parameters, conv) = conv(4);
        let image = Tensor::ones((1, 5, 4, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let weight = parameters.var("weight").unwrap();
        for (learning, learns) in [(Learning::Yes, true), (Learning::No, false)] {
            let y = CandleBackend.conv2d(&image, &conv.normalised(learning).unwrap()).unwrap();
            let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            assert_eq!(gradients.get(&weight).is_some(), learns);
        }
    }
}
