//! Every operation over awkward shapes.

use candle_core::{DType, Device, Tensor};
use lddgan::backend::{Activation, Backend, CandleBackend, FirMode};
use lddgan::graph::Recorder;
use lddgan::layers::{Conv2d, ConvGeometry, GroupNorm, Linear};
use lddgan_tests::normal;

use super::*;

const ACTIVATIONS: [Activation; 4] = [Activation::Identity, Activation::Silu, Activation::Tanh, Activation::LeakyRelu];

/// Batch, channels, height, width.
const IMAGES: [[usize; 4]; 5] = [[1, 4, 4, 4], [2, 3, 5, 7], [5, 6, 1, 9], [1, 13, 3, 2], [2, 32, 16, 16]];

fn conv(inputs: usize, outputs: usize, geometry: ConvGeometry, bias: bool) -> Conv2d {
    let kernel = geometry.kernel;
    let spread = ((inputs * kernel * kernel) as f64).sqrt().recip();
    Conv2d {
        weight: normal("weight", &[outputs, inputs, kernel, kernel]).affine(spread, 0.0).unwrap(),
        bias: bias.then(|| normal("bias", &[outputs])),
        geometry,
    }
}

fn geometry(kernel: usize, stride: usize, pad_before: usize, pad_after: usize) -> ConvGeometry {
    ConvGeometry { kernel, stride, pad_before, pad_after }
}

#[test]
fn convolutions() {
    let gpu = gpu();
    let geometries = [
        ConvGeometry::same(1),
        ConvGeometry::same(3),
        ConvGeometry::same(5),
        geometry(3, 2, 0, 0),
        geometry(3, 2, 0, 1),
        geometry(3, 1, 2, 1),
        geometry(4, 1, 1, 2),
        geometry(4, 2, 1, 1),
        ConvGeometry::patch(2),
        ConvGeometry::patch(4),
    ];
    for geometry in geometries {
        for (shape, outputs) in [([1, 3, 8, 8], 5), ([2, 5, 7, 9], 8), ([5, 8, 4, 12], 1), ([1, 64, 9, 6], 67)] {
            let conv = conv(shape[1], outputs, geometry, outputs != 8);
            let label = format!("{geometry:?} of {shape:?} to {outputs}");
            check!(gpu, label, vec![normal("x", &shape)], |b, x| b.conv2d(&x[0], &conv));
        }
    }
}

#[test]
fn convolutions_with_what_is_fused_into_them() {
    let gpu = gpu();
    for [n, c, h, w] in IMAGES {
        let shape = [n, c, h, w];
        let conv = conv(c, c, ConvGeometry::same(3), true);
        let time = normal("time", &[n, c]);
        let inputs = || vec![normal("x", &shape), normal("residual", &shape)];
        check!(gpu, format!("bias and residual {shape:?}"), inputs(), |b, x| {
            let time = b.constant(&time).unwrap();
            let y = b.conv2d(&x[0], &conv).unwrap();
            let y = b.add_per_channel(&y, &time).unwrap();
            let y = b.weighted_sum(&[(0.3, &x[1]), (-0.7, &y)]).unwrap();
            b.activate(&y, Activation::Tanh)
        });
        check!(gpu, format!("both terms convolutions {shape:?}"), inputs(), |b, x| {
            let y = b.conv2d(&x[0], &conv).unwrap();
            let z = b.conv2d(&x[1], &conv).unwrap();
            b.weighted_sum(&[(0.3, &y), (0.4, &z)])
        });
        check!(gpu, format!("a result that is used twice {shape:?}"), inputs(), |b, x| {
            let y = b.conv2d(&x[0], &conv).unwrap();
            let z = b.activate(&y, Activation::Silu).unwrap();
            b.weighted_sum(&[(0.5, &y), (2.0, &z)])
        });
        check!(gpu, format!("activation before a sum {shape:?}"), inputs(), |b, x| {
            let y = b.conv2d(&x[0], &conv).unwrap();
            let y = b.activate(&y, Activation::LeakyRelu).unwrap();
            b.weighted_sum(&[(0.5, &y), (2.0, &x[1])])
        });
        for factor in [2, 3] {
            check!(gpu, format!("upsampled {factor} {shape:?}"), vec![normal("x", &shape)], |b, x| {
                let y = b.upsample_nearest(&x[0], factor).unwrap();
                b.conv2d(&y, &conv)
            });
        }
    }
}

