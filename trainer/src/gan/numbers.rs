//! What a step tells about itself: losses, norms and logits, computed where the networks are and read later.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use lddgan::{Error, Result};

/// Numbers by their names, in one tensor, so that a GPU is waited for once.
#[derive(Clone)]
pub struct Numbers {
    /// (all of them), f32
    pub values: Tensor,
    /// Each name, and how many numbers it stands for.
    parts: Vec<(&'static str, usize)>,
}

impl Numbers {
    /// Copies of these tensors, of any shapes.
    pub fn of(named: &[(&'static str, &Tensor)]) -> Result<Self> {
        let flat = named.iter().map(|(_, tensor)| Ok(tensor.detach().to_dtype(DType::F32)?.flatten_all()?));
        let parts = named.iter().map(|(name, tensor)| (*name, tensor.elem_count())).collect();
        Ok(Self { values: Tensor::cat(&flat.collect::<Result<Vec<_>>>()?, 0)?, parts })
    }

    /// These and others, of other names.
    pub fn and(&self, others: &Self) -> Result<Self> {
        let parts = self.parts.iter().chain(&others.parts).copied().collect();
        Ok(Self { values: Tensor::cat(&[&self.values, &others.values], 0)?, parts })
    }

    /// The same in memory of their own.
    pub fn copy(&self) -> Result<Self> {
        Ok(Self { values: self.values.copy()?, parts: self.parts.clone() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.values.elem_count()
    }

    /// The numbers of this name, where they were computed.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let mut first = 0;
        for &(part, count) in &self.parts {
            if part == name {
                return Ok(self.values.narrow(0, first, count)?);
            }
            first += count;
        }
        let reason = "is not among the numbers of this step".to_string();
        Err(Error::Config { field: name.to_string(), reason })
    }

    /// `read` are the values of the tensor.
    pub fn named(&self, read: &[f32]) -> Read {
        let mut rest = read;
        let named = self.parts.iter().map(|&(name, count)| {
            let (own, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            (name, own.iter().copied().map(f64::from).collect())
        });
        Read(named.collect())
    }
}

/// Numbers that were read.
pub struct Read(BTreeMap<&'static str, Vec<f64>>);

impl Read {
    /// All numbers of a name; none if there is no such name.
    pub fn all(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The number of a name.
    pub fn one(&self, name: &str) -> Option<f64> {
        self.all(name).first().copied()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn numbers_are_found_by_their_names() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let first = Numbers::of(&[("a", &tensor(&[1.0])), ("b", &tensor(&[2.0, 3.0]))]).unwrap();
        let numbers = first.and(&Numbers::of(&[("c", &tensor(&[4.0]))]).unwrap()).unwrap();
        assert_eq!(numbers.get("b").unwrap().to_vec1::<f32>().unwrap(), [2.0, 3.0]);
        assert!(numbers.get("d").unwrap_err().to_string().contains('d'));
        let read = numbers.named(&numbers.values.to_vec1().unwrap());
        assert_eq!((read.one("a"), read.all("b"), read.one("c")), (Some(1.0), [2.0, 3.0].as_slice(), Some(4.0)));
        assert_eq!((read.one("d"), read.all("d")), (None, [].as_slice()));
    }
}
