//! Named tensors behind a `VarBuilder`: trainable parameters, and weights from a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::error::{Error, Result};
use crate::noise::Stream;

/// Tensors by name.
pub type TensorMap = BTreeMap<String, Tensor>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps are valid between any two operations, so a panic elsewhere does no harm to them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trainable parameters; a network built from [`Self::var_builder`] creates them with weights that depend on the
/// seed and their names alone.
#[derive(Clone)]
pub struct Parameters {
    seed: u64,
    device: Device,
    /// What is given and not trained.
    constants: Arc<TensorMap>,
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
}

impl Parameters {
    /// None yet; each is drawn from `seed` and its name when it is first asked for.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { seed, device: device.clone(), constants: Arc::default(), vars: Arc::default() }
    }

    /// Gives networks tensors that are no parameters: they stay as they are.
    pub fn with_constants(self, constants: &TensorMap) -> Result<Self> {
        let to_device = |(name, tensor): (&String, &Tensor)| {
            Ok((name.clone(), tensor.to_dtype(DType::F32)?.to_device(&self.device)?.detach()))
        };
        let constants = constants.iter().map(to_device).collect::<Result<TensorMap>>()?;
        Ok(Self { constants: Arc::new(constants), ..self })
    }

    /// What networks are built from.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, self.device.clone())
    }

    /// All parameters in the order of their names.
    pub fn vars(&self) -> Vec<(String, Var)> {
        lock(&self.vars).iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// Where the parameters are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The parameter of this name.
    pub fn var(&self, name: &str) -> Option<Var> {
        lock(&self.vars).get(name).cloned()
    }

    /// The current values, constants included; they follow further updates.
    pub fn tensors(&self) -> TensorMap {
        let vars = lock(&self.vars);
        let vars = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        self.constants.as_ref().clone().into_iter().chain(vars).collect()
    }

    /// Overwrites every parameter; constants must be there, and stay as they are. `file` is for the message of the error
    /// that lists what does not fit.
    pub fn load(&self, tensors: &TensorMap, file: &str) -> Result<()> {
        let own = self.tensors();
        let mut problems = Vec::new();
        for (name, own) in &own {
            match tensors.get(name) {
                None => problems.push(format!("missing: {name} {:?}", own.dims())),
                Some(tensor) if tensor.dims() != own.dims() => {
                    problems.push(format!("wrong shape: {name} is {:?}, needs {:?}", tensor.dims(), own.dims()));
                }
                Some(_) => {}
            }
        }
        problems.extend(tensors.keys().filter(|name| !own.contains_key(*name)).map(|name| format!("unknown: {name}")));
        if !problems.is_empty() {
            return Err(Error::Tensors { file: file.to_string(), problems });
        }
        for (name, var) in lock(&self.vars).iter() {
            var.set(&tensors[name].to_dtype(var.dtype())?.to_device(&self.device)?)?;
        }
        Ok(())
    }

    fn create(&self, shape: &Shape, name: &str, init: Init) -> candle_core::Result<Var> {
        let count = shape.elem_count();
        let mut stream = Stream::new(self.seed, 0, name);
        let values: Vec<f32> = match init {
            Init::Const(value) => vec![value as f32; count],
            Init::Uniform { lo, up } => (0..count).map(|_| (lo + (up - lo) * stream.uniform()) as f32).collect(),
            Init::Randn { mean, stdev } => {
                let scale = |x: f32| (mean + stdev * f64::from(x)) as f32;
                stream.normals(count).into_iter().map(scale).collect()
            }
            // See `layers::GIVEN`.
            Init::Kaiming { .. } => candle_core::bail!("{name} is not trained and must be given"),
        };
        Var::from_vec(values, shape, &self.device)
    }
}