#[test]
fn linear_layers() {
    let gpu = gpu();
    for (n, inputs, outputs) in [(1, 1, 1), (2, 10, 14), (5, 64, 130), (3, 300, 7)] {
        let spread = (inputs as f64).sqrt().recip();
        let weight = normal("weight", &[outputs, inputs]).affine(spread, 0.0).unwrap();
        let linear = Linear { weight, bias: normal("bias", &[outputs]) };
        for activation in ACTIVATIONS {
            let label = format!("{n} of {inputs} to {outputs}, {activation:?}");
            check!(gpu, label, vec![normal("x", &[n, inputs])], |b, x| b.linear(&x[0], &linear, activation));
        }
    }
}

#[test]
fn group_norms() {
    let gpus = gpus();
    let small = [([1, 4, 4, 4], 1), ([2, 9, 5, 3], 3), ([5, 6, 1, 7], 6), ([1, 32, 16, 16], 8), ([2, 24, 9, 9], 2)];
    // Of so many pixels that several workgroups share a group.
    let large = [([2, 8, 50, 45], 2), ([1, 6, 40, 41], 3)];
    let cases = small.into_iter().chain(large);
    for ((shape, groups), gpu) in cases.flat_map(|case| gpus.iter().map(move |gpu| (case, gpu))) {
        let c = shape[1];
        let norm = GroupNorm { weight: normal("weight", &[c]), bias: normal("bias", &[c]), groups };
        // Far from zero, where a variance in one pass loses its digits.
        let x = || normal("x", &shape).affine(0.5, 20.0).unwrap();
        for activation in ACTIVATIONS {
            let label = format!("{shape:?} in {groups} groups, {activation:?}");
            check!(gpu, label, vec![x()], |b, x| b.group_norm(&x[0], &norm, activation));
            let style = normal("style", &[shape[0], 2 * c]);
            check!(gpu, format!("adaptive {label}"), vec![x(), style], |b, x| {
                b.adaptive_group_norm(&x[0], &x[1], groups, activation)
            });
        }
    }
}

#[test]
fn pointwise_operations() {
    let gpu = gpu();
    for shape in IMAGES {
        let inputs = || ["a", "b", "c"].map(|name| normal(name, &shape)).to_vec();
        for activation in ACTIVATIONS {
            let label = format!("{activation:?} {shape:?}");
            check!(gpu, label, inputs(), |b, x| b.activate(&x[0], activation));
        }
        check!(gpu, format!("one term {shape:?}"), inputs(), |b, x| b.weighted_sum(&[(-2.5, &x[0])]));
        check!(gpu, format!("two terms {shape:?}"), inputs(), |b, x| { b.weighted_sum(&[(0.5, &x[0]), (1.0, &x[1])]) });
        check!(gpu, format!("three terms {shape:?}"), inputs(), |b, x| {
            b.weighted_sum(&[(0.5, &x[2]), (1.5, &x[1]), (-1.0, &x[0])])
        });
        check!(gpu, format!("a term twice {shape:?}"), inputs(), |b, x| {
            b.weighted_sum(&[(0.5, &x[0]), (1.0, &x[0])])
        });
        let inputs = vec![normal("x", &shape), normal("bias", &shape[..2])];
        check!(gpu, format!("bias {shape:?}"), inputs, |b, x| b.add_per_channel(&x[0], &x[1]));
    }
}

