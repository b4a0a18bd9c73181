//! Puts an ONNX graph together, node by node. The batch, dimension 0 of every value, stays open.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::ExportError;
use super::proto::{self, Attribute, FLOAT, FLOAT16, INT64};

/// A graph in the making. Values are known by their names.
pub struct Builder {
    graph: proto::Graph,
    /// The numbers that the network computes with, f32 or f16.
    dtype: DType,
    /// The f32 inputs that values were rounded from, by value.
    unrounded: BTreeMap<String, String>,
}

type Result<T> = std::result::Result<T, ExportError>;

/// ONNX's code of a type.
fn element_type(dtype: DType) -> i32 {
    if dtype == DType::F16 { FLOAT16 } else { FLOAT }
}

fn value_info(name: &str, elem_type: i32, shape: &[usize]) -> proto::ValueInfo {
    let fixed = |size: &usize| proto::Dimension { dim_value: Some(*size as i64), dim_param: None };
    let batch = proto::Dimension { dim_value: None, dim_param: Some("batch".to_string()) };
    let shape = proto::TensorShape { dim: [batch].into_iter().chain(shape.iter().skip(1).map(fixed)).collect() };
    let tensor_type = proto::TensorType { elem_type, shape: Some(shape) };
    proto::ValueInfo { name: name.to_string(), r#type: Some(proto::Type { tensor_type: Some(tensor_type) }) }
}

impl Builder {
    pub fn new(name: &str, dtype: DType) -> Self {
        Self { graph: proto::Graph { name: name.to_string(), ..Default::default() }, dtype, unrounded: BTreeMap::new() }
    }

    pub fn finish(self) -> proto::Graph {
        self.graph
    }

    /// An input of f32; the value in the network's numbers.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> String {
        self.graph.input.push(value_info(name, FLOAT, shape));
        let value = self.narrow(&format!("{name}/cast"), name);
        self.unrounded.insert(value.clone(), name.to_string());
        value
    }

    /// An input of one integer per sample.
    pub fn index_input(&mut self, name: &str) -> String {
        self.graph.input.push(value_info(name, INT64, &[1]));
        name.to_string()
    }

    /// Names a value as an output, in f32.
    pub fn output(&mut self, name: &str, value: &str, shape: &[usize]) {
        self.graph.output.push(value_info(name, FLOAT, shape));
        match self.dtype {
            DType::F16 => self.push("Cast", name, &[value], vec![Attribute::int("to", FLOAT.into())]),
            _ => self.push("Identity", name, &[value], Vec::new()),
        };
    }

    /// A node with one output, which it shares its name with. An empty name leaves an optional input out.
    pub fn push(&mut self, op: &str, name: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        self.push_many(op, inputs, &[name], attributes);
        name.to_string()
    }

    /// A node with several outputs, named after the first.
    pub fn push_many(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<Attribute>) {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (input, output) = (names(inputs), names(outputs));
        let name = output.first().cloned().unwrap_or_default();
        self.graph.node.push(proto::Node { input, output, name, op_type: op.to_string(), attribute });
    }

    /// `x` in f32, whatever the network computes with.
    pub fn widen(&mut self, name: &str, x: &str) -> String {
        match (self.dtype, self.unrounded.get(x)) {
            (_, Some(input)) => input.clone(),
            (DType::F16, None) => self.push("Cast", name, &[x], vec![Attribute::int("to", FLOAT.into())]),
            _ => x.to_string(),
        }
    }

    /// An f32 value in the network's numbers.
    pub fn narrow(&mut self, name: &str, x: &str) -> String {
        match self.dtype {
            DType::F16 => self.push("Cast", name, &[x], vec![Attribute::int("to", FLOAT16.into())]),
            _ => x.to_string(),
        }
    }

    /// `x` with other dimensions; 0 keeps one, -1 takes what is left.
    pub fn reshape(&mut self, name: &str, x: &str, shape: &[i64]) -> String {
        let shape = self.integers(&format!("{name}/shape"), shape);
        self.push("Reshape", name, &[x, &shape], Vec::new())
    }

    pub fn transpose(&mut self, name: &str, x: &str, axes: &[i64]) -> String {
        self.push("Transpose", name, &[x], vec![Attribute::ints("perm", axes)])
    }
}

/// Constants.
impl Builder {
    /// In the network's numbers.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        self.constant(name, tensor, self.dtype)
    }

    /// In f32, whatever the network computes with.
    pub fn tensor_f32(&mut self, name: &str, tensor: &Tensor) -> Result<String> {
        self.constant(name, tensor, DType::F32)
    }

    pub fn scalar(&mut self, name: &str, value: f32) -> Result<String> {
        self.tensor(name, &Tensor::new(value, &Device::Cpu)?)
    }

    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, &[values.len()], INT64, raw_data)
    }

    fn constant(&mut self, name: &str, tensor: &Tensor, dtype: DType) -> Result<String> {
        let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(dtype)?.contiguous()?;
        let raw_data = safetensors::View::data(&tensor).into_owned();
        Ok(self.initializer(name, tensor.dims(), element_type(dtype), raw_data))
    }

    fn initializer(&mut self, name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let dims = dims.iter().map(|&size| size as i64).collect();
        self.graph.initializer.push(proto::Tensor { dims, data_type, name: name.to_string(), raw_data });
        name.to_string()
    }
}
