//! Feature networks in ONNX files, which users bring along, run by rten.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rten::{DataType, Dimension, LoadError, Model, RunError, Value, ValueType};

use super::{EvalError, resample};

/// Images that a network with an open batch gets at a time.
const BATCH: usize = 16;
/// The shape of the input, as messages give it.
const INPUT: &str = "N x 3 x S x S";

/// Why an ONNX file cannot compute features.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("the ONNX network cannot be run here: {0}")]
    Load(#[from] LoadError),
    #[error("has {inputs} inputs and {outputs} outputs, needs one of each: images and their features")]
    Ends { inputs: usize, outputs: usize },
    #[error("its input is {found}, needs {INPUT} in f32, with S as a number: export it for images of one size")]
    Input { found: String },
    #[error("takes {0} images at a time, needs an open batch or one image: export it with an open batch")]
    Batch(usize),
    #[error("cannot be run on {count} images of {side}x{side} pixels: {source}")]
    Run { count: usize, side: usize, source: RunError },
    #[error("its output for {count} images is {found}, needs {count} x D in f32")]
    Output { count: usize, found: String },
    #[error("its features of some images are not finite")]
    NotFinite,
}

fn at(path: &Path, source: OnnxError) -> EvalError {
    EvalError::Onnx { path: path.to_path_buf(), source: Box::new(source) }
}

/// A network with one input, N x 3 x S x S in RGB from 0 to 255, and one output, N x D.
pub struct FeatureNetwork {
    path: PathBuf,
    model: Model,
    /// S
    side: usize,
    /// Images at a time.
    batch: usize,
}

impl FeatureNetwork {
    /// From the bytes of the file at `path`.
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self, EvalError> {
        let open = || {
            let model = Model::load(bytes)?;
            let (batch, side) = input(&model)?;
            Ok(Self { path: path.to_path_buf(), model, side, batch })
        };
        open().map_err(|source| at(path, source))
    }

    /// Width and height of the images that it takes.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Of images (N, 3, H, W) from -1 to 1, resized with a bicubic filter: (N, D) in f32.
    pub fn features(&self, images: &Tensor) -> Result<Tensor, EvalError> {
        let pixels = ((images + 1.0)? * 127.5)?;
        let (_, _, height, width) = pixels.dims4()?;
        let pixels = match (height, width) == (self.side, self.side) {
            true => pixels,
            false => resample::apply(&pixels, |from| resample::bicubic(from, self.side))?.clamp(0.0, 255.0)?,
        };
        let mut features = Vec::new();
        for start in (0..pixels.dim(0)?).step_by(self.batch) {
            let count = self.batch.min(pixels.dim(0)? - start);
            let values = pixels.narrow(0, start, count)?.flatten_all()?.to_vec1::<f32>()?;
            let (width, values) = self.run(count, values).map_err(|source| at(&self.path, source))?;
            features.push(Tensor::from_vec(values, (count, width), &Device::Cpu)?);
        }
        Ok(Tensor::cat(&features, 0)?)
    }

    /// Of `count` images; the number of features and their values.
    fn run(&self, count: usize, pixels: Vec<f32>) -> Result<(usize, Vec<f32>), OnnxError> {
        let side = self.side;
        let wrong = |found: String| OnnxError::Output { count, found };
        let images = Value::from_shape([count, 3, side, side], pixels).map_err(|error| wrong(error.to_string()))?;
        let features = self.model.run_one(images.into(), None);
        let features = features.map_err(|source| OnnxError::Run { count, side, source })?;
        let features = features.into_shape_vec::<f32, 2>().map_err(|error| wrong(error.to_string()))?;
        let ([rows, width], values) = features;
        if rows != count || width == 0 {
            return Err(wrong(format!("{rows} x {width}")));
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(OnnxError::NotFinite);
        }
        Ok((width, values))
    }
}

/// How many images of which size a model takes at a time.
fn input(model: &Model) -> Result<(usize, usize), OnnxError> {
    let (&[id], &[_]) = (model.input_ids(), model.output_ids()) else {
        return Err(OnnxError::Ends { inputs: model.input_ids().len(), outputs: model.output_ids().len() });
    };
    let node = model.node_info(id);
    let shape = node.as_ref().and_then(rten::NodeInfo::shape).unwrap_or_default();
    let of_floats = node.and_then(|node| node.dtype()) == Some(ValueType::Tensor(DataType::Float));
    match shape.as_slice() {
        [batch, Dimension::Fixed(3), Dimension::Fixed(height), Dimension::Fixed(width)]
            if of_floats && height == width && *height > 0 =>
        {
            match batch {
                Dimension::Symbolic(_) => Ok((BATCH, *height)),
                Dimension::Fixed(1) => Ok((1, *height)),
                Dimension::Fixed(count) => Err(OnnxError::Batch(*count)),
            }
        }
        _ => Err(OnnxError::Input { found: describe(&shape, of_floats) }),
    }
}

