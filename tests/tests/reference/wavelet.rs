//! WaveDiff's wavelets: the transform of images, on the CPU and through WebGPU, and the blocks of the generator.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use lddgan::backend::{Activation, Backend, CandleBackend};
use lddgan::networks::{Condition, ResidualBlock, WaveletDown, WaveletPyramid, WaveletUp};
use lddgan::parameters::{Parameters, TensorMap};
use lddgan::{AutoencoderConfig, ModelFile, NetworkName, Provenance};
use lddgan_trainer::import::names::{self, Conversion};
use lddgan_trainer::preset::Preset;

use crate::recorded::{BACKENDS, OUTPUTS, TRAINING, check, kept, large, recorded, run};

/// The transform of images with so many channels, as a model file without tensors.
fn transform(order: &str, image_channels: usize) -> ModelFile {
    let config = serde_json::json!({
        "kind": "haar", "image_channels": image_channels, "image_size": 16, "latent_channels": 4 * image_channels,
        "band_order": order,
    });
    let config: AutoencoderConfig = serde_json::from_value(config).unwrap();
    let config = lddgan::FileConfig { autoencoder: Some(config), ..Default::default() };
    ModelFile { config, provenance: Provenance::default(), tensors: TensorMap::new() }
}

/// The reference halves coefficients after the transform and doubles them before its inverse.
#[test]
fn transform_of_images() {
    let io = recorded(&kept("wavediff/wavelet"));
    for (order, recorded) in [("lh-first", "lh_first"), ("hl-first", "hl_first")] {
        let (colours, grey) = (transform(order, 3), transform(order, 1));
        for backend in BACKENDS {
            let label = |what: &str| format!("{what}, {order}, {backend:?}");
            let analyse = |file: &ModelFile, x: &Tensor| run(file, NetworkName::Encoder, &[("x", x)], backend);
            let found = analyse(&colours, &io["x"]).remove("latent").unwrap().affine(0.5, 0.0).unwrap();
            check(&label("coefficients"), &found, &io[&format!("coefficients_{recorded}")], 1e-6);
            let found = analyse(&grey, &io["block"]).remove("latent").unwrap();
            check(&label("one block"), &found, &io[&format!("block_{recorded}")], 1e-6);
            let latent = io["coefficients_in"].affine(2.0, 0.0).unwrap();
            let image = run(&colours, NetworkName::Decoder, &[("latent", &latent)], backend).remove("image").unwrap();
            check(&label("image"), &image, &io[&format!("image_unclamped_{recorded}")], 1e-6);
            let shown = image.clamp(-1f32, 1f32).unwrap().affine(0.5, 0.5).unwrap();
            check(&label("picture"), &shown, &io[&format!("image_{recorded}")], 1e-6);
        }
    }
}

/// What was recorded of one block: values by name.
struct Block(TensorMap);

impl Block {
    fn open(name: &str) -> Self {
        let io = recorded(&large("wavediff/blocks"));
        let own =
            |(key, tensor): (String, Tensor)| Some((key.strip_prefix(name)?.strip_prefix('/')?.to_string(), tensor));
        Self(io.into_iter().filter_map(own).collect())
    }

    fn var(&self, name: &str) -> Var {
        Var::from_tensor(&self.0[name]).unwrap()
    }

    /// The authors' name and conversion of each parameter, which has its name under `prefix` in the generator.
    fn sources(&self, parameters: &Parameters, prefix: &str) -> BTreeMap<String, (String, Conversion)> {
        let config = Preset::load("wavediff-stl10").unwrap().generator;
        let source = |ours: String| {
            let source = names::generator(&config, &format!("{prefix}.{ours}")).unwrap();
            // all_modules, number of the module, layer
            let layer = source.name.splitn(3, '.').nth(2).unwrap().to_string();
            (ours, (layer, source.conversion))
        };
        parameters.vars().into_iter().map(|(ours, _)| source(ours)).collect()
    }

