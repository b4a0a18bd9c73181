//! A network that others trained to recognise images, read from an ONNX file. It stays as it is; gradients flow through it
//! to the images, so that losses can be taken on its features.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use lddgan::backend::{Backend, CandleBackend};
use lddgan::layers::{Conv2d, ConvGeometry};
use prost::Message;
use rten::{Model, ModelOptions, Value};

use crate::eval::lpips::unit;
use crate::export::proto;
use crate::files::{self, FileError};

/// The channels of the images that it takes.
const IMAGE_CHANNELS: usize = 3;

/// A file that no network can be read from.
#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {reason}", .path.display())]
    Invalid { path: PathBuf, reason: String },
    #[error("{}: node {node} ({op}): {reason}", .path.display())]
    Node { path: PathBuf, node: String, op: String, reason: String },
}

/// One operation on the value of number `input`; the images are number 0, and each layer's own value is the next.
struct Layer {
    input: usize,
    operation: Operation,
}

enum Operation {
    Convolution(Conv2d),
    Depthwise {
        weight: Tensor,
        bias: Option<Tensor>,
        geometry: ConvGeometry,
    },
    Clamp {
        low: f64,
        high: f64,
    },
    /// The sum with another value.
    Sum(usize),
    /// `scale` times a value plus `shift`.
    Affine {
        scale: Tensor,
        shift: Tensor,
    },
}

/// The network. Its features are what the last layer of each stride (2, 4, 8 ...) puts out.
pub struct Backbone {
    layers: Vec<Layer>,
    /// The values that are features, finest first, and their channels.
    taps: Vec<(usize, usize)>,
}

impl Backbone {
    /// Reads an ONNX file whose only input is images N x 3 x H x W in RGB from 0 to 255. Layers may be convolutions (with one
    /// group, or as many as channels), Clip, Relu, Pad before a convolution, Add, and Sub, Mul and Div with constants; what follows
    /// the first pooling over the whole image is left out.
    pub fn load(path: &Path, device: &Device) -> Result<Self, BackboneError> {
        let bytes = files::read(path)?;
        let invalid = |reason: String| BackboneError::Invalid { path: path.to_path_buf(), reason };
        let file =
            proto::Model::decode(bytes.as_slice()).map_err(|error| invalid(format!("not an ONNX file: {error}")))?;
        let graph = file.graph.ok_or_else(|| invalid("holds no network".to_string()))?;
        // Names of values have to stay.
        let constants = ModelOptions::with_all_ops().enable_optimization(false).load(bytes);
        let constants = constants.map_err(|error| invalid(format!("the ONNX network cannot be read: {error}")))?;
        let mut reader = Reader::new(&graph, constants, device).map_err(&invalid)?;
        for node in &graph.node {
            let at = |reason: String| BackboneError::Node {
                path: path.to_path_buf(),
                node: node.name.clone(),
                op: node.op_type.clone(),
                reason,
            };
            if !reader.read(node).map_err(at)? {
                break;
            }
        }
        reader.finish().map_err(invalid)
    }

    /// How many channels the features of each stride have.
    pub fn channels(&self) -> impl Iterator<Item = usize> {
        self.taps.iter().map(|&(_, channels)| channels)
    }

    /// The features (N, C, h, w) of images (N, 3, H, W) from -1 to 1 at each stride, finest first.
    pub fn features(&self, images: &Tensor) -> lddgan::Result<Vec<Tensor>> {
        let mut values = vec![images.affine(127.5, 127.5)?];
        for Layer { input, operation } in &self.layers {
            let value = operation.apply(&values[*input], &values)?;
            values.push(value);
        }
        Ok(self.taps.iter().map(|&(value, _)| values[value].clone()).collect())
    }
}

impl Operation {
    fn apply(&self, x: &Tensor, values: &[Tensor]) -> lddgan::Result<Tensor> {
        let like_x = |constant: &Tensor| constant.to_dtype(x.dtype());
        Ok(match self {
            Self::Convolution(conv) => CandleBackend.conv2d(x, conv)?,
            Self::Depthwise { weight, bias, geometry } => {
                let y = lddgan::depthwise_conv2d(x, &like_x(weight)?, *geometry)?;
                match bias {
                    Some(bias) => CandleBackend.add_per_channel(&y, &bias.unsqueeze(0)?)?,
                    None => y,
                }
            }
            Self::Clamp { low, high } => lddgan::clamp(x, *low, *high)?,
            Self::Sum(other) => (x + &values[*other])?,
            Self::Affine { scale, shift } => x.broadcast_mul(&like_x(scale)?)?.broadcast_add(&like_x(shift)?)?,
        })
    }
}

