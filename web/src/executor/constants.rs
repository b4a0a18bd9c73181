//! Packs weights and other constants for the GPU, each once however often a graph uses it.

use std::collections::HashMap;

use candle_core::{DType, Tensor, TensorId};
use half::f16;

use super::layout::{NumberType, Shape, pack_weights, winograd_weights};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Image(TensorId),
    Weights(TensorId),
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
    /// Weights as f16 if that changes none of them, as in models that come from files of f16.
    fn weights(values: Vec<f32>) -> Self {
        let half = |&value: &f32| {
            let half = f16::from_f32(value);
            (half.to_f32().to_bits() == value.to_bits()).then(|| half.to_bits())
        };
        match values.iter().map(half).collect() {
            Some(halves) => Self::F16(halves),
            None => Self::F32(values),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F16(bits) => bytemuck::cast_slice(bits),
        }
    }
}

/// The packed constants of a program.
#[derive(Debug, Default)]
pub struct Constants {
    pub packed: Vec<Packed>,
    known: HashMap<Key, usize>,
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

impl Constants {
    /// An image or vectors, or the rows of a codebook.
    pub fn image(&mut self, tensor: &Tensor) -> Result<usize> {
        let pack = || Ok(Packed::F32(Shape::new(tensor.dims())?.pack(&values(tensor)?)));
        self.add(Key::Image(tensor.id()), pack)
    }

    /// The weights of a convolution (out, in, k, k) or of a linear layer (out, in), and their type.
    pub fn weights(&mut self, tensor: &Tensor) -> Result<(usize, NumberType)> {
        let &[outputs, inputs, ref kernel @ ..] = tensor.dims() else {
            return Err(Error::Graph(format!("weights of shape {:?}", tensor.dims())));
        };
        let taps = kernel.iter().product();
        let pack = || Ok(Packed::weights(pack_weights(&values(tensor)?, outputs, inputs, taps)));
        let constant = self.add(Key::Weights(tensor.id()), pack)?;
        Ok((constant, self.number_type(constant)))
    }

    /// The weights of a 3x3 convolution (out, in, 3, 3) as conv_winograd.wgsl needs them, and their type.
    pub fn winograd(&mut self, tensor: &Tensor) -> Result<(usize, NumberType)> {
        let (outputs, inputs, ..) = tensor.dims4()?;
        let pack = || Ok(Packed::weights(pack_weights(&winograd_weights(&values(tensor)?), outputs, inputs, 16)));
        let constant = self.add(Key::Winograd(tensor.id()), pack)?;
        Ok((constant, self.number_type(constant)))
    }

    fn number_type(&self, constant: usize) -> NumberType {
        if matches!(self.packed[constant], Packed::F16(_)) { NumberType::F16 } else { NumberType::F32 }
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
        self.packed.push(pack()?);
        let constant = self.packed.len() - 1;
        self.known.insert(key, constant);
        Ok(constant)
    }
}
