//! From the nodes of an ONNX graph to layers.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use lddgan::layers::{Conv2d, ConvGeometry};
use rten::{Model, Value};

use super::{Backbone, Layer, Operation};
use crate::export::proto;

/// The channels of the images that it takes.
const IMAGE_CHANNELS: usize = 3;

/// A value that depends on the images.
#[derive(Clone, Copy)]
struct Found {
    number: usize,
    channels: usize,
    stride: usize,
    /// Zeros that the convolution which takes it is to add before and after rows and columns.
    padding: (usize, usize),
}

/// Reads one node after the other.
pub struct Reader<'a> {
    device: &'a Device,
    /// Knows everything that does not depend on the images.
    constants: Model,
    found: HashMap<&'a str, Found>,
    layers: Vec<Layer>,
    /// The last value of each stride.
    last: Vec<Found>,
}

impl<'a> Reader<'a> {
    pub fn new(graph: &'a proto::Graph, constants: Model, device: &'a Device) -> Result<Self, String> {
        let given = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
        let inputs: Vec<&str> =
            graph.input.iter().map(|input| input.name.as_str()).filter(|name| !given(name)).collect();
        let &[images] = inputs.as_slice() else {
            return Err(format!("has {} inputs, needs one: images", inputs.len()));
        };
        let images = (images, Found { number: 0, channels: IMAGE_CHANNELS, stride: 1, padding: (0, 0) });
        Ok(Self { device, constants, found: [images].into(), layers: Vec::new(), last: Vec::new() })
    }

    /// Whether to go on: the first pooling over the whole image ends the network.
    pub fn read(&mut self, node: &'a proto::Node) -> Result<bool, String> {
        let inputs: Vec<Option<Found>> = node.input.iter().map(|name| self.found.get(name.as_str()).copied()).collect();
        let Some(first) = inputs.iter().find_map(|found| *found) else { return Ok(true) };
        let other = inputs.get(1).copied().flatten();
        if inputs.iter().flatten().any(|found| found.padding != (0, 0)) && node.op_type != "Conv" {
            return Err("follows a Pad, which is supported only before Conv".to_string());
        }
        if inputs[0].is_none() && node.op_type != "Add" {
            return Err("its first input is a constant, but must be features".to_string());
        }
        let (found, operation) = match node.op_type.as_str() {
            "Conv" => self.convolution(node, first)?,
            "Pad" => {
                let padding = self.padding(node)?;
                self.found.insert(output(node)?, Found { padding, ..first });
                return Ok(true);
            }
            "Relu" => (first, Operation::Clamp { low: 0.0, high: f64::INFINITY }),
            "Clip" => {
                let low = self.optional_number(node, 1)?.unwrap_or(f64::NEG_INFINITY);
                (first, Operation::Clamp { low, high: self.optional_number(node, 2)?.unwrap_or(f64::INFINITY) })
            }
            "Add"
                if inputs[0].is_some()
                    && let Some(other) = other =>
            {
                if (other.channels, other.stride) != (first.channels, first.stride) {
                    return Err("adds features of different sizes".to_string());
                }
                (first, Operation::Sum(other.number))
            }
            "Add" | "Sub" | "Mul" | "Div" if other.is_none() || inputs[0].is_none() => {
                (first, self.affine(node, &inputs)?)
            }
            "GlobalAveragePool" | "ReduceMean" => return Ok(false),
            _ => {
                let known = "Conv, Clip, Relu, Pad, Add, and Sub, Mul and Div with constants";
                return Err(format!("is not supported; supported are {known}"));
            }
        };
        self.layers.push(Layer { input: first.number, operation });
        let found = Found { number: self.layers.len(), padding: (0, 0), ..found };
        self.found.insert(output(node)?, found);
        self.last.retain(|last| last.stride != found.stride);
        self.last.push(found);
        Ok(true)
    }

    pub fn finish(mut self) -> Result<Backbone, String> {
        self.last.retain(|last| last.stride > 1);
        self.last.sort_by_key(|last| last.stride);
        let Some(end) = self.last.iter().map(|last| last.number).max() else {
            return Err("has no convolution with a stride, so no features that are coarser than the image".to_string());
        };
        self.layers.truncate(end);
        Ok(Backbone { layers: self.layers, taps: self.last.iter().map(|last| (last.number, last.channels)).collect() })
    }

    fn convolution(&self, node: &proto::Node, input: Found) -> Result<(Found, Operation), String> {
        let weight = self.tensor(node, 1)?;
        let &[outputs, of_group, kernel, width] = weight.dims() else {
            return Err(format!("its weight is {:?}, needs four dimensions", weight.dims()));
        };
        let stride = equal(&ints(node, "strides", &[1, 1]))?;
        let groups = attribute(node, "group").map_or(1, |attribute| attribute.i as usize);
        let all_ones = |name: &str| ints(node, name, &[1, 1]).iter().all(|&value| value == 1);
        let automatic = attribute(node, "auto_pad").is_some_and(|attribute| attribute.s != b"NOTSET");
        if kernel != width || !all_ones("dilations") || automatic {
            return Err("only square kernels with explicit padding and without dilation are supported".to_string());
        }
        let pads = ints(node, "pads", &[0; 4]);
        let (before, after) = match pads.as_slice() {
            [top, left, bottom, right] if top == left && bottom == right => (size(*top)?, size(*right)?),
            other => return Err(format!("its padding {other:?} differs between rows and columns")),
        };
        let (pad_before, pad_after) = (before + input.padding.0, after + input.padding.1);
        let geometry = ConvGeometry { kernel, stride, pad_before, pad_after };
        let bias = if node.input.len() > 2 { Some(self.tensor(node, 2)?) } else { None };
        if bias.as_ref().is_some_and(|bias| bias.dims() != [outputs]) {
            return Err(format!("its bias does not fit its {outputs} outputs"));
        }
        let operation = match groups {
            1 if of_group == input.channels => Operation::Convolution(Conv2d { weight, bias, geometry }),
            _ if groups == input.channels && of_group == 1 && outputs == groups => {
                Operation::Depthwise { weight, bias, geometry }
            }
            _ => {
                let (shape, channels) = (weight.dims(), input.channels);
                return Err(format!(
                    "a weight of {shape:?} in {groups} groups on {channels} channels is not supported"
                ));
            }
        };
        let stride = input.stride.checked_mul(stride).ok_or("its stride is too large")?;
        Ok((Found { channels: outputs, stride, ..input }, operation))
    }

