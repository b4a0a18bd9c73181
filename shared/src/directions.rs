//! The directions that images can be moved along, see [`Shifts`].

use std::collections::BTreeMap;

use candle_core::{DType, Device};

use crate::error::{Error, Result};
use crate::parameters::TensorMap;
use crate::recipe::Shifts;

/// What the names of their tensors begin with in a model file.
pub const PREFIX: &str = "directions.";

/// Directions in the random numbers of a model, the first one the strongest.
#[derive(Debug, Clone, PartialEq)]
pub struct Directions {
    count: usize,
    parts: BTreeMap<String, Part>,
}

/// What the directions change in the numbers of one draw.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    /// Each has a value of its own there.
    Values,
    /// Unit vectors, or what of them falls into this draw, one after the other.
    Vectors(Vec<f32>),
}

impl Directions {
    /// Those of a generator that starts from the normal distribution of the data ([`crate::networks::Gaussian`]): value k
    /// of the draw `z` belongs to principal mode k.
    pub(crate) fn modes(count: usize, z: &str) -> Self {
        Self { count, parts: [(z.to_string(), Part::Values)].into() }
    }

    /// Those that a file holds in tensors `directions.<draw>` of shape (K, …), where the draws of one image have the names
    /// and shapes of `draws`. None for none. `file` is for errors.
    pub(crate) fn read(tensors: &TensorMap, draws: &BTreeMap<String, Vec<usize>>, file: &str) -> Result<Self> {
        let fail = |name: &str, reason: String| Error::ModelFile {
            file: file.to_string(),
            reason: format!("tensor {PREFIX}{name} {reason}"),
        };
        let mut read = Self { count: 0, parts: BTreeMap::new() };
        for (name, tensor) in tensors {
            let Some(name) = name.strip_prefix(PREFIX) else { continue };
            let shape = draws.get(name).ok_or_else(|| fail(name, "names no random input of the model".into()))?;
            let dims = tensor.dims();
            if dims.len() != shape.len() + 1 || dims[1..] != shape[..] || dims[0] == 0 {
                return Err(fail(name, format!("has the shape {dims:?}, needs directions of the shape {shape:?}")));
            }
            if read.count != 0 && read.count != dims[0] {
                return Err(fail(name, format!("has {} directions, others have {}", dims[0], read.count)));
            }
            let vectors = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            read.count = dims[0];
            read.parts.insert(name.to_string(), Part::Vectors(vectors));
        }
        Ok(read)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Moves the numbers of one draw of one image.
    pub(crate) fn apply(&self, draw: &str, shifts: &Shifts, values: &mut [f32]) {
        let Some(part) = self.parts.get(draw) else { return };
        for (direction, amount) in shifts.iter().filter(|(direction, _)| *direction < self.count) {
            match part {
                Part::Values => values.iter_mut().skip(direction).take(1).for_each(|value| *value += amount),
                Part::Vectors(vectors) => {
                    let vector = &vectors[direction * values.len()..][..values.len()];
                    values.iter_mut().zip(vector).for_each(|(value, part)| *value += amount * part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;

    fn shifts(amounts: &[(usize, f32)]) -> Shifts {
        let mut shifts = Shifts::default();
        amounts.iter().for_each(|&(direction, amount)| shifts.set(direction, amount).unwrap());
        shifts
    }

    #[test]
    fn values_of_z_are_moved() {
        let modes = Directions::modes(4, "z/3");
        let mut z = [1.0; 4];
        modes.apply("z/3", &shifts(&[(3, -2.0), (0, 1.5), (200, 1.0)]), &mut z);
        assert_eq!(z, [2.5, 1.0, 1.0, -1.0]);
        modes.apply("z/2", &shifts(&[(3, 1.0)]), &mut z);
        assert_eq!(z, [2.5, 1.0, 1.0, -1.0]);
    }

    #[test]
    fn numbers_of_several_draws_are_moved_along_vectors() {
        let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let draws = BTreeMap::from([("x".to_string(), vec![1, 2]), ("z/1".to_string(), vec![1])]);
        let x = ("directions.x".to_string(), tensor(&[0.6, 0.0, 0.0, 1.0], &[2, 1, 2]));
        let z = ("directions.z/1".to_string(), tensor(&[0.8, 0.0], &[2, 1]));
        let all = TensorMap::from([x, z]);
        let directions = Directions::read(&all, &draws, "f").unwrap();
        assert_eq!(directions.count(), 2);
        let (mut x, mut z) = ([1.0, 1.0], [1.0]);
        directions.apply("x", &shifts(&[(0, 2.0), (1, -1.0), (2, 1.0)]), &mut x);
        directions.apply("z/1", &shifts(&[(0, 2.0)]), &mut z);
        assert_eq!((x, z), ([2.2, 0.0], [2.6]));
        assert_eq!(Directions::read(&TensorMap::new(), &draws, "f").unwrap().count(), 0);

        for (name, shape, word) in [("y", [1, 1, 2], "no random input"), ("x", [2, 2, 1], "[2, 2, 1]")] {
            let wrong = [(format!("{PREFIX}{name}"), tensor(&vec![0.0; shape.iter().product()], &shape))];
            let error = Directions::read(&wrong.into(), &draws, "f").unwrap_err().to_string();
            assert!(error.contains(&format!("f: tensor directions.{name}")) && error.contains(word), "{error}");
        }
        let mut uneven = all;
        uneven.insert("directions.z/1".to_string(), tensor(&[0.0; 3], &[3, 1]));
        let error = Directions::read(&uneven, &draws, "f").unwrap_err().to_string();
        assert!(error.contains("has 3 directions, others have 2"), "{error}");
    }
}
