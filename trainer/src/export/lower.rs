//! The operations of a recorded network in those of ONNX.

use candle_core::{DType, Device, Tensor};
use lddgan::backend::{Activation, FirMode, LEAKY_SLOPE, SQUARES_EPSILON};
use lddgan::graph::{Graph, Node, Op};
use lddgan::layers::{Conv2d, GROUP_NORM_EPS, GroupNorm, Linear};
use lddgan::parameters::TensorMap;

use super::ExportError;
use super::builder::Builder;
use super::proto::{self, Attribute};

type Result<T> = std::result::Result<T, ExportError>;

/// The input that tables are looked up by: the step, an int64 for each sample.
const INDEX: &str = "t";

/// Translates a recording of one image. Inputs that have a table, with a row for each step, are looked up.
pub fn translate(builder: Builder, recording: &Graph, tables: &TensorMap) -> Result<proto::Graph> {
    let mut lowering = Lowering { b: builder, tables, index: None, names: Vec::with_capacity(recording.nodes.len()) };
    for (index, node) in recording.nodes.iter().enumerate() {
        let name = lowering.node(&format!("node{index}"), node)?;
        lowering.names.push(name);
    }
    for (name, node) in &recording.outputs {
        let value = lowering.value(*node)?;
        let shape = recording.nodes.get(*node).map_or(&[][..], |node| &node.shape);
        lowering.b.output(name, &value, shape);
    }
    Ok(lowering.b.finish())
}

struct Lowering<'a> {
    b: Builder,
    tables: &'a TensorMap,
    /// [`INDEX`], once something was looked up.
    index: Option<String>,
    /// The values of the nodes so far.
    names: Vec<String>,
}