    /// Zeros before and after the last two dimensions.
    fn padding(&self, node: &proto::Node) -> Result<(usize, usize), String> {
        let mode = attribute(node, "mode").map_or(b"constant".as_slice(), |attribute| attribute.s.as_slice());
        let value = self.optional_number(node, 2)?.unwrap_or(0.0);
        if mode != b"constant" || value != 0.0 {
            return Err("pads with other values than zeros".to_string());
        }
        let amounts = self.value(node, 1)?.into_shape_vec::<i32, 1>().map_err(|error| error.to_string())?.1;
        match amounts.as_slice() {
            [0, 0, top, left, 0, 0, bottom, right] if top == left && bottom == right => {
                Ok((size(i64::from(*top))?, size(i64::from(*right))?))
            }
            other => {
                Err(format!("its padding {other:?} must be the same on both sides, and none for batch and channels"))
            }
        }
    }

    /// A sum, difference, product or quotient with a constant.
    fn affine(&self, node: &proto::Node, inputs: &[Option<Found>]) -> Result<Operation, String> {
        let constant = self.tensor(node, usize::from(inputs[0].is_some()))?;
        let channels = inputs.iter().find_map(|found| *found).map_or(0, |found| found.channels);
        let per_channel = matches!(constant.dims(), [1, c, 1, 1] | [c, 1, 1] if *c == channels);
        if constant.elem_count() != 1 && !per_channel {
            return Err(format!("its constant {:?} must have one value, or one per channel", constant.dims()));
        }
        let (ones, zeros) = (constant.ones_like(), constant.zeros_like());
        let (scale, shift) = match node.op_type.as_str() {
            "Add" => (ones, Ok(constant)),
            "Sub" => (ones, constant.neg()),
            "Mul" => (Ok(constant), zeros),
            _ => (constant.recip(), zeros),
        };
        let text = |error: candle_core::Error| error.to_string();
        Ok(Operation::Affine { scale: scale.map_err(text)?, shift: shift.map_err(text)? })
    }

    /// A number, where the node has such an input.
    fn optional_number(&self, node: &proto::Node, input: usize) -> Result<Option<f64>, String> {
        if node.input.get(input).is_none_or(String::is_empty) {
            return Ok(None);
        }
        let tensor = self.tensor(node, input)?;
        let values =
            tensor.flatten_all().and_then(|tensor| tensor.to_vec1::<f32>()).map_err(|error| error.to_string())?;
        match values.as_slice() {
            [value] => Ok(Some(f64::from(*value))),
            _ => Err(format!("input {input} is {:?}, needs one number", tensor.dims())),
        }
    }

    /// An input that does not depend on the images.
    fn value(&self, node: &proto::Node, input: usize) -> Result<Value, String> {
        let name = node.input.get(input).ok_or_else(|| format!("input {input} is missing"))?;
        let id = self.constants.node_id(name).map_err(|error| error.to_string())?;
        let values = self.constants.run(Vec::new(), &[id], None).map_err(|error| format!("input {input}: {error}"))?;
        values.into_iter().next().ok_or_else(|| format!("input {input} has no value"))
    }

    /// An input in f32 that does not depend on the images.
    fn tensor(&self, node: &proto::Node, input: usize) -> Result<Tensor, String> {
        let value = self.value(node, input)?;
        let found = of_rank::<0>(&value).or_else(|| of_rank::<1>(&value)).or_else(|| of_rank::<3>(&value));
        let (shape, values) = found
            .or_else(|| of_rank::<4>(&value))
            .ok_or_else(|| format!("input {input} is not an f32 tensor of a supported rank"))?;
        Tensor::from_vec(values, shape, self.device).map_err(|error| error.to_string())
    }
}

/// The shape and the values of a tensor of N dimensions in f32.
fn of_rank<const N: usize>(value: &Value) -> Option<(Vec<usize>, Vec<f32>)> {
    let (shape, values) = value.clone().into_shape_vec::<f32, N>().ok()?;
    Some((shape.to_vec(), values))
}

fn output(node: &proto::Node) -> Result<&str, String> {
    node.output.first().map(String::as_str).ok_or_else(|| "has no output".to_string())
}

fn attribute<'a>(node: &'a proto::Node, name: &str) -> Option<&'a proto::Attribute> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn ints(node: &proto::Node, name: &str, default: &[i64]) -> Vec<i64> {
    attribute(node, name).map_or(default.to_vec(), |attribute| attribute.ints.clone())
}

fn size(value: i64) -> Result<usize, String> {
    // More would be no padding or stride of a network.
    usize::try_from(value)
        .ok()
        .filter(|&size| size <= 64)
        .ok_or_else(|| format!("{value} is not a valid padding or stride"))
}

/// The one value of both dimensions.
fn equal(values: &[i64]) -> Result<usize, String> {
    match values {
        [a, b] if a == b && *a > 0 => size(*a),
        other => Err(format!("its strides {other:?} differ")),
    }
}
