//! Every operation against Candle over awkward shapes, and the shipped models.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{check_values, model, normal, values};
use lddgan::Executor as _;
use lddgan::backend::{Activation, Backend, CandleBackend, FirMode};
use lddgan::graph::Recorder;
use lddgan::layers::{Conv2d, ConvGeometry, GroupNorm, Linear};
use lddgan::model::NamedNoise;
use lddgan_cpu::{Algorithm, Executor, instruction_sets};
use pollster::block_on;

/// Computes an expression in a backend and values under Candle and the executor, with all instruction sets, and compares.
macro_rules! check {
    ($label:expr, $inputs:expr, |$b:ident, $x:ident| $compute:expr) => {{
        let inputs: Vec<Tensor> = $inputs;
        let expected = {
            let ($b, $x) = (&mut CandleBackend, &inputs);
            $compute.unwrap()
        };
        let mut recorder = Recorder::new();
        let names: Vec<String> = (0..inputs.len()).map(|i| i.to_string()).collect();
        let nodes: Vec<_> = inputs.iter().zip(&names).map(|(x, name)| recorder.input(name, x.dims())).collect();
        let y = {
            let ($b, $x) = (&mut recorder, &nodes);
            $compute.unwrap()
        };
        recorder.output("y", y);
        let graph = recorder.finish();
        let numbers: Vec<Vec<f32>> = inputs.iter().map(values).collect();
        for arch in instruction_sets() {
            let mut executor = Executor::with_options(&graph, arch, &Algorithm::estimated).unwrap();
            executor.run(names.iter().map(String::as_str).zip(numbers.iter().map(Vec::as_slice))).unwrap();
            assert_eq!(executor.shape("y").unwrap(), expected.dims(), "{}", $label);
            check_values(&block_on(executor.read("y")).unwrap(), &values(&expected), &format!("{}, {arch:?}", $label));
        }
    }};
}

const ACTIVATIONS: [Activation; 4] = [Activation::Identity, Activation::Silu, Activation::Tanh, Activation::LeakyRelu];

/// Batch, channels, height, width.
const IMAGES: [[usize; 4]; 6] =
    [[1, 4, 4, 4], [2, 3, 5, 7], [5, 6, 1, 9], [1, 13, 3, 2], [2, 32, 16, 16], [3, 20, 6, 4]];

fn linear(inputs: usize, outputs: usize) -> Linear {
    let weight = normal("weight", &[outputs, inputs]).affine((inputs as f64).sqrt().recip(), 0.0).unwrap();
    Linear { weight, bias: normal("bias", &[outputs]) }
}

#[test]
fn linear_layers() {
    for (rows, inputs, outputs) in [(1, 3, 5), (4, 100, 70), (17, 16, 33)] {
        for activation in ACTIVATIONS {
            let layer = linear(inputs, outputs);
            let x = vec![normal("x", &[rows, inputs])];
            check!(format!("{rows} rows, {activation:?}"), x, |b, x| b.linear(&x[0], &layer, activation));
        }
    }
}

#[test]
fn norms() {
    for shape in IMAGES {
        let channels = shape[1];
        for groups in (1..=channels).filter(|groups| channels % groups == 0) {
            for activation in ACTIVATIONS {
                let norm = GroupNorm { weight: normal("w", &[channels]), bias: normal("b", &[channels]), groups };
                // With a mean that a sum of squares would lose.
                let x = || normal("x", &shape).affine(1.0, 30.0).unwrap();
                check!(format!("{shape:?}, {groups}"), vec![x()], |b, x| b.group_norm(&x[0], &norm, activation));
                let style = normal("style", &[shape[0], 2 * channels]);
                check!(format!("adaptive {shape:?}, {groups}"), vec![x(), style], |b, x| {
                    b.adaptive_group_norm(&x[0], &x[1], groups, activation)
                });
            }
        }
    }
}

