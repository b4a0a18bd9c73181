//! Every operation and its derivatives on a CUDA device against the CPU.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{Slot, Step, adam_step, move_averages};
use crate::backend::FirMode;
use crate::layers::ConvGeometry;
use crate::noise::Stream;
use crate::ops::{add_bias, conv2d, fir, group_norm, leaky_relu};

/// The first device. Without one, says that the test did not run.
fn device() -> Option<Device> {
    match Device::new_cuda(0) {
        Ok(device) => Some(device),
        Err(error) => {
            println!("NOT RUN: there is no CUDA device ({error})");
            None
        }
    }
}

/// Kernels run without a GPU as far as their compilation.
#[test]
fn kernels_compile() {
    let ptx = super::ptx().unwrap();
    for name in ["group_norm_grad_bf16", "fir_double", "add_bias_float", "adam", "move_average"] {
        assert!(ptx.contains(name), "{name}");
    }
}

fn random(shape: &[usize], name: &str) -> Tensor {
    let values = Stream::new(5, 0, name).normals(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
}

/// What `f` makes of `arguments` on `device` in `dtype`, and the gradients of its weighted sum, as f64 on the CPU.
fn evaluate(
    arguments: &[Tensor],
    dtype: DType,
    device: &Device,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let var = |argument: &Tensor| Var::from_tensor(&argument.to_device(device)?.to_dtype(dtype)?);
    let vars: Vec<Var> = arguments.iter().map(var).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = f(&tensors)?;
    let weights = random(y.dims(), "weights").to_device(device)?.to_dtype(dtype)?;
    let gradients = (&y * weights)?.sum_all()?.backward()?;
    let results = vars.iter().filter_map(|var| gradients.get(var)).chain([&y]);
    results.map(|result| result.to_dtype(DType::F64)?.to_device(&Device::Cpu)).collect()
}

/// In double, single and bfloat16 precision, the last against rounding of the inputs in double.
fn check(name: &str, arguments: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let Some(device) = device() else { return };
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 1e-5), (DType::BF16, 3e-2)] {
        let rounded = |x: &Tensor| x.to_dtype(dtype).and_then(|x| x.to_dtype(DType::F64));
        let rounded: Vec<Tensor> = arguments.iter().map(|x| rounded(x).unwrap()).collect();
        let expected = evaluate(&rounded, DType::F64, &Device::Cpu, &f).unwrap();
        let found = evaluate(&rounded, dtype, &device, &f).unwrap();
        assert_eq!(expected.len(), found.len());
        for (i, (expected, found)) in expected.iter().zip(&found).enumerate() {
            let largest =
                |x: &Tensor| x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
            let error = largest(&(expected - found).unwrap()) / largest(expected);
            assert!(error < tolerance, "{name} in {dtype:?}, result {i}: relative error {error:e}");
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
        for (batch, channels, outputs) in [(1, 3, 5), (4, 16, 32)] {
            let weight = random(&[outputs, channels, geometry.kernel, geometry.kernel], "w");
            let arguments = [random(&[batch, channels, 10, 14], "x"), weight];
            check(&format!("{geometry:?}"), &arguments, |a| conv2d(&a[0], &a[1], geometry));
        }
    }
}

#[test]
fn resampling_bias_and_leaky_relu() {
    let x = random(&[3, 5, 8, 6], "x");
    for mode in [FirMode::Upsample, FirMode::Downsample, FirMode::Smooth] {
        check(&format!("{mode:?}"), std::slice::from_ref(&x), |a| fir(&a[0], mode));
    }
    for rows in [1, 3] {
        check("add_bias", &[x.clone(), random(&[rows, 5], "bias")], |a| add_bias(&a[0], &a[1]));
    }
    check("leaky_relu", &[x], |a| leaky_relu(&a[0]));
}

#[test]
fn normalization() {
    for (rows, size) in [(1, 5), (3, 5), (3, 40)] {
        for silu in [false, true] {
            let x = random(&[3, 8, size, size], "x");
            let arguments = [x, random(&[rows, 8], "scale"), random(&[rows, 8], "shift")];
            check("group_norm", &arguments, |a| group_norm(&a[0], &a[1], &a[2], 4, silu));
        }
    }
}

