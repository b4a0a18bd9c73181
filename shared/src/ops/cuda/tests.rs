//! Every operation and its derivatives on a CUDA device against the CPU.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{FusedAdam, KeptParameters, MovingAverages, Replay, Slot, Step};
use crate::backend::FirMode;
use crate::layers::ConvGeometry;
use crate::noise::Stream;
use crate::ops::{add_bias, clamp, conv2d, depthwise_conv2d, fir, group_norm, leaky_relu};

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
    for name in [
        "group_norm_grad_bf16",
        "fir_double",
        "add_bias_float",
        "where_between_float",
        "depthwise_spread_bf16",
        "adam_update",
        "move_average",
    ] {
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
fn depthwise_convolution() {
    for geometry in GEOMETRIES {
        let weight = random(&[5, 1, geometry.kernel, geometry.kernel], "w");
        check(&format!("depthwise, {geometry:?}"), &[random(&[3, 5, 10, 14], "x"), weight], |a| {
            depthwise_conv2d(&a[0], &a[1], geometry)
        });
    }
}

#[test]
fn resampling_bias_and_activations() {
    let x = random(&[3, 5, 8, 6], "x");
    for mode in [FirMode::Upsample, FirMode::Downsample, FirMode::Smooth] {
        check(&format!("{mode:?}"), std::slice::from_ref(&x), |a| fir(&a[0], mode));
    }
    for rows in [1, 3] {
        check("add_bias", &[x.clone(), random(&[rows, 5], "bias")], |a| add_bias(&a[0], &a[1]));
    }
    check("leaky_relu", std::slice::from_ref(&x), |a| leaky_relu(&a[0]));
    // The ends are numbers of bf16.
    check("clamp", &[x], |a| clamp(&a[0], -0.5, 1.0));
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

/// Adam's rule with the gradient clipped, worked out in f64; and the average after it. Recorded, both do the same again.
#[test]
fn adam_and_average() {
    let Some(device) = device() else { return };
    let on_device = |values: &[f32]| Tensor::new(values, &device).unwrap();
    let values = |tensor: &Tensor| tensor.to_vec1::<f32>().unwrap();
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    const LARGE: usize = 50_000;
    let gradients = [on_device(&[3.0, 4.0, 0.0, 0.0]), on_device(&[0.01; LARGE])];
    let parameters = [on_device(&[1.0, 2.0, 3.0, 4.0]), on_device(&[0.5; LARGE])];
    let zeros = || parameters.each_ref().map(|parameter| parameter.zeros_like().unwrap());
    let (first, second) = (zeros(), zeros());
    let slots =
        [0, 1].map(|i| Slot { value: &parameters[i], first: &first[i], second: &second[i], gradient: &gradients[i] });
    let mut adam = FusedAdam::new(&slots).unwrap();
    let average = on_device(&[0.0; 4]);
    let averages = MovingAverages::new(&[(average.clone(), parameters[0].clone())]).unwrap();
    // The norm is that of all tensors together.
    let norm = (25.0 + 0.0001 * LARGE as f64).sqrt();
    let step = Step { rate: 0.1 / 0.5, beta1: 0.5, beta2: 0.9, correct2: 0.1, epsilon: 1e-8, clip: Some(norm / 2.0) };
    adam.set(&step).unwrap();
    let launch = || {
        adam.launch()?;
        averages.launch(0.75, adam.norm())
    };
    launch().unwrap();
    let found = f64::from(adam.norm().to_scalar::<f32>().unwrap());
    assert!((found / norm - 1.0).abs() < 1e-6, "{found} {norm}");
    // The first step has the length of the rate, whatever the gradient, but where that is zero.
    let expected = [0.9f32, 1.9, 3.0, 4.0];
    assert!(close(&values(&parameters[0]), &expected), "{:?}", values(&parameters[0]));
    assert!(close(&values(&first[0]), &[0.75, 1.0, 0.0, 0.0]), "{:?}", values(&first[0]));
    assert!(values(&parameters[1]).iter().all(|value| (value - 0.4).abs() < 1e-5));
    assert!(close(&values(&average), &expected.map(|value| value / 4.0)), "{:?}", values(&average));

    let recorded = Replay::record(&device, launch).unwrap();
    assert!(close(&values(&parameters[0]), &expected), "recording alone does nothing");
    recorded.run().unwrap();
    assert!(close(&values(&first[0]), &[1.125, 1.5, 0.0, 0.0]), "{:?}", values(&first[0]));
    let before = values(&parameters[0]);
    gradients[1].slice_set(&on_device(&[f32::NAN]), 0, 7).unwrap();
    recorded.run().unwrap();
    assert!(!adam.norm().to_scalar::<f32>().unwrap().is_finite());
    assert_eq!(values(&parameters[0]), before);
}

/// Memory that comes and goes within a recording, a convolution and kernels with strides: the second derivatives of a
/// small network, recorded and replayed on other numbers.
#[test]
fn recorded_derivatives() {
    let Some(device) = device() else { return };
    let _kept = KeptParameters::on(&device);
    let on_device =
        |shape: &[usize], name: &str| random(shape, name).to_dtype(DType::F32).unwrap().to_device(&device).unwrap();
    let (x, w) = (on_device(&[4, 3, 8, 8], "x"), on_device(&[8, 3, 3, 3], "w"));
    let gradient = || -> Result<Tensor> {
        let w = Var::from_tensor(&w)?;
        let x = Var::from_tensor(&x)?;
        let h = fir(&leaky_relu(&conv2d(&x, &w, ConvGeometry::same(3))?)?, FirMode::Downsample)?;
        let h = h.permute((0, 2, 3, 1))?.contiguous()?;
        let Some(gradient) = h.sqr()?.sum_all()?.backward()?.remove(&x) else { candle_core::bail!("no gradient") };
        let penalty = gradient.sqr()?.mean_all()?;
        let Some(gradient) = penalty.backward()?.remove(&w) else { candle_core::bail!("no second gradient") };
        gradient.detach().flatten_all()
    };
    gradient().unwrap();
    let found = gradient().unwrap().zeros_like().unwrap();
    let recorded = Replay::record(&device, || found.slice_set(&gradient()?, 0, 0)).unwrap();
    for name in ["other", "numbers"] {
        x.slice_set(&on_device(&[4, 3, 8, 8], name), 0, 0).unwrap();
        recorded.run().unwrap();
        let expected = gradient().unwrap().to_vec1::<f32>().unwrap();
        let found = found.to_vec1::<f32>().unwrap();
        let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5 * largest), "{name}");
    }
}
