//! LPIPS (Zhang et al. 2018): the distance of two images in the features of a trained VGG-16. Weights are not shipped;
//! the usual files are torchvision's `vgg16-397923af.pth` and, from the authors' repository, `weights/v0.1/vgg.pth`.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use lddgan::backend::{Backend, CandleBackend};
use lddgan::layers::{Conv2d, ConvGeometry};
use lddgan::parameters::{TensorMap, Weights};

use super::{EvalError, weights};
use crate::files;

/// Widths of the convolutions between two poolings.
const STAGES: [&[usize]; 5] = [&[64, 64], &[128, 128], &[256, 256, 256], &[512, 512, 512], &[512, 512, 512]];
/// What VGG expects, from images in \[-1, 1\]: these are subtracted, then divided by.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// The network.
pub struct Lpips {
    shift: Tensor,
    scale: Tensor,
    stages: Vec<Stage>,
}

/// Convolutions at one resolution, and the weight of each of their features.
struct Stage {
    convolutions: Vec<Conv2d>,
    weights: Conv2d,
}

fn plays_part(name: &str) -> bool {
    name.starts_with("features.") || (name.starts_with("lin") && !name.contains("lins"))
}

fn conv(vb: VarBuilder, inputs: usize, outputs: usize) -> candle_core::Result<Conv2d> {
    let (weight, bias) = (vb.get((outputs, inputs, 3, 3), "weight")?, vb.get(outputs, "bias")?);
    Ok(Conv2d { weight, bias: Some(bias), geometry: ConvGeometry::same(3) })
}

impl Lpips {
    /// From PyTorch or safetensors files, which together hold the tensors of both.
    pub fn load(paths: &[PathBuf], device: &Device) -> Result<Self, EvalError> {
        let mut tensors = TensorMap::new();
        for path in paths {
            tensors.extend(weights::read(files::read(path)?, path, plays_part)?);
        }
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        Ok(Self::new(tensors, &names.join(", "), device)?)
    }

    /// From tensors named `features.<n>.weight`, `features.<n>.bias` and `lin<k>.model.1.weight`; `file` is their origin
    /// in errors, which list every tensor that does not fit.
    pub fn new(tensors: TensorMap, file: &str, device: &Device) -> lddgan::Result<Self> {
        let weights = Weights::new(tensors);
        let vb = weights.var_builder(device);
        let (mut layer, mut channels) = (0, 3);
        let mut stages = Vec::new();
        for (k, widths) in STAGES.iter().enumerate() {
            let mut convolutions = Vec::new();
            for &width in *widths {
                convolutions.push(conv(vb.pp("features").pp(layer), channels, width)?);
                channels = width;
                // The activation has a number, too.
                layer += 2;
            }
            // And so has the pooling.
            layer += 1;
            let weight = vb.get((1, channels, 1, 1), &format!("lin{k}.model.1.weight"))?;
            let weights = Conv2d { weight, bias: None, geometry: ConvGeometry::same(1) };
            stages.push(Stage { convolutions, weights });
        }
        weights.finish(file)?;
        let constant = |values: &[f32; 3]| Tensor::new(values, device)?.reshape((1, 3, 1, 1));
        Ok(Self { shift: constant(&SHIFT)?, scale: constant(&SCALE)?, stages })
    }

    /// The distance of each pair of images (N, 3, H, W) in \[-1, 1\], (N); differentiable. Sides are at least 16.
    pub fn distances(&self, a: &Tensor, b: &Tensor) -> lddgan::Result<Tensor> {
        let normalise = |x: &Tensor| x.broadcast_sub(&self.shift)?.broadcast_div(&self.scale);
        let (mut a, mut b) = (normalise(a)?, normalise(b)?);
        let mut sum: Option<Tensor> = None;
        for (k, stage) in self.stages.iter().enumerate() {
            if k > 0 {
                (a, b) = (max_pool(&a)?, max_pool(&b)?);
            }
            (a, b) = (stage.features(a)?, stage.features(b)?);
            let difference = (unit(&a)? - unit(&b)?)?.sqr()?;
            let distance = CandleBackend.conv2d(&difference, &stage.weights)?.flatten_from(1)?.mean(1)?;
            sum = Some(match sum {
                Some(sum) => (sum + distance)?,
                None => distance,
            });
        }
        sum.ok_or_else(|| lddgan::Error::Shape { op: "lpips", reason: "there are no stages".to_string() })
    }
}

impl Stage {
    fn features(&self, mut x: Tensor) -> lddgan::Result<Tensor> {
        for conv in &self.convolutions {
            x = CandleBackend.conv2d(&x, conv)?.relu()?;
        }
        Ok(x)
    }
}

/// The largest of each 2x2 pixels; an odd last row or column is left out. (The derivative of Candle's own is wrong where
/// several are the largest.)
fn max_pool(x: &Tensor) -> candle_core::Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let even = x.narrow(2, 0, h / 2 * 2)?.narrow(3, 0, w / 2 * 2)?.contiguous()?;
    even.reshape((n, c, h / 2, 2, w / 2, 2))?.max(5)?.max(3)
}

/// Each position's features scaled to length one. Where all are zero, so is the gradient.
pub(crate) fn unit(x: &Tensor) -> candle_core::Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-20)?.sqrt()?)
}