/// What makes the styles of several steps is computed once, where others read the same inputs too.
#[test]
#[allow(clippy::clone_on_copy, reason = "a value is a tensor under Candle")]
fn styles() {
    let (mapping, heads) = (linear(10, 14), [linear(14, 40), linear(14, 12)]);
    let inputs = vec![normal("x", &[3, 20, 4, 4]), normal("z1", &[3, 10]), normal("z2", &[3, 10])];
    check!("two steps", inputs, |b, x| {
        let mut y = x[0].clone();
        for z in &x[1..] {
            let normal = b.pixel_norm(z).unwrap();
            let hidden = b.linear(&normal, &mapping, Activation::Silu).unwrap();
            let style = b.linear(&hidden, &heads[0], Activation::Identity).unwrap();
            y = b.adaptive_group_norm(&y, &style, 5, Activation::Silu).unwrap();
        }
        let bias = b.linear(&x[1], &linear(10, 20), Activation::Tanh).unwrap();
        b.add_per_channel(&y, &bias)
    });
}

#[test]
fn pointwise_operations() {
    for shape in IMAGES {
        let inputs = || ["a", "b", "c"].map(|name| normal(name, &shape)).to_vec();
        let label = format!("{shape:?}");
        for activation in ACTIVATIONS {
            check!(label, inputs(), |b, x| b.activate(&x[0], activation));
        }
        check!(label, inputs(), |b, x| b.weighted_sum(&[(0.3, &x[0]), (-2.0, &x[1]), (1.0, &x[2])]));
        check!(label, inputs(), |b, x| b.multiply(&x[0], &x[1]));
        check!(label, inputs(), |b, x| {
            let product = b.multiply(&x[0], &x[1]).unwrap();
            b.weighted_sum(&[(1.0, &product), (1.0, &x[2])])
        });
        let vectors = || vec![normal("a", &shape), normal("b", &shape), normal("bias", &shape[..2])];
        check!(label, vectors(), |b, x| b.add_per_channel(&x[0], &x[2]));
        check!(label, vectors(), |b, x| {
            let product = b.multiply(&x[0], &x[1]).unwrap();
            b.add_per_channel(&product, &x[2])
        });
        check!(label, vectors(), |b, x| b.pixel_norm(&x[2]));
        check!(label, inputs(), |b, x| b.sum_pixels(&x[0]));
        check!(label, inputs(), |b, x| b.concat(&x[0], &x[1]));
    }
    check!("a batch of groups", vec![normal("x", &[8, 18, 3, 2])], |b, x| b.minibatch_stddev(&x[0]));
    check!("a group", vec![normal("x", &[3, 16, 3, 2])], |b, x| b.minibatch_stddev(&x[0]));
}

#[test]
fn resampling_and_rearranging() {
    for shape in IMAGES {
        let label = format!("{shape:?}");
        let x = || vec![normal("x", &shape)];
        check!(label, x(), |b, x| b.fir(&x[0], FirMode::Upsample));
        check!(label, x(), |b, x| b.fir(&x[0], FirMode::Smooth));
        for factor in [2, 3] {
            check!(label, x(), |b, x| b.upsample_nearest(&x[0], factor));
            let [n, c, h, w] = shape;
            let deep = vec![normal("x", &[n, c * factor * factor, h, w])];
            check!(label, deep, |b, x| b.depth_to_space(&x[0], factor));
        }
        let bands = ["ll", "lh", "hl", "hh"].map(|name| normal(name, &shape)).to_vec();
        check!(label, bands, |b, x| b.inverse_haar([&x[0], &x[1], &x[2], &x[3]]));
        let [n, c, h, w] = shape;
        let even = || vec![normal("x", &[n, c, 2 * h, 2 * w])];
        check!(label, even(), |b, x| b.fir(&x[0], FirMode::Downsample));
        check!(label, even(), |b, x| b.pool(&x[0], [0.5, -0.25, 1.5, 2.0]));
    }
}

