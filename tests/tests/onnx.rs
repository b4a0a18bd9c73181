//! Exported ONNX files, run by rten, a runtime that shares no code with the networks' crate, against Candle.

use candle_core::{DType, Device, Tensor};
use lddgan::parameters::TensorMap;
use lddgan::{CandleBackend, ModelFile, NetworkName};
use lddgan_tests::{Tolerance, configs, normal, random_model_file, values};
use lddgan_trainer::backend::{BackendName, Dtype};
use lddgan_trainer::export::onnx;
use lddgan_trainer::network;
use rten::{Model, Value};

/// The model's own weights are f16 already. What an f16 file rounds beside them are a few constants; rten computes in
/// f32 all the same.
const TOLERANCES: [(Dtype, Tolerance); 2] =
    [(Dtype::F32, Tolerance::Absolute(1e-4)), (Dtype::F16, Tolerance::Absolute(2e-2))];

/// Runs an ONNX file on the inputs that it asks for; shape and values of the image that comes out.
fn run(bytes: &[u8], inputs: &TensorMap, output: &str) -> ([usize; 4], Vec<f32>) {
    let model = Model::load(bytes.to_vec()).unwrap_or_else(|error| panic!("the file does not load: {error}"));
    let input = |&id: &rten::NodeId| {
        let node = model.node_info(id).unwrap();
        let tensor = &inputs[node.name().unwrap()];
        // rten takes 64-bit integers as 32-bit ones.
        let value = match tensor.dtype() {
            DType::I64 => {
                let integers = tensor.to_vec1::<i64>().unwrap().into_iter().map(|t| t as i32);
                Value::from_shape(tensor.dims(), integers.collect::<Vec<_>>()).unwrap()
            }
            _ => Value::from_shape(tensor.dims(), values(tensor)).unwrap(),
        };
        (id, value.into())
    };
    let inputs = model.input_ids().iter().map(input).collect();
    let [output] = model.run_n(inputs, [model.node_id(output).unwrap()], None).unwrap();
    output.into_shape_vec().unwrap()
}

/// Compares both networks of a model, for batches of one and three, with what `lddgan run` computes.
fn check(name: &str, file: &ModelFile) {
    let generator = file.config.generator.as_ref().unwrap();
    let autoencoder = file.config.autoencoder.as_ref().unwrap();
    let decoder = file.decoder("random", &Device::Cpu).unwrap();
    for (dtype, tolerance) in TOLERANCES {
        let files = onnx(file, "random", dtype).unwrap();
        assert_eq!(
            files.iter().map(|file| file.network).collect::<Vec<_>>(),
            [NetworkName::Generator, NetworkName::Decoder]
        );
        for batch in [1, 3] {
            let x = normal("x", &[batch, generator.latent_channels, generator.latent_size, generator.latent_size]);
            let t = Tensor::arange(1, batch as i64 + 1, &Device::Cpu).unwrap();
            let z = normal("z", &[batch, generator.z_dim]);
            let size = autoencoder.latent_size();
            let latent = normal("latent", &[batch, autoencoder.latent_channels, size, size]);
            // Near a code, so that rounding cannot decide between two.
            let near = normal("near", latent.dims()).affine(1e-3, 0.0).unwrap();
            let latent = (decoder.quantize(&mut CandleBackend, &latent).unwrap() + near).unwrap();
            let inputs = [("x", x), ("t", t), ("z", z), ("latent", latent)];
            let inputs: TensorMap = inputs.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect();
            let networks = [(NetworkName::Generator, "x0"), (NetworkName::Decoder, "image")];
            for (onnx, (network, output)) in files.iter().zip(networks) {
                let expected = network::run(file, "random", network, &inputs, BackendName::Candle, true).unwrap();
                let (shape, found) = run(&onnx.bytes, &inputs, output);
                let label = format!("{name}, {output}, batch {batch}, {dtype:?}");
                assert_eq!(shape, expected[output].dims(), "{label}");
                tolerance.check(&found, &values(&expected[output]), &shape, &label);
            }
        }
    }
}

#[test]
fn exported_networks_agree_with_candle() {
    for (name, config) in configs() {
        check(name, &random_model_file(&config, 8).unwrap());
    }
}

#[test]
fn files_without_networks_for_images_are_refused() {
    let mut file = random_model_file(&configs()[0].1, 8).unwrap();
    (file.config.generator, file.config.autoencoder) = (None, None);
    let error = onnx(&file, "model.safetensors", Dtype::F32).err().unwrap().to_string();
    assert_eq!(error, "model.safetensors: holds neither a generator nor an autoencoder to export");
}
