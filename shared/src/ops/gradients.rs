//! Derivatives of the operations of this folder against central differences in f64.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{add_bias, clamp, conv2d, depthwise_conv2d, fir, group_norm, leaky_relu, softmax};
use crate::backend::FirMode;
use crate::layers::ConvGeometry;
use crate::noise::Stream;

const STEP: f64 = 1e-5;

fn random(shape: &[usize], name: &str) -> Tensor {
    let values = Stream::new(5, 0, name).normals(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
}

/// sum(f(x) * weights), so that every output has an influence of its own.
fn weighted(y: &Tensor) -> Result<Tensor> {
    (y * random(y.dims(), "weights"))?.sum_all()
}

/// Compares the gradient of a scalar function in each of its arguments with central differences, at every element.
fn check(name: &str, arguments: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = arguments.iter().map(|argument| Var::from_tensor(argument).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let gradients = f(&tensors).unwrap().backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let gradient = gradients.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let values = arguments[i].flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for element in 0..values.len() {
            let moved = |by: f64| {
                let mut values = values.clone();
                values[element] += by;
                let mut arguments = arguments.to_vec();
                arguments[i] = Tensor::from_vec(values, arguments[i].shape(), &Device::Cpu).unwrap();
                f(&arguments).unwrap().to_scalar::<f64>().unwrap()
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let error = (gradient[element] - expected).abs() / expected.abs().max(1.0);
            assert!(error < 1e-7, "{name}, argument {i}, element {element}: {} not {expected}", gradient[element]);
        }
    }
}

const GEOMETRIES: [ConvGeometry; 5] = [
    ConvGeometry::same(3),
    ConvGeometry::same(1),
    ConvGeometry::patch(2),
    ConvGeometry { kernel: 3, stride: 2, pad_before: 0, pad_after: 1 },
    ConvGeometry { kernel: 4, stride: 2, pad_before: 1, pad_after: 1 },
];

#[test]
fn convolution() {
    for geometry in GEOMETRIES {
        let arguments = [random(&[3, 2, 6, 4], "x"), random(&[3, 2, geometry.kernel, geometry.kernel], "w")];
        check(&format!("{geometry:?}"), &arguments, |a| weighted(&conv2d(&a[0], &a[1], geometry)?));
    }
}

/// The image's derivative, and the derivative of that: the square's gradient is squared again.
#[test]
fn depthwise_convolution() {
    let geometries = GEOMETRIES.into_iter().chain([ConvGeometry { kernel: 5, stride: 2, pad_before: 1, pad_after: 2 }]);
    for geometry in geometries {
        let (x, w) = (random(&[2, 3, 6, 4], "x"), random(&[3, 1, geometry.kernel, geometry.kernel], "w"));
        let convolve = |x: &Tensor| depthwise_conv2d(x, &w, geometry);
        check(&format!("{geometry:?}"), std::slice::from_ref(&x), |a| weighted(&convolve(&a[0])?));
        let y = convolve(&x).unwrap();
        check(&format!("adjoint, {geometry:?}"), &[random(y.dims(), "y")], |a| {
            let x = Var::from_tensor(&x)?;
            let gradients = (convolve(&x)? * &a[0])?.sum_all()?.backward()?;
            match gradients.get(&x) {
                Some(gradient) => weighted(gradient),
                None => candle_core::bail!("no gradient"),
            }
        });
    }
}

#[test]
fn resampling_bias_and_activations() {
    let x = random(&[2, 3, 4, 6], "x");
    for mode in [FirMode::Upsample, FirMode::Downsample, FirMode::Smooth] {
        check(&format!("{mode:?}"), std::slice::from_ref(&x), |a| weighted(&fir(&a[0], mode)?));
    }
    for rows in [1, 2] {
        check("add_bias", &[x.clone(), random(&[rows, 3], "bias")], |a| weighted(&add_bias(&a[0], &a[1])?));
    }
    check("leaky_relu", std::slice::from_ref(&x), |a| weighted(&leaky_relu(&a[0])?));
    check("clamp", &[x], |a| weighted(&clamp(&a[0], -0.5, 1.0)?));
}

#[test]
fn normalization() {
    for silu in [false, true] {
        for rows in [1, 2] {
            let x = random(&[2, 6, 3, 5], "x");
            let arguments = [x, random(&[rows, 6], "scale"), random(&[rows, 6], "shift")];
            check("group_norm", &arguments, |a| weighted(&group_norm(&a[0], &a[1], &a[2], 2, silu)?));
        }
    }
}

#[test]
fn attention_weights() {
    check("softmax", &[random(&[2, 3, 5], "x")], |a| weighted(&softmax(&a[0], 0.7)?));
}

/// The gradient of a gradient penalty: second derivatives through everything that a discriminator is made of. Needs
/// CANDLE_GRAD_DO_NOT_DETACH=1, which `.cargo/config.toml` sets.
#[test]
fn gradient_penalty() {
    let penalty = |arguments: &[Tensor]| -> Result<Tensor> {
        let [x, w1, bias, w2] = arguments else { candle_core::bail!("four arguments") };
        let x = Var::from_tensor(x)?;
        let h = leaky_relu(&add_bias(&conv2d(&x, w1, ConvGeometry::same(3))?, bias)?)?;
        let h = fir(&h, FirMode::Downsample)?;
        let h = conv2d(&h, w2, GEOMETRIES[3])?;
        // Squared, because the networks so far are piecewise linear in x.
        let gradients = h.sqr()?.sum_all()?.backward()?;
        match gradients.get(&x) {
            Some(gradient) => gradient.sqr()?.sum_all(),
            None => candle_core::bail!("no gradient"),
        }
    };
    let arguments =
        [random(&[2, 2, 4, 4], "x"), random(&[3, 2, 3, 3], "w1"), random(&[1, 3], "bias"), random(&[2, 3, 3, 3], "w2")];
    // x is taken out of the graph above, so its own gradient is not defined here: weights and bias alone.
    check_from(1, &arguments, penalty);
}

/// As [`check`] with a relative tolerance, for the arguments from `first` on.
fn check_from(first: usize, arguments: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let (fixed, free) = arguments.split_at(first);
    check("gradient penalty", free, |free| {
        let all: Vec<Tensor> = fixed.iter().chain(free).cloned().collect();
        // Scaled down so that the tolerance of `check` is a relative one.
        f(&all)? * 1e-3
    });
}
