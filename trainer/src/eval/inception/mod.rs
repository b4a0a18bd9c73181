//! The Inception network that FID is defined by: TensorFlow's of 2015 in the port of pytorch-fid, up to the 2048
//! features of its last pool ("pool3"). Weights are not shipped; the usual file is `pt_inception-2015-12-05-6726825d.pth`.

mod block;
mod mixed;

use std::path::Path;

use candle_core::{Device, Module, Result, Tensor};
use lddgan::parameters::{TensorMap, Weights};

use super::{EvalError, resample, weights};
use block::{Conv, Mixed, Pool};

/// Side of the images that the network was made for.
const INPUT: usize = 299;

/// The network, without its classifier.
pub struct Inception {
    /// Convolutions before the first and the second pool.
    stem: [Vec<Conv>; 2],
    /// Mixed_5b to Mixed_6e, and Mixed_7a to Mixed_7c.
    mixed: [Vec<Mixed>; 2],
}

impl Inception {
    /// From the bytes of a PyTorch checkpoint or a safetensors file (told apart by the name `path`) that holds the
    /// state dictionary.
    pub fn from_bytes(bytes: Vec<u8>, path: &Path, device: &Device) -> std::result::Result<Self, EvalError> {
        let tensors = weights::read(bytes, path, plays_part)?;
        Ok(Self::new(tensors, &path.display().to_string(), device)?)
    }

    /// From the tensors of the state dictionary; `file` is their origin in errors, which list every tensor that does
    /// not fit.
    pub fn new(tensors: TensorMap, file: &str, device: &Device) -> lddgan::Result<Self> {
        let weights = Weights::new(tensors.into_iter().filter(|(name, _)| plays_part(name)).collect());
        let vb = weights.var_builder(device);
        let conv = |name: &str, inputs, outputs, kernel| Conv::new(vb.pp(name), inputs, outputs, (kernel, kernel));
        let first = vec![
            conv("Conv2d_1a_3x3", 3, 32, 3)?.valid(2),
            conv("Conv2d_2a_3x3", 32, 32, 3)?.valid(1),
            conv("Conv2d_2b_3x3", 32, 64, 3)?,
        ];
        let second = vec![conv("Conv2d_3b_1x1", 64, 80, 1)?, conv("Conv2d_4a_3x3", 80, 192, 3)?.valid(1)];
        let middle = vec![
            mixed::mixed_5(vb.pp("Mixed_5b"), 192, 32)?,
            mixed::mixed_5(vb.pp("Mixed_5c"), 256, 64)?,
            mixed::mixed_5(vb.pp("Mixed_5d"), 288, 64)?,
            mixed::mixed_6a(vb.pp("Mixed_6a"), 288)?,
            mixed::mixed_6(vb.pp("Mixed_6b"), 768, 128)?,
            mixed::mixed_6(vb.pp("Mixed_6c"), 768, 160)?,
            mixed::mixed_6(vb.pp("Mixed_6d"), 768, 160)?,
            mixed::mixed_6(vb.pp("Mixed_6e"), 768, 192)?,
        ];
        let last = vec![
            mixed::mixed_7a(vb.pp("Mixed_7a"), 768)?,
            mixed::mixed_7(vb.pp("Mixed_7b"), 1280, Pool::Average)?,
            mixed::mixed_7(vb.pp("Mixed_7c"), 2048, Pool::Max)?,
        ];
        weights.finish(file)?;
        Ok(Self { stem: [first, second], mixed: [middle, last] })
    }

    /// The features of images (N, 3, H, W) in \[-1, 1\]: (N, 2048).
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        let [.., last] = self.blocks(&resize(images)?)?;
        last.flatten_from(2)?.mean(2)
    }

    /// What comes out of each of pytorch-fid's four blocks, for resized images.
    pub fn blocks(&self, images: &Tensor) -> Result<[Tensor; 4]> {
        let first = Pool::Halving.forward(&chain(&self.stem[0], images)?)?;
        let second = Pool::Halving.forward(&chain(&self.stem[1], &first)?)?;
        let third = chain(&self.mixed[0], &second)?;
        let fourth = chain(&self.mixed[1], &third)?;
        Ok([first, second, third, fourth])
    }
}

/// Images in the size of the network's input.
pub fn resize(images: &Tensor) -> Result<Tensor> {
    resample::apply(images, |from| resample::bilinear(from, INPUT))
}

fn chain(layers: &[impl Module], x: &Tensor) -> Result<Tensor> {
    layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x))
}

/// Whether a tensor of the state dictionary matters for the features.
fn plays_part(name: &str) -> bool {
    !(name.starts_with("fc.") || name.starts_with("AuxLogits.") || name.ends_with(".num_batches_tracked"))
}
