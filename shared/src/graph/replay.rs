//! A recorded operation, computed by a backend.

use super::Op;
use crate::backend::Backend;
use crate::error::{Error, Result};

impl Op {
    /// What a backend makes of the operation; none for an input of the graph.
    pub fn apply<B: Backend>(&self, b: &mut B, inputs: &[&B::Value]) -> Result<Option<B::Value>> {
        let value = match self {
            Self::Input(_) => return Ok(None),
            Self::Constant(tensor) => b.constant(tensor)?,
            Self::Conv2d(conv) => b.conv2d(self.one(inputs)?, conv)?,
            Self::Linear(linear, activation) => b.linear(self.one(inputs)?, linear, *activation)?,
            Self::GroupNorm(norm, activation) => b.group_norm(self.one(inputs)?, norm, *activation)?,
            Self::AdaptiveGroupNorm { groups, activation } => {
                let [x, style] = self.take(inputs)?;
                b.adaptive_group_norm(x, style, *groups, *activation)?
            }
            Self::Activate(activation) => b.activate(self.one(inputs)?, *activation)?,
            Self::PixelNorm => b.pixel_norm(self.one(inputs)?)?,
            Self::Fir(mode) => b.fir(self.one(inputs)?, *mode)?,
            Self::UpsampleNearest(factor) => b.upsample_nearest(self.one(inputs)?, *factor)?,
            Self::DepthToSpace(factor) => b.depth_to_space(self.one(inputs)?, *factor)?,
            Self::Pool(weights) => b.pool(self.one(inputs)?, *weights)?,
            Self::InverseHaar => b.inverse_haar(*self.take(inputs)?)?,
            Self::Concat => {
                let [x, y] = self.take(inputs)?;
                b.concat(x, y)?
            }
            Self::AddPerChannel => {
                let [x, bias] = self.take(inputs)?;
                b.add_per_channel(x, bias)?
            }
            Self::Multiply => {
                let [x, y] = self.take(inputs)?;
                b.multiply(x, y)?
            }
            Self::WeightedSum(factors) => {
                if factors.len() != inputs.len() {
                    let reason = format!("{} factors for {} inputs", factors.len(), inputs.len());
                    return Err(Error::shape(self.name(), reason));
                }
                let terms: Vec<_> = factors.iter().copied().zip(inputs.iter().copied()).collect();
                b.weighted_sum(&terms)?
            }
            Self::Attention => {
                let [q, k, v] = self.take(inputs)?;
                b.attention(q, k, v)?
            }
            Self::Quantize(codebook) => b.quantize(self.one(inputs)?, codebook)?,
            Self::MinibatchStddev => b.minibatch_stddev(self.one(inputs)?)?,
            Self::SumPixels => b.sum_pixels(self.one(inputs)?)?,
        };
        Ok(Some(value))
    }

    fn one<'a, V>(&self, inputs: &[&'a V]) -> Result<&'a V> {
        let [x] = self.take(inputs)?;
        Ok(x)
    }
}