#[test]
fn products() {
    let gpu = gpu();
    let shapes = IMAGES.iter().map(|shape| shape.to_vec());
    for shape in shapes.chain([vec![3, 10], vec![1, 1], vec![2, 256, 1, 1]]) {
        let label = |what: &str| format!("{what} {shape:?}");
        let inputs = || ["a", "b", "c"].map(|name| normal(name, &shape)).to_vec();
        check!(gpu, label("product"), inputs(), |b, x| b.multiply(&x[0], &x[1]));
        check!(gpu, label("square"), inputs(), |b, x| b.multiply(&x[0], &x[0]));
        let constant = normal("constant", &shape);
        // What is added to a product needs no dispatch.
        let dispatches = check!(gpu, label("product before a term"), inputs(), |b, x| {
            let factor = b.constant(&constant).unwrap();
            let y = b.multiply(&factor, &x[1]).unwrap();
            b.weighted_sum(&[(1.0, &y), (1.0, &x[2])])
        });
        assert_eq!(dispatches, 1);
        let dispatches = check!(gpu, label("product after a term"), inputs(), |b, x| {
            let y = b.multiply(&x[0], &x[1]).unwrap();
            b.weighted_sum(&[(1.0, &x[2]), (1.0, &y)])
        });
        assert_eq!(dispatches, 1);
        let dispatches = check!(gpu, label("a product with a factor"), inputs(), |b, x| {
            let y = b.multiply(&x[0], &x[1]).unwrap();
            b.weighted_sum(&[(1.0, &x[2]), (0.5, &y)])
        });
        assert_eq!(dispatches, 2);
        let dispatches = check!(gpu, label("a product that is used twice"), inputs(), |b, x| {
            let y = b.multiply(&x[0], &x[1]).unwrap();
            let z = b.weighted_sum(&[(1.0, &x[2]), (1.0, &y)]).unwrap();
            b.multiply(&y, &z)
        });
        assert_eq!(dispatches, 3);
        if shape.len() == 4 {
            let inputs = [&inputs()[..2], &[normal("bias", &shape[..2])]].concat();
            let dispatches = check!(gpu, label("product and bias"), inputs, |b, x| {
                let y = b.multiply(&x[0], &x[1]).unwrap();
                b.add_per_channel(&y, &x[2])
            });
            assert_eq!(dispatches, 1);
        }
    }
}

/// A latent's modes, and a latent of modes.
#[test]
fn convolutions_to_one_pixel() {
    let gpu = gpu();
    for (batch, channels, size, modes) in [(1, 16, 16, 256), (3, 3, 5, 10), (2, 4, 8, 5)] {
        let project = conv(channels, modes, ConvGeometry::patch(size), batch == 2);
        let expand = conv(modes, channels * size * size, ConvGeometry::same(1), true);
        let x = vec![normal("x", &[batch, channels, size, size])];
        let dispatches = check!(gpu, format!("{channels} channels, size {size}, {modes} modes"), x, |b, x| {
            let modes = b.conv2d(&x[0], &project).unwrap();
            let pixels = b.conv2d(&modes, &expand).unwrap();
            b.depth_to_space(&pixels, size)
        });
        assert_eq!(dispatches, 3);
    }
}

#[test]
fn activations_of_extreme_values() {
    let gpu = gpu();
    let extremes =
        [0f32, -0.0, 1e-30, -1e-4, 1e-4, 30.0, -30.0, 88.0, -89.0, 1e4, -1e4, 1e30, -1e30, f32::MAX, f32::MIN];
    for activation in ACTIVATIONS {
        let x = Tensor::new(&[extremes], &Device::Cpu).unwrap();
        check!(gpu, format!("{activation:?}"), vec![x], |b, x| b.activate(&x[0], activation));
    }
}

