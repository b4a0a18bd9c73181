//! Packs weights and other constants for the GPU, each once however often a graph, or several of one model, use it.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Tensor, TensorId};
use half::f16;
use lddgan::graph::SharedConstants;

use super::layout::{Dtype, Shape, pack_weights, phase_weights, winograd_weights};
use super::region::Region;
use crate::error::{Error, Result};

/// What tells a constant from others; of some, with the type of the images that they are multiplied with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Image(TensorId),
    Weights(TensorId, Dtype),
    Phases(TensorId, Dtype),
    Winograd(TensorId),
    Style(TensorId, TensorId),
    Bias(Option<TensorId>, Option<TensorId>, usize),
}

/// A constant as it lies in the GPU's memory.
#[derive(Debug)]
pub enum Packed {
    F32(Vec<f32>),
    /// The bits of f16 numbers.
    F16(Vec<u16>),
}

impl Packed {
    fn f16(values: &[f32]) -> Self {
        Self::F16(values.iter().map(|&value| f16::from_f32(value).to_bits()).collect())
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F16(bits) => bytemuck::cast_slice(bits),
        }
    }

    pub fn numbers(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
        }
    }
}

/// A constant in a device's memory.
#[derive(Debug)]
pub struct Uploaded {
    pub region: Region,
    pub numbers: Dtype,
    /// Whose memory it is, together with others.
    pub _owner: Arc<ConstantBuffer>,
}

/// A buffer of constants.
#[derive(Debug)]
pub struct ConstantBuffer(pub wgpu::Buffer);

impl Drop for ConstantBuffer {
    /// A browser would keep the memory until it collects its garbage.
    fn drop(&mut self) {
        self.0.destroy();
    }
}

/// The constants that executors of a device have.
pub type Shared = SharedConstants<Key, Uploaded>;

/// A constant of a program.
#[derive(Debug)]
pub enum Constant {
    /// To be uploaded, and to be known by the key from then on.
    Packed(Key, Packed),
    /// Other executors have it.
    Uploaded(Arc<Uploaded>),
}

impl Constant {
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Packed(_, packed) => packed.bytes().len() as u64,
            Self::Uploaded(uploaded) => uploaded.region.bytes,
        }
    }

    fn numbers(&self) -> Dtype {
        match self {
            Self::Packed(_, packed) => packed.numbers(),
            Self::Uploaded(uploaded) => uploaded.numbers,
        }
    }
}

/// The constants of a program.
#[derive(Debug)]
pub struct Constants<'a> {
    pub constants: Vec<Constant>,
    /// Where the program has them.
    known: HashMap<Key, usize>,
    shared: &'a mut Shared,
    /// The type of the images that weights are multiplied with.
    images: Dtype,
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Whether f16 holds all of these numbers, as it does those of models that come from files of f16.
fn are_f16(values: &[f32]) -> bool {
    values.iter().all(|value| f16::from_f32(*value).to_f32().to_bits() == value.to_bits())
}

impl<'a> Constants<'a> {
    pub fn new(images: Dtype, shared: &'a mut Shared) -> Self {
        shared.clean();
        Self { constants: Vec::new(), known: HashMap::new(), shared, images }
    }

    /// Tensors one behind the other.
    pub fn joined(&mut self, tensors: &[&Tensor]) -> Result<Tensor> {
        Ok(self.shared.joined(tensors)?)
    }

    /// An image or vectors, or the rows of a codebook.
    pub fn image(&mut self, tensor: &Tensor) -> Result<usize> {
        let pack = || Ok(Packed::F32(Shape::new(tensor.dims())?.pack(&values(tensor)?)));
        self.add(Key::Image(tensor.id()), pack)
    }

    /// The weights of a convolution (out, in, k, k) or of a linear layer (out, in), and their type.
    pub fn weights(&mut self, tensor: &Tensor) -> Result<(usize, Dtype)> {
        let &[outputs, inputs, ref kernel @ ..] = tensor.dims() else {
            return Err(Error::Graph(format!("weights of shape {:?}", tensor.dims())));
        };
        let taps = kernel.iter().product();
        let images = self.images;
        let constant = self.add(Key::Weights(tensor.id(), images), || {
            let packed = pack_weights(&values(tensor)?, outputs, inputs, taps);
            let half = images == Dtype::F16 || are_f16(&packed);
            Ok(if half { Packed::f16(&packed) } else { Packed::F32(packed) })
        })?;
        Ok((constant, self.dtype_of(constant)))
    }

    /// The weights of the phases of a 3x3 convolution (out, in, 3, 3) of an image that is upsampled by two, see
    /// conv_common.wgsl, and their type. As sums of others they need more bits than f16 has.
    pub fn phases(&mut self, tensor: &Tensor) -> Result<(usize, Dtype)> {
        let (outputs, inputs, ..) = tensor.dims4()?;
        let images = self.images;
        let constant = self.add(Key::Phases(tensor.id(), images), || {
            let phases = phase_weights(&values(tensor)?);
            let packed: Vec<f32> = phases.iter().flat_map(|phase| pack_weights(phase, outputs, inputs, 4)).collect();
            Ok(if images == Dtype::F16 { Packed::f16(&packed) } else { Packed::F32(packed) })
        })?;
        Ok((constant, self.dtype_of(constant)))
    }

    /// The weights of a 3x3 convolution (out, in, 3, 3) as conv_winograd.wgsl needs them, and their type: f32, in which
    /// it computes.
    pub fn winograd(&mut self, tensor: &Tensor) -> Result<(usize, Dtype)> {
        let (outputs, inputs, ..) = tensor.dims4()?;
        let pack = || Ok(Packed::F32(pack_weights(&winograd_weights(&values(tensor)?), outputs, inputs, 16)));
        Ok((self.add(Key::Winograd(tensor.id()), pack)?, Dtype::F32))
    }

    fn dtype_of(&self, constant: usize) -> Dtype {
        self.constants[constant].numbers()
    }

    /// The scales of a norm, then its shifts.
    pub fn style(&mut self, scale: &Tensor, shift: &Tensor) -> Result<usize> {
        let pack = || Ok(Packed::F32([values(scale)?, values(shift)?].concat()));
        self.add(Key::Style(scale.id(), shift.id()), pack)
    }

    /// The sum of a bias (C) and one for each sample (N, C); zeros if there is neither.
    pub fn bias(&mut self, bias: Option<&Tensor>, sample_bias: Option<&Tensor>, channels: usize) -> Result<usize> {
        let key = Key::Bias(bias.map(Tensor::id), sample_bias.map(Tensor::id), channels);
        self.add(key, || {
            let sum = match (bias, sample_bias) {
                (Some(bias), Some(sample_bias)) => sample_bias.broadcast_add(bias)?,
                (Some(bias), None) => bias.unsqueeze(0)?,
                (None, Some(sample_bias)) => sample_bias.clone(),
                (None, None) => return Ok(Packed::F32(vec![0.0; channels.next_multiple_of(4)])),
            };
            Ok(Packed::F32(Shape::new(sum.dims())?.pack(&values(&sum)?)))
        })
    }

    fn add(&mut self, key: Key, pack: impl FnOnce() -> Result<Packed>) -> Result<usize> {
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        self.constants.push(match self.shared.get(&key) {
            Some(uploaded) => Constant::Uploaded(uploaded),
            None => Constant::Packed(key.clone(), pack()?),
        });
        let constant = self.constants.len() - 1;
        self.known.insert(key, constant);
        Ok(constant)
    }
}