fn describe(shape: &[Dimension], of_floats: bool) -> String {
    let size = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => size.to_string(),
        Dimension::Symbolic(name) => name.clone(),
    };
    let shape = match shape {
        [] => "of no known shape".to_string(),
        shape => shape.iter().map(size).collect::<Vec<_>>().join(" x "),
    };
    if of_floats { shape } else { format!("{shape}, not in f32") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::builder::Builder;
    use crate::export::proto::{Attribute, Dimension as Size, Graph, Model as File, ValueInfo};
    use candle_core::DType;

    /// A network that takes images of 8 x 8 pixels to the mean of each channel; `change` breaks it.
    fn network(change: impl FnOnce(&mut Graph)) -> Vec<u8> {
        let mut builder = Builder::new("means", DType::F32);
        let image = builder.input("image", &[1, 3, 8, 8]);
        let means = builder.push("GlobalAveragePool", "means", &[&image], Vec::new());
        let rows = builder.push("Flatten", "rows", &[&means], vec![Attribute::int("axis", 1)]);
        builder.output("features", &rows, &[1, 3]);
        let mut graph = builder.finish();
        change(&mut graph);
        File::new(graph, "").to_bytes()
    }

    fn open(bytes: Vec<u8>) -> Result<FeatureNetwork, EvalError> {
        FeatureNetwork::from_bytes(bytes, Path::new("means.onnx"))
    }

    fn sizes(graph: &mut Graph) -> &mut Vec<Size> {
        let input = graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        &mut input.shape.as_mut().unwrap().dim
    }

    fn fixed(size: i64) -> Size {
        Size { dim_value: Some(size), dim_param: None }
    }

    /// Plain colours stay what they are at any size, in RGB from 0 to 255, and batches are put together in order.
    #[test]
    fn images_arrive_as_numbers_from_0_to_255() {
        let colours: Vec<[f32; 3]> = (0..20).map(|i| [10.0 * i as f32, 255.0, 255.0 - i as f32]).collect();
        let flat = Tensor::new(colours.as_flattened(), &Device::Cpu).unwrap().affine(1.0 / 127.5, -1.0).unwrap();
        let one_at_a_time = network(|graph| sizes(graph)[0] = fixed(1));
        for (bytes, size) in [(network(|_| ()), 8), (network(|_| ()), 13), (one_at_a_time, 5)] {
            let images = flat.reshape((20, 3, 1, 1)).unwrap().broadcast_as((20, 3, size, size)).unwrap();
            let found = open(bytes).unwrap().features(&images).unwrap().to_vec2::<f32>().unwrap();
            let errors = found.iter().flatten().zip(colours.iter().flatten()).map(|(a, b)| (a - b).abs());
            assert!(found.len() == 20 && errors.fold(0.0, f32::max) < 1e-3, "{size}: {found:?}");
        }
    }

    #[test]
    fn networks_of_other_shapes_are_refused() {
        let refused = |change: fn(&mut Graph)| match open(network(change)) {
            Err(EvalError::Onnx { path, source }) if path == Path::new("means.onnx") => *source,
            other => panic!("{:?}", other.err()),
        };
        let symbolic = |name: &str| Size { dim_value: None, dim_param: Some(name.to_string()) };
        assert!(matches!(refused(|graph| sizes(graph)[0] = fixed(4)), OnnxError::Batch(4)));
        assert!(matches!(refused(|graph| sizes(graph)[1] = fixed(1)), OnnxError::Input { .. }));
        assert!(matches!(refused(|graph| sizes(graph)[3] = fixed(9)), OnnxError::Input { .. }));
        assert!(matches!(refused(|graph| sizes(graph).truncate(3)), OnnxError::Input { .. }));
        let more = |graph: &mut Graph| {
            let means = ValueInfo { name: "means".to_string(), ..graph.output[0].clone() };
            graph.output.push(means);
        };
        assert!(matches!(refused(more), OnnxError::Ends { inputs: 1, outputs: 2 }));
        let error = open(network(|graph| {
            sizes(graph)[2] = symbolic("height");
            sizes(graph)[3] = symbolic("width");
        }));
        let error = error.err().unwrap().to_string();
        assert!(error.contains("means.onnx") && error.contains("3 x height x width"), "{error}");
    }

    #[test]
    fn outputs_of_other_shapes_are_refused() {
        let images = Tensor::full(-1f32, (2, 3, 8, 8), &Device::Cpu).unwrap();
        let error = |bytes: Vec<u8>| match open(bytes).unwrap().features(&images) {
            Err(EvalError::Onnx { source, .. }) => *source,
            other => panic!("{other:?}"),
        };
        // N x 3 x 1 x 1.
        let unflattened = network(|graph| {
            graph.node.retain(|node| node.op_type != "Flatten");
            graph.node[1].input = vec!["means".to_string()];
        });
        let found = error(unflattened);
        assert!(matches!(found, OnnxError::Output { count: 2, .. }), "{found}");
        // All images in one row.
        let joined = network(|graph| graph.node[1].attribute = vec![Attribute::int("axis", 0)]);
        let found = error(joined).to_string();
        assert_eq!(found, "its output for 2 images is 1 x 6, needs 2 x D in f32");
        // The logarithm of black.
        let infinite = network(|graph| graph.node[2].op_type = "Log".to_string());
        assert!(matches!(error(infinite), OnnxError::NotFinite));
    }

    #[test]
    fn broken_files_are_refused() {
        let whole = network(|_| ());
        for end in 0..whole.len() {
            // Cut between two parts it may be a smaller network, whose ends are missing.
            if let Ok(network) = open(whole[..end].to_vec()) {
                assert_eq!(network.side(), 8);
            }
        }
        let error = open(b"no network at all".to_vec()).err().unwrap().to_string();
        assert!(error.starts_with("means.onnx: the ONNX network"), "{error}");
    }
}