#[test]
fn resampling_and_rearranging() {
    let gpu = gpu();
    for shape in IMAGES {
        let x = || vec![normal("x", &shape)];
        let [.., h, w] = shape;
        for mode in [FirMode::Upsample, FirMode::Downsample, FirMode::Smooth] {
            if mode == FirMode::Downsample && (h % 2 == 1 || w % 2 == 1) {
                continue;
            }
            check!(gpu, format!("{mode:?} {shape:?}"), x(), |b, x| b.fir(&x[0], mode));
        }
        if h % 2 == 0 && w % 2 == 0 {
            let weights = [0.5, -1.0, 0.25, 2.0];
            check!(gpu, format!("blocks of {shape:?}"), x(), |b, x| b.pool(&x[0], weights));
        }
        let bands = ["ll", "lh", "hl", "hh"].map(|name| normal(name, &shape)).to_vec();
        check!(gpu, format!("bands {shape:?}"), bands, |b, x| b.inverse_haar([&x[0], &x[1], &x[2], &x[3]]));
        for factor in [1, 2, 3] {
            check!(gpu, format!("nearest {factor} {shape:?}"), x(), |b, x| b.upsample_nearest(&x[0], factor));
        }
        check!(gpu, format!("sum {shape:?}"), x(), |b, x| b.sum_pixels(&x[0]));
        for channels in [1, 3, 4, 6] {
            let other = normal("other", &[shape[0], channels, h, w]);
            check!(gpu, format!("{shape:?} with {channels}"), vec![normal("x", &shape), other], |b, x| {
                b.concat(&x[0], &x[1])
            });
        }
    }
    for (shape, factor) in [([1, 12, 4, 4], 2), ([2, 48, 3, 5], 4), ([5, 9, 1, 2], 3), ([1, 7, 2, 2], 1)] {
        check!(gpu, format!("depth to space {shape:?}"), vec![normal("x", &shape)], |b, x| {
            b.depth_to_space(&x[0], factor)
        });
    }
    for [n, c] in [[1, 1], [2, 10], [5, 130]] {
        check!(gpu, format!("pixel norm {c}"), vec![normal("x", &[n, c])], |b, x| b.pixel_norm(&x[0]));
    }
    let gpus = gpus();
    let shapes = [[1, 3, 2, 2], [2, 5, 4, 3], [4, 8, 4, 4], [8, 6, 3, 3]];
    for (shape, gpu) in shapes.into_iter().flat_map(|shape| gpus.iter().map(move |gpu| (shape, gpu))) {
        check!(gpu, format!("stddev {shape:?}"), vec![normal("x", &shape)], |b, x| b.minibatch_stddev(&x[0]));
    }
}

#[test]
fn attention() {
    let gpu = gpu();
    // The last one has more channels than one workgroup takes.
    for shape in [[1, 4, 4, 4], [2, 6, 3, 5], [5, 24, 1, 1], [1, 64, 8, 8], [2, 36, 7, 11], [1, 300, 5, 3]] {
        // Logits with a spread that makes the softmax sharp.
        let inputs = ["q", "k", "v"].map(|name| normal(name, &shape).affine(2.0, 0.0).unwrap()).to_vec();
        check!(gpu, format!("{shape:?}"), inputs, |b, x| b.attention(&x[0], &x[1], &x[2]));
    }
    // Projections of one image, which are computed together where their channels fill groups of four.
    for shape in [[2, 12, 5, 7], [3, 6, 4, 4]] {
        let conv = |name: &str| Conv2d {
            weight: normal(name, &[shape[1], shape[1], 1, 1]),
            bias: Some(normal(&format!("{name} bias"), &shape[1..2])),
            geometry: ConvGeometry::same(1),
        };
        let [query, key, value] = ["query", "key", "value"].map(conv);
        check!(gpu, format!("projected {shape:?}"), vec![normal("x", &shape)], |b, x| {
            let [q, k, v] = [&query, &key, &value].map(|conv| b.conv2d(&x[0], conv).unwrap());
            b.attention(&q, &k, &v)
        });
    }
}