#[test]
fn attention() {
    let conv = |name: &str, channels: usize| Conv2d {
        weight: normal(name, &[channels, channels, 1, 1]).affine((channels as f64).sqrt().recip(), 0.0).unwrap(),
        bias: Some(normal("bias", &[channels])),
        geometry: ConvGeometry::same(1),
    };
    for shape in IMAGES {
        let inputs = || ["q", "k", "v"].map(|name| normal(name, &shape)).to_vec();
        check!(format!("{shape:?}"), inputs(), |b, x| b.attention(&x[0], &x[1], &x[2]));
        let projections = ["q", "k", "v"].map(|name| conv(name, shape[1]));
        check!(format!("projected {shape:?}"), inputs(), |b, x| {
            let [q, k, v] = projections.each_ref().map(|conv| b.conv2d(&x[0], conv).unwrap());
            b.attention(&q, &k, &v)
        });
    }
}

#[test]
fn quantization() {
    for (shape, codes) in [([1, 4, 4, 4], 1), ([2, 3, 5, 3], 37), ([5, 18, 8, 8], 512)] {
        // Near a code, so that rounding cannot decide between two.
        let codebook = normal("codebook", &[codes, shape[1]]);
        let picks: Vec<u32> = (0..shape[0] * shape[2] * shape[3]).map(|i| (i * 17 % codes) as u32).collect();
        let picks = Tensor::new(picks, &Device::Cpu).unwrap();
        let x = codebook.index_select(&picks, 0).unwrap().reshape((shape[0], shape[2], shape[3], shape[1])).unwrap();
        let x = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
        let x = (x + normal("near", &shape).affine(1e-3, 0.0).unwrap()).unwrap();
        check!(format!("{codes} codes {shape:?}"), vec![x], |b, x| b.quantize(&x[0], &codebook));
    }
    // Two codes at exactly the same distance: the first.
    let codebook = Tensor::new(&[[9f32, 9.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], &Device::Cpu).unwrap();
    let x = Tensor::zeros((1, 2, 1, 1), DType::F32, &Device::Cpu).unwrap();
    check!("a tie", vec![x.clone()], |b, x| b.quantize(&x[0], &codebook));
    // The same in different vectors: code 16 is in an earlier lane than code 7.
    let code = |i: usize| match i {
        7 => [1f32, 0.0],
        16 | 23 => [-1.0, 0.0],
        _ => [9.0, 9.0],
    };
    let codebook = Tensor::from_vec((0..33).flat_map(code).collect(), (33, 2), &Device::Cpu).unwrap();
    check!("a tie of vectors", vec![x], |b, x| b.quantize(&x[0], &codebook));
}

#[test]
fn what_depends_on_no_input() {
    let constant = normal("constant", &[2, 6, 4, 4]);
    check!("a constant and an input", vec![normal("x", &[2, 5, 4, 4])], |b, x| {
        let constant = b.constant(&constant).unwrap();
        let constant = b.activate(&constant, Activation::Silu).unwrap();
        b.concat(&constant, &x[0])
    });
}

#[test]
fn shipped_models_make_the_images_of_candle() {
    for name in ["faces64", "faces256"] {
        let model = model(name);
        let seeds = [1u64, 2];
        let expected = model.sample_seeds(&seeds, &Device::Cpu).unwrap();
        let noise = model.draw(&seeds);
        let mut executor = Executor::new(&model.record(seeds.len()).unwrap()).unwrap();
        executor.run(noise.iter().map(NamedNoise::as_input)).unwrap();
        for (t, latent) in model.levels().iter().zip(&expected.latents) {
            let found = block_on(executor.read(&format!("latent/{t}"))).unwrap();
            check_values(&found, &values(latent), &format!("{name}, latent/{t}"));
        }
        let latent = block_on(executor.read("latent/0")).unwrap();
        let latent = Tensor::from_vec(latent, expected.latents[0].dims(), &Device::Cpu).unwrap();
        // From the executor's latent, because one that lies between two codes may fall to either by rounding.
        let image = values(&model.decode(&mut CandleBackend, &latent).unwrap());
        let found = block_on(executor.read("image")).unwrap();
        let squares = found.iter().zip(&image).map(|(found, expected)| f64::from(found - expected).powi(2));
        let error = squares.sum::<f64>() / found.len() as f64;
        let decibels = 10.0 * (4.0 / error).log10();
        println!("{name}: {decibels:.1} dB");
        assert!(decibels > 60.0, "{name}: {decibels} dB");
    }
}