impl Lowering<'_> {
    fn value(&self, node: usize) -> Result<String> {
        self.names.get(node).cloned().ok_or(ExportError::Order(node))
    }

    /// Translates one node; the name of its value.
    fn node(&mut self, name: &str, node: &Node) -> Result<String> {
        let inputs = node.inputs.iter().map(|&input| self.value(input)).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let one = || node.op.take(&inputs).map(|[x]: &[&str; 1]| *x);
        match &node.op {
            Op::Input(input) => self.input(input, &node.shape),
            Op::Constant(tensor) => self.b.tensor(name, tensor),
            Op::Conv2d(conv) => self.conv(name, one()?, conv),
            Op::Linear(linear, activation) => self.linear(name, one()?, linear, *activation),
            Op::GroupNorm(norm, activation) => self.group_norm(name, one()?, norm, &node.shape, *activation),
            Op::AdaptiveGroupNorm { groups, activation } => {
                let [x, style] = node.op.take(&inputs)?;
                self.adaptive_group_norm(name, x, style, *groups, &node.shape, *activation)
            }
            Op::Activate(activation) => Ok(self.activate(name, one()?, *activation)),
            Op::PixelNorm => self.pixel_norm(name, one()?),
            Op::Fir(mode) => self.fir(name, one()?, *mode, &node.shape),
            Op::UpsampleNearest(factor) => self.upsample_nearest(name, one()?, *factor),
            Op::DepthToSpace(factor) => {
                let attributes = vec![Attribute::int("blocksize", *factor as i64), Attribute::text("mode", "CRD")];
                Ok(self.b.push("DepthToSpace", name, &[one()?], attributes))
            }
            Op::Pool(weights) => self.pool(name, one()?, weights, &node.shape),
            Op::InverseHaar => Ok(self.inverse_haar(name, *node.op.take(&inputs)?)),
            Op::Concat => {
                let inputs: &[&str; 2] = node.op.take(&inputs)?;
                Ok(self.b.push("Concat", name, inputs, vec![Attribute::int("axis", 1)]))
            }
            Op::AddPerChannel => {
                let [x, bias] = node.op.take(&inputs)?;
                let bias = self.b.reshape(&format!("{name}/bias"), bias, &[0, 0, 1, 1]);
                Ok(self.b.push("Add", name, &[x, &bias], Vec::new()))
            }
            Op::Multiply => {
                let inputs: &[&str; 2] = node.op.take(&inputs)?;
                Ok(self.b.push("Mul", name, inputs, Vec::new()))
            }
            Op::WeightedSum(factors) => self.weighted_sum(name, &inputs, factors),
            Op::Attention => self.attention(name, *node.op.take(&inputs)?, &node.shape),
            Op::Quantize(codebook) => self.quantize(name, one()?, codebook, &node.shape),
            // Only discriminators have these.
            Op::MinibatchStddev | Op::SumPixels => Err(ExportError::Unsupported(node.op.name())),
        }
    }

    fn input(&mut self, name: &str, shape: &[usize]) -> Result<String> {
        let Some(rows) = self.tables.get(name) else {
            return Ok(self.b.input(name, shape));
        };
        let index = self.index.get_or_insert_with(|| self.b.index_input(INDEX)).clone();
        let rows = self.b.tensor(&format!("{name}/rows"), rows)?;
        Ok(self.b.push("Gather", name, &[&rows, &index], Vec::new()))
    }

    fn conv(&mut self, name: &str, x: &str, conv: &Conv2d) -> Result<String> {
        let weight = self.b.tensor(&format!("{name}/weight"), &conv.weight)?;
        let bias = conv.bias.as_ref().map(|bias| self.b.tensor(&format!("{name}/bias"), bias)).transpose()?;
        let inputs: Vec<&str> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
        let geometry = conv.geometry;
        let (before, after) = (geometry.pad_before as i64, geometry.pad_after as i64);
        let attributes = vec![
            Attribute::ints("kernel_shape", &[geometry.kernel as i64; 2]),
            Attribute::ints("strides", &[geometry.stride as i64; 2]),
            Attribute::ints("pads", &[before, before, after, after]),
        ];
        Ok(self.b.push("Conv", name, &inputs, attributes))
    }

    fn linear(&mut self, name: &str, x: &str, linear: &Linear, activation: Activation) -> Result<String> {
        let weight = self.b.tensor(&format!("{name}/weight"), &linear.weight)?;
        let bias = self.b.tensor(&format!("{name}/bias"), &linear.bias)?;
        let product = format!("{name}/product");
        self.b.push("Gemm", &product, &[x, &weight, &bias], vec![Attribute::int("transB", 1)]);
        Ok(self.activate(name, &product, activation))
    }

    fn group_norm(
        &mut self,
        name: &str,
        x: &str,
        norm: &GroupNorm,
        shape: &[usize],
        activation: Activation,
    ) -> Result<String> {
        let normed = self.normalize(name, x, norm.groups, shape)?;
        let scale = self.b.tensor(&format!("{name}/scale"), &norm.weight.reshape((1, (), 1, 1))?)?;
        let shift = self.b.tensor(&format!("{name}/shift"), &norm.bias.reshape((1, (), 1, 1))?)?;
        Ok(self.affine(name, &normed, &scale, &shift, activation))
    }

    fn adaptive_group_norm(
        &mut self,
        name: &str,
        x: &str,
        style: &str,
        groups: usize,
        shape: &[usize],
        activation: Activation,
    ) -> Result<String> {
        let normed = self.normalize(name, x, groups, shape)?;
        let channels = sizes(shape)[1];
        let style = self.b.reshape(&format!("{name}/style"), style, &[0, 2 * channels, 1, 1]);
        let halves = self.b.integers(&format!("{name}/halves"), &[channels, channels]);
        let (scale, shift) = (format!("{name}/scale"), format!("{name}/shift"));
        self.b.push_many("Split", &[&style, &halves], &[&scale, &shift], vec![Attribute::int("axis", 1)]);
        let one = self.b.scalar(&format!("{name}/one"), 1.0)?;
        let scale = self.b.push("Add", &format!("{name}/scale_plus_one"), &[&scale, &one], Vec::new());
        Ok(self.affine(name, &normed, &scale, &shift, activation))
    }

    /// Group norm without affine parameters: an instance norm of groups.
    fn normalize(&mut self, name: &str, x: &str, groups: usize, shape: &[usize]) -> Result<String> {
        let grouped = self.b.reshape(&format!("{name}/grouped"), x, &[0, groups as i64, -1]);
        let ones = self.b.tensor(&format!("{name}/ones"), &Tensor::ones(groups, DType::F32, &Device::Cpu)?)?;
        let zeros = self.b.tensor(&format!("{name}/zeros"), &Tensor::zeros(groups, DType::F32, &Device::Cpu)?)?;
        let epsilon = vec![Attribute::float("epsilon", GROUP_NORM_EPS as f32)];
        let inputs = [grouped.as_str(), &ones, &zeros];
        let normed = self.b.push("InstanceNormalization", &format!("{name}/groups"), &inputs, epsilon);
        let [_, channels, height, width] = sizes(shape);
        Ok(self.b.reshape(&format!("{name}/normed"), &normed, &[0, channels, height, width]))
    }

    fn affine(&mut self, name: &str, x: &str, scale: &str, shift: &str, activation: Activation) -> String {
        let scaled = self.b.push("Mul", &format!("{name}/scaled"), &[x, scale], Vec::new());
        let shifted = self.b.push("Add", &format!("{name}/shifted"), &[&scaled, shift], Vec::new());
        self.activate(name, &shifted, activation)
    }

    fn activate(&mut self, name: &str, x: &str, activation: Activation) -> String {
        match activation {
            Activation::Identity => x.to_string(),
            Activation::Silu => {
                let gate = self.b.push("Sigmoid", &format!("{name}/gate"), &[x], Vec::new());
                self.b.push("Mul", name, &[x, &gate], Vec::new())
            }
            Activation::Tanh => self.b.push("Tanh", name, &[x], Vec::new()),
            Activation::LeakyRelu => {
                self.b.push("LeakyRelu", name, &[x], vec![Attribute::float("alpha", LEAKY_SLOPE as f32)])
            }
        }
    }

    /// In f32: the small number that keeps the root away from zero is none in f16.
    fn pixel_norm(&mut self, name: &str, x: &str) -> Result<String> {
        let x = self.b.widen(&format!("{name}/wide"), x);
        let square = self.b.push("Mul", &format!("{name}/square"), &[&x, &x], Vec::new());
        let axes = self.b.integers(&format!("{name}/axes"), &[1]);
        let mean = self.b.push("ReduceMean", &format!("{name}/mean"), &[&square, &axes], Vec::new());
        let least = self.b.tensor_f32(&format!("{name}/least"), &Tensor::new(SQUARES_EPSILON as f32, &Device::Cpu)?)?;
        let sum = self.b.push("Add", &format!("{name}/sum"), &[&mean, &least], Vec::new());
        let root = self.b.push("Sqrt", &format!("{name}/root"), &[&sum], Vec::new());
        let normed = self.b.push("Div", &format!("{name}/normed"), &[&x, &root], Vec::new());
        Ok(self.b.narrow(name, &normed))
    }

    /// A depthwise convolution, transposed where it upsamples.
    fn fir(&mut self, name: &str, x: &str, mode: FirMode, shape: &[usize]) -> Result<String> {
        // Zeros between the pixels take three quarters of the sum.
        let gain = if mode == FirMode::Upsample { 4.0 } else { 1.0 };
        let kernel: Vec<f32> =
            FirMode::TAPS.iter().flat_map(|row| FirMode::TAPS.map(|column| row * column * gain)).collect();
        let channels = sizes(shape)[1];
        let kernel = Tensor::from_vec(kernel, (1, 1, 4, 4), &Device::Cpu)?.repeat((channels as usize, 1, 1, 1))?;
        let weight = self.b.tensor(&format!("{name}/weight"), &kernel)?;
        let (op, stride, pad) = match mode {
            FirMode::Upsample => ("ConvTranspose", 2, 1),
            FirMode::Downsample => ("Conv", 2, 1),
            FirMode::Smooth => ("Conv", 1, 2),
        };
        let attributes = vec![
            Attribute::ints("kernel_shape", &[4, 4]),
            Attribute::ints("strides", &[stride; 2]),
            Attribute::ints("pads", &[pad; 4]),
            Attribute::int("group", channels),
        ];
        Ok(self.b.push(op, name, &[x, &weight], attributes))
    }

    fn upsample_nearest(&mut self, name: &str, x: &str, factor: usize) -> Result<String> {
        let scales = Tensor::new(&[1.0, 1.0, factor as f32, factor as f32], &Device::Cpu)?;
        let scales = self.b.tensor_f32(&format!("{name}/scales"), &scales)?;
        let attributes = vec![
            Attribute::text("mode", "nearest"),
            Attribute::text("coordinate_transformation_mode", "asymmetric"),
            Attribute::text("nearest_mode", "floor"),
        ];
        Ok(self.b.push("Resize", name, &[x, "", &scales], attributes))
    }

    /// A depthwise convolution of stride 2.
    fn pool(&mut self, name: &str, x: &str, weights: &[f32; 4], shape: &[usize]) -> Result<String> {
        let channels = sizes(shape)[1];
        let kernel = Tensor::new(weights, &Device::Cpu)?.reshape((1, 1, 2, 2))?.repeat((channels as usize, 1, 1, 1))?;
        let weight = self.b.tensor(&format!("{name}/weight"), &kernel)?;
        let attributes = vec![
            Attribute::ints("kernel_shape", &[2, 2]),
            Attribute::ints("strides", &[2, 2]),
            Attribute::int("group", channels),
        ];
        Ok(self.b.push("Conv", name, &[x, &weight], attributes))
    }

    /// The four pixels of each block side by side as channels, then in their places.
    fn inverse_haar(&mut self, name: &str, [ll, lh, hl, hh]: [&str; 4]) -> String {
        let mut both = |part: &str, a: &str, b: &str| {
            ["Add", "Sub"].map(|op| self.b.push(op, &format!("{name}/{part}/{op}"), &[a, b], Vec::new()))
        };
        let ([upper, lower], [upper_detail, lower_detail]) = (both("rows", ll, hl), both("details", lh, hh));
        let [p, q] = both("upper", &upper, &upper_detail);
        let [r, s] = both("lower", &lower, &lower_detail);
        let pixels =
            self.b.push("Concat", &format!("{name}/pixels"), &[&p, &q, &r, &s], vec![Attribute::int("axis", 1)]);
        let attributes = vec![Attribute::int("blocksize", 2), Attribute::text("mode", "DCR")];
        self.b.push("DepthToSpace", name, &[&pixels], attributes)
    }

    fn weighted_sum(&mut self, name: &str, inputs: &[&str], factors: &[f32]) -> Result<String> {
        let mut sum: Option<String> = None;
        for (i, (input, &factor)) in inputs.iter().zip(factors).enumerate() {
            let mut term = input.to_string();
            if factor != 1.0 {
                let factor = self.b.scalar(&format!("{name}/factor{i}"), factor)?;
                term = self.b.push("Mul", &format!("{name}/term{i}"), &[&term, &factor], Vec::new());
            }
            sum = Some(match sum {
                Some(sum) => self.b.push("Add", &format!("{name}/sum{i}"), &[&sum, &term], Vec::new()),
                None => term,
            });
        }
        sum.ok_or(ExportError::Unsupported("a sum of nothing"))
    }

    fn attention(&mut self, name: &str, inputs: [&str; 3], shape: &[usize]) -> Result<String> {
        let [_, channels, height, width] = sizes(shape);
        let [query, key, value] = inputs.map(ToString::to_string);
        let mut rows = |part: &str, x: &str| self.b.reshape(&format!("{name}/{part}"), x, &[0, channels, -1]);
        let (query, key, value) = (rows("query", &query), rows("key", &key), rows("value", &value));
        // Scaled before the product, whose sums could leave the range of f16.
        let scale = self.b.scalar(&format!("{name}/scale"), (channels as f32).powf(-0.5))?;
        let query = self.b.push("Mul", &format!("{name}/scaled_query"), &[&query, &scale], Vec::new());
        let query = self.b.transpose(&format!("{name}/query_rows"), &query, &[0, 2, 1]);
        let logits = self.b.push("MatMul", &format!("{name}/logits"), &[&query, &key], Vec::new());
        let weights = self.b.push("Softmax", &format!("{name}/weights"), &[&logits], vec![Attribute::int("axis", -1)]);
        let weights = self.b.transpose(&format!("{name}/weight_columns"), &weights, &[0, 2, 1]);
        let attended = self.b.push("MatMul", &format!("{name}/attended"), &[&value, &weights], Vec::new());
        Ok(self.b.reshape(name, &attended, &[0, channels, height, width]))
    }

    /// The nearest code, by squared distances without the part that all codes share; in f32, so that near codes stay
    /// apart.
    fn quantize(&mut self, name: &str, x: &str, codebook: &Tensor, shape: &[usize]) -> Result<String> {
        let [_, channels, height, width] = sizes(shape);
        let x = self.b.widen(&format!("{name}/wide"), x);
        let pixels = self.b.transpose(&format!("{name}/pixels"), &x, &[0, 2, 3, 1]);
        let rows = self.b.reshape(&format!("{name}/rows"), &pixels, &[-1, channels]);
        let codebook = codebook.to_dtype(DType::F32)?;
        let columns = self.b.tensor_f32(&format!("{name}/columns"), &codebook.t()?.affine(-2.0, 0.0)?)?;
        let squares = self.b.tensor_f32(&format!("{name}/squares"), &codebook.sqr()?.sum(1)?)?;
        let products = self.b.push("MatMul", &format!("{name}/products"), &[&rows, &columns], Vec::new());
        let distances = self.b.push("Add", &format!("{name}/distances"), &[&products, &squares], Vec::new());
        let attributes = vec![Attribute::int("axis", 1), Attribute::int("keepdims", 0)];
        let nearest = self.b.push("ArgMin", &format!("{name}/nearest"), &[&distances], attributes);
        let codes = self.b.tensor(&format!("{name}/codes"), &codebook)?;
        let chosen = self.b.push("Gather", &format!("{name}/chosen"), &[&codes, &nearest], Vec::new());
        let image = self.b.reshape(&format!("{name}/image"), &chosen, &[-1, height, width, channels]);
        Ok(self.b.transpose(name, &image, &[0, 3, 1, 2]))
    }
}

/// Batch, channels, height, width; 1 for what vectors do not have.
fn sizes(shape: &[usize]) -> [i64; 4] {
    [0, 1, 2, 3].map(|axis| shape.get(axis).map_or(1, |&size| size as i64))
}