/// How far two images are apart in features, from those of each stride: as LPIPS, but every channel has the weight 1, for want of
/// trained ones. Features are scaled to length one at each position; squared differences are summed over channels and averaged over
/// positions, samples and strides. From 0 to 4.
pub fn distance(a: &[Tensor], b: &[Tensor]) -> lddgan::Result<Tensor> {
    let mut sum = Tensor::zeros((), a[0].dtype(), a[0].device())?;
    for (a, b) in a.iter().zip(b) {
        sum = (sum + (unit(a)? - unit(b)?)?.sqr()?.sum(1)?.mean_all()?)?;
    }
    Ok((sum / a.len() as f64)?)
}

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
struct Reader<'a> {
    device: &'a Device,
    /// Knows everything that does not depend on the images.
    constants: Model,
    found: HashMap<&'a str, Found>,
    layers: Vec<Layer>,
    /// The last value of each stride.
    last: Vec<Found>,
}

impl<'a> Reader<'a> {
    fn new(graph: &'a proto::Graph, constants: Model, device: &'a Device) -> Result<Self, String> {
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
    fn read(&mut self, node: &'a proto::Node) -> Result<bool, String> {
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

    fn finish(mut self) -> Result<Backbone, String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::onnx::FeatureNetwork;
    use crate::export::builder::Builder;
    use crate::export::proto::{Attribute, Graph};
    use candle_core::{DType, Var};
    use lddgan::noise::Stream;

    fn random(shape: &[usize], name: &str) -> Tensor {
        let values = Stream::new(3, 0, name).normals(shape.iter().product());
        (Tensor::from_vec(values, shape, &Device::Cpu).unwrap() * 0.4).unwrap()
    }

    /// A network of all that is known: strides 2 and 4, at the end 4 features. The tests of the program have it as a file.
    fn network() -> Graph {
        let mut b = Builder::new("small", DType::F32);
        let image = b.input("image", &[1, 3, 16, 16]);
        let number = |b: &mut Builder, value: f32| b.scalar(&format!("number {value}"), value).unwrap();
        let (middle, range, none, six) =
            (number(&mut b, 127.0), number(&mut b, 128.0), number(&mut b, 0.0), number(&mut b, 6.0));
        let x = b.push("Sub", "centred", &[&image, &middle], Vec::new());
        let x = b.push("Div", "scaled", &[&x, &range], Vec::new());
        // Padding that the graph itself computes.
        let (before, after) = (b.integers("before", &[0, 0, 0, 0]), b.integers("after", &[0, 0, 1, 1]));
        let pads = b.push("Concat", "pads", &[&before, &after], vec![Attribute::int("axis", 0)]);
        let x = b.push("Pad", "padded", &[&x, &pads], Vec::new());
        let x = conv(&mut b, "conv1", &x, &[6, 3, 3, 3], 2, 0);
        let x = b.push("Clip", "clipped", &[&x, &none, &six], Vec::new());
        let y = conv(&mut b, "depthwise", &x, &[6, 1, 3, 3], 1, 1);
        let y = b.push("Relu", "rectified", &[&y], Vec::new());
        let y = conv(&mut b, "pointwise", &y, &[6, 6, 1, 1], 1, 0);
        let x = b.push("Add", "sum", &[&x, &y], Vec::new());
        let x = conv(&mut b, "conv2", &x, &[4, 6, 3, 3], 2, 1);
        let means = b.push("GlobalAveragePool", "means", &[&x], Vec::new());
        let rows = b.push("Flatten", "rows", &[&means], vec![Attribute::int("axis", 1)]);
        b.output("features", &rows, &[1, 4]);
        b.finish()
    }

    fn conv(b: &mut Builder, name: &str, x: &str, shape: &[usize], stride: i64, pad: i64) -> String {
        let weight = b.tensor(&format!("{name}.weight"), &random(shape, name)).unwrap();
        let bias = b.tensor(&format!("{name}.bias"), &random(&shape[..1], &format!("{name}.bias"))).unwrap();
        let group = if shape[1] == 1 { shape[0] as i64 } else { 1 };
        let attributes = vec![
            Attribute::int("group", group),
            Attribute::ints("strides", &[stride; 2]),
            Attribute::ints("pads", &[pad; 4]),
            Attribute::ints("dilations", &[1, 1]),
        ];
        b.push("Conv", name, &[x, &weight, &bias], attributes)
    }

    fn bytes(change: impl FnOnce(&mut Graph)) -> Vec<u8> {
        let mut graph = network();
        change(&mut graph);
        proto::Model::new(graph, "").to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Backbone, BackboneError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Backbone::load(file.path(), &Device::Cpu)
    }

    /// The mean of the last features against what rten computes with the whole file.
    #[test]
    fn computes_what_rten_does() {
        let bytes = bytes(|_| ());
        let images = random(&[2, 3, 16, 16], "images");
        let features = load(&bytes).unwrap().features(&images).unwrap();
        let sizes: Vec<&[usize]> = features.iter().map(Tensor::dims).collect();
        assert_eq!(sizes, [&[2, 6, 8, 8], &[2, 4, 4, 4]]);
        let found = features[1].mean((2, 3)).unwrap().to_vec2::<f32>().unwrap().concat();
        let expected = FeatureNetwork::from_bytes(bytes, Path::new("small.onnx")).unwrap().features(&images).unwrap();
        let expected = expected.to_vec2::<f32>().unwrap().concat();
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }

    #[test]
    fn the_file_of_the_programs_tests_is_this_network() {
        assert!(include_bytes!("../../tests/common/backbone.onnx").as_slice() == bytes(|_| ()), "write it again");
    }

    /// The gradient of the distance against central differences in f64. Between equal images there is no distance.
    #[test]
    fn gradients_flow_to_images() {
        let backbone = load(&bytes(|_| ())).unwrap();
        let double = |name: &str| random(&[1, 3, 16, 16], name).to_dtype(DType::F64).unwrap();
        let (a, b) = (double("a"), backbone.features(&double("b")).unwrap());
        let value = |a: &Tensor| distance(&backbone.features(a).unwrap(), &b).unwrap();
        let var = Var::from_tensor(&a).unwrap();
        let gradients = value(&var).backward().unwrap();
        let gradient = gradients.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(gradient.iter().any(|gradient| gradient.abs() > 1e-3));
        for pixel in (0..gradient.len()).step_by(37) {
            let moved = |by: f64| {
                let mut values = a.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                values[pixel] += by;
                let moved = Tensor::from_vec(values, a.shape(), &Device::Cpu).unwrap();
                value(&moved).to_scalar::<f64>().unwrap()
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((gradient[pixel] - expected).abs() < 1e-6, "{pixel}: {} not {expected}", gradient[pixel]);
        }
        assert_eq!(distance(&b, &b).unwrap().to_scalar::<f64>().unwrap(), 0.0);
    }

    #[test]
    fn networks_that_are_not_known_are_refused() {
        let refused = |change: fn(&mut Graph)| load(&bytes(change)).err().unwrap().to_string();
        let said = refused(|graph| find(graph, "rectified").op_type = "Softmax".to_string());
        assert!(said.contains("node rectified (Softmax): is not supported"), "{said}");
        let said = refused(|graph| find(graph, "conv1").attribute[3] = Attribute::ints("dilations", &[2, 2]));
        assert!(said.contains("node conv1 (Conv)") && said.contains("dilation"), "{said}");
        let said = refused(|graph| find(graph, "conv2").attribute[1] = Attribute::ints("strides", &[1, 2]));
        assert!(said.contains("node conv2 (Conv): its strides [1, 2] differ"), "{said}");
        let said = refused(|graph| find(graph, "pointwise").attribute[0] = Attribute::int("group", 2));
        assert!(said.contains("[6, 6, 1, 1] in 2 groups on 6 channels"), "{said}");
        let said = refused(|graph| find(graph, "sum").input[0] = "clipped elsewhere".to_string());
        assert!(said.contains("clipped elsewhere"), "{said}");
        let said = refused(|graph| {
            let node = find(graph, "conv1");
            (node.op_type, node.input, node.attribute) = ("Relu".to_string(), vec!["padded".to_string()], Vec::new());
        });
        assert!(said.contains("follows a Pad"), "{said}");
        let said = refused(|graph| graph.input.push(graph.input[0].clone()));
        assert!(said.contains("2 inputs"), "{said}");
        let said = refused(|graph| graph.node.truncate(2));
        assert!(said.contains("stride"), "{said}");
    }

    fn find<'a>(graph: &'a mut Graph, name: &str) -> &'a mut proto::Node {
        graph.node.iter_mut().find(|node| node.name == name).unwrap()
    }

    /// Whatever a file is cut off to or changed to, reading it ends, with a network or an error.
    #[test]
    fn broken_files_do_no_harm() {
        let whole = bytes(|_| ());
        for end in (0..whole.len()).step_by(7) {
            let _ = load(&whole[..end]);
        }
        for byte in 0..whole.len().min(600) {
            let mut changed = whole.clone();
            changed[byte] ^= 0x11;
            let _ = load(&changed);
        }
        let said = load(b"no network").err().unwrap().to_string();
        assert!(said.contains("ONNX"), "{said}");
    }
}
