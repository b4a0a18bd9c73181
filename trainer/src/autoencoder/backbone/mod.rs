//! A network that others trained to recognise images, read from an ONNX file. It stays as it is; gradients flow through it
//! to the images, so that losses can be taken on its features.

mod reader;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use lddgan::backend::{Backend, CandleBackend};
use lddgan::layers::{Conv2d, ConvGeometry};
use prost::Message;
use rten::ModelOptions;

use self::reader::Reader;
use crate::eval::lpips::unit;
use crate::export::proto;
use crate::files::{self, FileError};

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
        assert!(include_bytes!("../../../tests/common/backbone.onnx").as_slice() == bytes(|_| ()), "write it again");
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