impl SimpleBackend for Parameters {
    fn get(&self, shape: Shape, name: &str, init: Init, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        if let Some(constant) = self.constants.get(name) {
            if constant.shape() != &shape {
                candle_core::bail!("{name} is {:?}, asked for as {shape:?}", constant.shape());
            }
            return Ok(constant.clone());
        }
        let mut vars = lock(&self.vars);
        let var = match vars.get(name) {
            Some(var) => var.clone(),
            None => self.create(&shape, name, init)?,
        };
        if var.shape() != &shape {
            candle_core::bail!("parameter {name} is {:?}, asked for as {shape:?}", var.shape());
        }
        vars.insert(name.to_string(), var.clone());
        Ok(var.as_tensor().clone())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        match self.tensors().remove(name) {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("no parameter {name}"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.constants.contains_key(name) || lock(&self.vars).contains_key(name)
    }
}

/// Notes the name and shape of every tensor that a network asks for, and holds none of them.
#[derive(Clone, Default)]
pub struct Shapes(Arc<Mutex<BTreeMap<String, Shape>>>);

impl Shapes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What networks are built from; their weights are zeros that take no memory.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, Device::Cpu)
    }

    /// What was asked for so far.
    pub fn shapes(&self) -> BTreeMap<String, Shape> {
        lock(&self.0).clone()
    }
}

/// Zeros of any shape that take no memory.
fn zeros(shape: &Shape, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
    Tensor::zeros((), dtype, device)?.broadcast_as(shape)
}

impl SimpleBackend for Shapes {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let zeros = zeros(&shape, dtype, device);
        lock(&self.0).insert(name.to_string(), shape);
        zeros
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        match lock(&self.0).get(name) {
            Some(shape) => zeros(shape, dtype, device),
            None => candle_core::bail!("no tensor {name}"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        lock(&self.0).contains_key(name)
    }
}

/// Fixed weights; keeps account of what the networks asked for.
#[derive(Clone)]
pub struct Weights {
    tensors: Arc<TensorMap>,
    account: Arc<Mutex<Account>>,
}

#[derive(Default)]
struct Account {
    used: BTreeSet<String>,
    problems: Vec<String>,
}

impl Weights {
    /// Of these tensors.
    pub fn new(tensors: TensorMap) -> Self {
        Self { tensors: Arc::new(tensors), account: Arc::default() }
    }

    /// What networks are built from.
    pub fn var_builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    /// Call it when all networks are built: lists every missing, mis-shaped and unknown tensor.
    pub fn finish(&self, file: &str) -> Result<()> {
        let account = lock(&self.account);
        let mut problems = account.problems.clone();
        let unknown = self.tensors.keys().filter(|name| !account.used.contains(*name));
        problems.extend(unknown.map(|name| format!("unknown: {name}")));
        if problems.is_empty() { Ok(()) } else { Err(Error::Tensors { file: file.to_string(), problems }) }
    }
}

impl SimpleBackend for Weights {
    /// A tensor that does not fit is noted, and zeros are returned in its place, so that one pass finds all.
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let mut account = lock(&self.account);
        account.used.insert(name.to_string());
        match self.tensors.get(name) {
            Some(tensor) if tensor.shape() == &shape => tensor.to_device(device)?.to_dtype(dtype),
            Some(tensor) => {
                account.problems.push(format!("wrong shape: {name} is {:?}, needs {:?}", tensor.dims(), shape.dims()));
                zeros(&shape, dtype, device)
            }
            None => {
                account.problems.push(format!("missing: {name} {:?}", shape.dims()));
                zeros(&shape, dtype, device)
            }
        }
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => tensor.to_device(device)?.to_dtype(dtype),
            None => candle_core::bail!("no tensor {name}"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration can ask for more than any memory holds.
    #[test]
    fn missing_weights_take_no_memory() {
        let weights = Weights::new(TensorMap::new());
        let shape = (1 << 20, 1 << 20, 3, 3);
        assert_eq!(weights.var_builder(&Device::Cpu).get(shape, "a").unwrap().dims(), [1 << 20, 1 << 20, 3, 3]);
        let Err(Error::Tensors { problems, .. }) = weights.finish("file") else { panic!("nothing is missing") };
        assert_eq!(problems, ["missing: a [1048576, 1048576, 3, 3]"]);
    }
}