#[test]
fn quantization() {
    let gpu = gpu();
    for (shape, codes) in [([1, 4, 4, 4], 1), ([2, 3, 5, 3], 37), ([5, 6, 8, 8], 512)] {
        // Near a code, so that rounding cannot decide between two.
        let codebook = normal("codebook", &[codes, shape[1]]);
        let picks: Vec<u32> = (0..shape[0] * shape[2] * shape[3]).map(|i| (i * 17 % codes) as u32).collect();
        let picks = Tensor::new(picks, &Device::Cpu).unwrap();
        let x = codebook.index_select(&picks, 0).unwrap().reshape((shape[0], shape[2], shape[3], shape[1])).unwrap();
        let x = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
        let x = (x + normal("near", &shape).affine(1e-3, 0.0).unwrap()).unwrap();
        check!(gpu, format!("{codes} codes {shape:?}"), vec![x], |b, x| b.quantize(&x[0], &codebook));
    }
    // Two codes at exactly the same distance: the first.
    let codebook = Tensor::new(&[[9f32, 9.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], &Device::Cpu).unwrap();
    let x = Tensor::zeros((1, 2, 1, 1), DType::F32, &Device::Cpu).unwrap();
    check!(gpu, "a tie", vec![x], |b, x| b.quantize(&x[0], &codebook));
}

fn same<B: Backend>(_: &mut B, x: &B::Value) -> lddgan::Result<B::Value> {
    Ok(x.clone())
}

/// Channels that follow each other in memory need no dispatch for their concatenation.
#[test]
fn concatenation_in_place() {
    let gpu = gpu();
    let layer = |outputs| conv(8, outputs, ConvGeometry::same(3), true);
    let (whole, odd) = (layer(8), layer(6));
    let x = || vec![normal("x", &[3, 8, 8, 8])];
    // Two convolutions and an activation.
    let dispatches = check!(gpu, "in place", x(), |b, x| {
        let [a, c] = [&whole, &odd].map(|conv| b.conv2d(&x[0], conv).unwrap());
        let y = b.concat(&a, &c).unwrap();
        b.activate(&y, Activation::Silu)
    });
    assert_eq!(dispatches, 3);
    let dispatches = check!(gpu, "from the middle of four channels on", x(), |b, x| {
        let [a, c] = [&odd, &whole].map(|conv| b.conv2d(&x[0], conv).unwrap());
        let y = b.concat(&a, &c).unwrap();
        b.activate(&y, Activation::Silu)
    });
    assert_eq!(dispatches, 4);
    let dispatches = check!(gpu, "a part that is computed from the other", x(), |b, x| {
        let a = b.conv2d(&x[0], &whole).unwrap();
        let c = b.conv2d(&a, &whole).unwrap();
        let y = b.concat(&a, &c).unwrap();
        b.activate(&y, Activation::Silu)
    });
    assert_eq!(dispatches, 4);
    let dispatches = check!(gpu, "twice the same", x(), |b, x| {
        let a = b.conv2d(&x[0], &whole).unwrap();
        let y = b.concat(&a, &a).unwrap();
        b.activate(&y, Activation::Silu)
    });
    assert_eq!(dispatches, 3);
    let dispatches = check!(gpu, "a concatenation in another", x(), |b, x| {
        let [a, c] = [&whole, &odd].map(|conv| b.conv2d(&x[0], conv).unwrap());
        let inner = b.concat(&a, &c).unwrap();
        let d = b.activate(&x[0], Activation::Silu).unwrap();
        let y = b.concat(&d, &inner).unwrap();
        b.activate(&y, Activation::Silu)
    });
    assert_eq!(dispatches, 5);
}

#[test]
fn what_depends_on_no_input() {
    let gpu = gpu();
    let constant = normal("constant", &[2, 6, 4, 4]);
    let conv = conv(6, 5, ConvGeometry::same(3), true);
    check!(gpu, "a constant", vec![normal("unused", &[1, 1])], |b, _x| {
        let constant = b.constant(&constant).unwrap();
        b.conv2d(&constant, &conv)
    });
    check!(gpu, "a constant and an input", vec![normal("x", &[2, 5, 4, 4])], |b, x| {
        let constant = b.constant(&constant).unwrap();
        let constant = b.conv2d(&constant, &conv).unwrap();
        b.concat(&constant, &x[0])
    });
    check!(gpu, "an input that is an output", vec![normal("x", &[2, 5, 4, 4])], |b, x| same(b, &x[0]));
}