    /// Loads the parameters, computes, and compares outputs and all gradients.
    fn check(&self, parameters: &Parameters, prefix: &str, inputs: &[&str], compute: impl Fn(&[Var]) -> Outputs) {
        let sources = self.sources(parameters, prefix);
        let convert = |(ours, (layer, conversion)): (&String, &(String, Conversion))| {
            (ours.clone(), conversion.apply(&self.0[&format!("param/{layer}")]).unwrap())
        };
        parameters.load(&sources.iter().map(convert).collect(), prefix).unwrap();
        let vars: Vec<Var> = inputs.iter().map(|name| self.var(name)).collect();
        let outputs = compute(&vars);
        let mut loss = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu).unwrap();
        for (name, output) in outputs {
            check(name, &output, &self.0[name], OUTPUTS);
            let weighted = (output * &self.0[&format!("cotangent/{name}")]).unwrap();
            loss = (loss + weighted.sum_all().unwrap()).unwrap();
        }
        let gradients = loss.backward().unwrap();
        for (name, var) in inputs.iter().zip(&vars) {
            check(&format!("grad/{name}"), gradients.get(var).unwrap(), &self.0[&format!("grad/{name}")], TRAINING);
        }
        for (ours, var) in parameters.vars() {
            let (layer, conversion) = &sources[&ours];
            let expected = &self.0[&format!("grad/param/{layer}")];
            // The one that is moved out of the bias has no gradient.
            let expected =
                if *conversion == Conversion::Style { expected.clone() } else { conversion.apply(expected).unwrap() };
            check(&format!("grad/param/{layer}"), gradients.get(&var).unwrap(), &expected, TRAINING);
        }
    }
}

type Outputs = Vec<(&'static str, Tensor)>;

const WIDTHS: Condition<usize> = Condition { time: 10, z: 6 };

/// From the time embedding and the mapped z.
fn condition(time: &Tensor, z: &Tensor) -> Condition<Tensor> {
    Condition { time: CandleBackend.activate(time, Activation::Silu).unwrap(), z: z.clone() }
}

#[test]
#[ignore = "not run: set LDDGAN_FIXTURES"]
fn large_blocks() {
    for (name, inputs) in [("wavelet_resblock_same", 8), ("wavelet_resblock_change", 12)] {
        let parameters = Parameters::new(0, &Device::Cpu);
        let block = ResidualBlock::new(parameters.var_builder(), &WIDTHS, inputs, 8, None).unwrap();
        Block::open(name).check(&parameters, "middle.block1", &["x", "temb", "zemb"], |x| {
            vec![("y", block.forward(&mut CandleBackend, &x[0], &condition(&x[1], &x[2])).unwrap())]
        });
    }
    let parameters = Parameters::new(0, &Device::Cpu);
    let block = WaveletDown::new(parameters.var_builder(), &WIDTHS, 8).unwrap();
    Block::open("wavelet_resblock_down").check(&parameters, "down.0.downsample", &["x", "temb", "zemb"], |x| {
        let (y, bands) = block.forward(&mut CandleBackend, &x[0], &condition(&x[1], &x[2])).unwrap();
        // Ours are half of the recorded ones.
        let [lh, hl, hh] = bands.map(|band| band.affine(2.0, 0.0).unwrap());
        vec![("y", y), ("high_lh", lh), ("high_hl", hl), ("high_hh", hh)]
    });
    let parameters = Parameters::new(0, &Device::Cpu);
    let block = WaveletUp::new(parameters.var_builder(), &WIDTHS, 12, 8).unwrap();
    let inputs = ["x", "temb", "zemb", "high_lh", "high_hl", "high_hh"];
    Block::open("wavelet_resblock_up").check(&parameters, "up.1.upsample", &inputs, |x| {
        let bands = [&x[3], &x[4], &x[5]].map(|band| band.affine(0.5, 0.0).unwrap());
        vec![("y", block.forward(&mut CandleBackend, &x[0], &bands, &condition(&x[1], &x[2])).unwrap())]
    });
    let parameters = Parameters::new(0, &Device::Cpu);
    let pyramid = WaveletPyramid::new(parameters.var_builder(), 8, 12).unwrap();
    Block::open("haar_conv3x3").check(&parameters, "down.0.pyramid", &["x"], |x| {
        vec![("y", pyramid.forward(&mut CandleBackend, &x[0]).unwrap())]
    });
}