/// Second derivatives through everything that a discriminator is made of; needs CANDLE_GRAD_DO_NOT_DETACH=1.
#[test]
fn gradient_penalty() {
    let image = random(&[4, 3, 8, 8], "image");
    let arguments = [random(&[8, 3, 3, 3], "w1"), random(&[1, 8], "bias"), random(&[4, 8, 3, 3], "w2")];
    check("gradient penalty", &arguments, |a| {
        let x = Var::from_tensor(&image.to_device(a[0].device())?.to_dtype(a[0].dtype())?)?;
        let h = leaky_relu(&add_bias(&conv2d(&x, &a[0], ConvGeometry::same(3))?, &a[1])?)?;
        let h = conv2d(&fir(&h, FirMode::Downsample)?, &a[2], ConvGeometry::same(3))?;
        // Squared, because the networks so far are piecewise linear in x.
        match h.sqr()?.sum_all()?.backward()?.remove(&x) {
            Some(gradient) => gradient.sqr()?.flatten_from(1)?.sum(1),
            None => candle_core::bail!("no gradient"),
        }
    });
}

/// A convolution over the whole image, as of a Gaussian's modes, with its second derivative.
#[test]
fn whole_images() {
    let geometry = ConvGeometry::patch(6);
    let arguments = [random(&[4, 3, 6, 6], "x"), random(&[5, 3, 6, 6], "w")];
    check("whole image", &arguments, |a| conv2d(&a[0], &a[1], geometry));
}

/// Adam's rule with the gradient clipped, worked out in f64; and the average after it.
#[test]
fn adam_and_average() {
    let Some(device) = device() else { return };
    let on_device = |values: &[f32]| Tensor::new(values, &device).unwrap();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let large = vec![0.5f32; 50_000];
    // The norm is that of all tensors together; a transposed gradient is no contiguous one.
    let gradients =
        [Tensor::new(&[[3f32, 0.0], [4.0, 0.0]], &device).unwrap().t().unwrap(), on_device(&vec![0.01; large.len()])];
    let parameters = [Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &device).unwrap(), on_device(&large)];
    let zeros = || parameters.each_ref().map(|parameter| parameter.zeros_like().unwrap());
    let (first, second) = (zeros(), zeros());
    let norm = (25.0 + 0.0001 * large.len() as f64).sqrt();
    let clip = norm / 2.0;
    let step = Step { rate: 0.1 / 0.5, beta1: 0.5, beta2: 0.9, correct2: 0.1, epsilon: 1e-8, clip: Some(clip) };
    let slots = |gradients: &[Tensor; 2]| -> Tensor {
        let slots: Vec<Slot> = (0..2)
            .map(|i| Slot { value: &parameters[i], first: &first[i], second: &second[i], gradient: &gradients[i] })
            .collect();
        adam_step(&slots, &step).unwrap()
    };
    let found = slots(&gradients).to_scalar::<f32>().unwrap();
    assert!((f64::from(found) / norm - 1.0).abs() < 1e-6, "{found} {norm}");
    // The first step has the length of the rate, whatever the gradient, but where that is zero.
    let expected = [0.9f32, 1.9, 3.0, 4.0];
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(close(&values(&parameters[0]), &expected), "{:?}", values(&parameters[0]));
    assert!(close(&values(&first[0]), &[0.75, 1.0, 0.0, 0.0]), "{:?}", values(&first[0]));
    assert!(values(&parameters[1]).iter().all(|value| (value - 0.4).abs() < 1e-5));
    let average = on_device(&[0.0; 4]);
    move_averages(&[(&average, &parameters[0].flatten_all().unwrap())], 0.75).unwrap();
    assert!(close(&values(&average), &expected.map(|value| value / 4.0)), "{:?}", values(&average));
    let broken = [gradients[0].clone(), (&gradients[1] * f64::NAN).unwrap()];
    assert!(!slots(&broken).to_scalar::<f32>().unwrap().is_finite());
    assert!(close(&values(&parameters[0]), &expected));
}
