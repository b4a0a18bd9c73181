//! Every convolution kernel of WebGPU, and every algorithm of the CPU executor with all instruction sets, against Candle,
//! whichever one the compiler would choose, over a sweep of layers: edge cases, and shapes drawn at random (the same ones
//! at every run).
//!
//! Those of WebGPU need an adapter; a software one (Mesa's lavapipe) is enough. Without one they fail.

use candle_core::{DType, Tensor};
use lddgan::Executor as _;
use lddgan::backend::{Activation, Backend, CandleBackend};
use lddgan::graph::{Graph, Recorder};
use lddgan::layers::{Conv2d, ConvGeometry};
use lddgan::noise::Stream;
use lddgan_cpu::{Algorithm, instruction_sets};
use lddgan_tests::{Tolerance, normal, read, values};
use lddgan_webgpu::executor::{ConvKernel, ConvLayer, Dtype, Options};
use lddgan_webgpu::{Executor, Gpu};

const TOLERANCE: Tolerance = Tolerance::Absolute(1e-4);

/// A convolution and what is fused into it.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// Batch, channels, height, width.
    shape: [usize; 4],
    outputs: usize,
    geometry: ConvGeometry,
    upsample: usize,
    bias: bool,
    sample_bias: bool,
    residual: bool,
    activation: Activation,
    /// Whether the weights are numbers of f16.
    half: bool,
}

const PLAIN: Case = Case {
    shape: [1, 4, 4, 4],
    outputs: 4,
    geometry: ConvGeometry::same(3),
    upsample: 1,
    bias: true,
    sample_bias: false,
    residual: false,
    activation: Activation::Identity,
    half: true,
};

fn geometry(kernel: usize, stride: usize, pad_before: usize, pad_after: usize) -> ConvGeometry {
    ConvGeometry { kernel, stride, pad_before, pad_after }
}

fn edge_cases() -> Vec<Case> {
    vec![
        PLAIN,
        Case { shape: [1, 1, 1, 1], outputs: 1, ..PLAIN },
        Case { shape: [64, 5, 2, 2], outputs: 7, sample_bias: true, ..PLAIN },
        Case { shape: [3, 64, 8, 8], outputs: 64, residual: true, activation: Activation::Silu, ..PLAIN },
        Case { shape: [2, 3, 33, 17], outputs: 130, half: false, ..PLAIN },
        Case { shape: [1, 70, 5, 129], outputs: 3, bias: false, ..PLAIN },
        Case { shape: [2, 9, 7, 6], outputs: 66, upsample: 2, activation: Activation::Tanh, ..PLAIN },
        Case { shape: [1, 1, 1, 1], outputs: 2, upsample: 2, residual: true, ..PLAIN },
        Case { shape: [5, 33, 3, 9], outputs: 6, upsample: 2, sample_bias: true, residual: true, half: false, ..PLAIN },
        Case { shape: [2, 5, 4, 3], outputs: 6, geometry: ConvGeometry::same(5), upsample: 2, ..PLAIN },
        Case { shape: [2, 5, 4, 3], outputs: 6, upsample: 3, ..PLAIN },
        Case { shape: [2, 8, 9, 11], outputs: 12, geometry: geometry(3, 2, 0, 1), half: false, ..PLAIN },
        Case { shape: [2, 8, 9, 11], outputs: 12, geometry: geometry(4, 2, 2, 1), ..PLAIN },
        Case { shape: [2, 48, 6, 6], outputs: 48, geometry: ConvGeometry::same(1), residual: true, ..PLAIN },
        Case { shape: [2, 3, 8, 12], outputs: 5, geometry: ConvGeometry::patch(4), ..PLAIN },
        Case { shape: [3, 6, 5, 9], outputs: 18, geometry: geometry(3, 1, 2, 1), residual: true, ..PLAIN },
        Case { shape: [2, 10, 1, 7], outputs: 3, geometry: geometry(3, 1, 1, 2), sample_bias: true, ..PLAIN },
        // To one pixel.
        Case { shape: [3, 6, 8, 8], outputs: 35, geometry: ConvGeometry::patch(8), sample_bias: true, ..PLAIN },
        Case { shape: [2, 130, 1, 1], outputs: 70, geometry: ConvGeometry::same(1), half: false, ..PLAIN },
        Case { shape: [5, 9, 2, 3], outputs: 6, geometry: geometry(4, 4, 1, 1), residual: true, ..PLAIN },
        Case { shape: [2, 3, 5, 5], outputs: 1, geometry: geometry(5, 2, 0, 1), activation: Activation::Tanh, ..PLAIN },
    ]
}

/// Layers that nobody thought of.
fn random_cases(count: u64) -> impl Iterator<Item = Case> {
    let geometries = [
        ConvGeometry::same(1),
        ConvGeometry::same(3),
        ConvGeometry::same(3),
        ConvGeometry::same(5),
        geometry(3, 2, 0, 0),
        geometry(3, 1, 2, 1),
        ConvGeometry::patch(2),
    ];
    let activations = [Activation::Identity, Activation::Silu, Activation::Tanh, Activation::LeakyRelu];
    (0..count).map(move |index| {
        let draws = Stream::new(index, 0, "case").normals(11);
        // Any number below `end`; small differences of a normal number decide.
        let below = |i: usize, end: usize| (draws[i].abs() * 1e4) as usize % end;
        Case {
            shape: [1 + below(0, 5), 1 + below(1, 75), 3 + below(2, 15), 3 + below(3, 15)],
            outputs: 1 + below(4, 75),
            geometry: geometries[below(5, geometries.len())],
            upsample: 1 + below(6, 3) / 2,
            bias: below(7, 4) > 0,
            sample_bias: below(8, 2) == 0,
            residual: below(9, 2) == 0,
            activation: activations[below(10, 4)],
            half: index % 3 > 0,
        }
    })
}

impl Case {
    /// With a kernel that covers the image, which is made square.
    fn to_one_pixel(self) -> Self {
        let [batch, channels, size, _] = self.shape;
        Self { shape: [batch, channels, size, size], geometry: ConvGeometry::patch(size), upsample: 1, ..self }
    }

    fn layer(&self) -> Conv2d {
        let kernel = self.geometry.kernel;
        let spread = ((self.shape[1] * kernel * kernel) as f64).sqrt().recip();
        let weight = normal("weight", &[self.outputs, self.shape[1], kernel, kernel]).affine(spread, 0.0).unwrap();
        let half = |weight: Tensor| weight.to_dtype(DType::F16).unwrap().to_dtype(DType::F32).unwrap();
        Conv2d {
            weight: if self.half { half(weight) } else { weight },
            bias: self.bias.then(|| normal("bias", &[self.outputs])),
            geometry: self.geometry,
        }
    }

    fn compute<B: Backend>(&self, b: &mut B, conv: &Conv2d, x: &B::Value, residual: &B::Value) -> B::Value {
        let upsampled = if self.upsample > 1 { b.upsample_nearest(x, self.upsample).unwrap() } else { x.clone() };
        let mut y = b.conv2d(&upsampled, conv).unwrap();
        if self.sample_bias {
            let bias = b.constant(&normal("sample bias", &[self.shape[0], self.outputs])).unwrap();
            y = b.add_per_channel(&y, &bias).unwrap();
        }
        if self.residual {
            y = b.weighted_sum(&[(-0.3, residual), (0.7, &y)]).unwrap();
        }
        b.activate(&y, self.activation).unwrap()
    }

    fn result_shape(&self) -> [usize; 4] {
        let size = |size: usize| self.geometry.output(size * self.upsample).unwrap();
        [self.shape[0], self.outputs, size(self.shape[2]), size(self.shape[3])]
    }
}

/// A case's recording, its inputs, and what Candle makes of them.
struct Example {
    graph: Graph,
    inputs: [(&'static str, Vec<f32>); 2],
    expected: Vec<f32>,
}

impl Example {
    fn new(case: &Case) -> Self {
        let (conv, shape) = (case.layer(), case.result_shape());
        let (x, residual) = (normal("x", &case.shape), normal("residual", &shape));
        let expected = values(&case.compute(&mut CandleBackend, &conv, &x, &residual));
        let mut recorder = Recorder::new();
        let (x_node, residual_node) = (recorder.input("x", &case.shape), recorder.input("residual", &shape));
        let y = case.compute(&mut recorder, &conv, &x_node, &residual_node);
        recorder.output("y", y);
        let inputs = [("x", values(&x)), ("residual", values(&residual))];
        Self { graph: recorder.finish(), inputs, expected }
    }

    fn inputs(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.inputs.iter().map(|(name, values)| (*name, values.as_slice()))
    }
}

fn check_on_cpu(case: &Case) {
    let example = Example::new(case);
    for arch in instruction_sets() {
        for algorithm in Algorithm::ALL {
            let choice = |layer: &_| if algorithm.fits(layer) { algorithm } else { Algorithm::Direct };
            let mut executor = lddgan_cpu::Executor::with_options(&example.graph, arch, &choice).unwrap();
            executor.run(example.inputs()).unwrap();
            let label = format!("{algorithm:?}, {arch:?}, {case:?}");
            TOLERANCE.check(&read(&executor, "y"), &example.expected, &case.result_shape(), &label);
        }
    }
}

fn check(gpu: &Gpu, case: &Case, kernels: &[ConvKernel]) {
    let example = Example::new(case);
    let shape = case.result_shape();
    let ConvGeometry { kernel, stride, .. } = case.geometry;
    // Other upsamplings are dispatches of their own.
    let fused = case.upsample == 1 || case.upsample == 2 && case.geometry == ConvGeometry::same(3);
    let (upsample, factor) = if fused { (case.upsample, 1) } else { (1, case.upsample) };
    let [batch, channels, height, width] = case.shape;
    let layer = ConvLayer { x: [batch, channels, factor * height, factor * width], y: shape, kernel, stride, upsample };
    for kernel in kernels.iter().filter(|kernel| kernel.fits(&layer)) {
        let options = Options { convolutions: &|_| *kernel, images: Dtype::F32 };
        let mut executor = pollster::block_on(Executor::with_options(gpu, &example.graph, &options)).unwrap();
        assert_eq!(executor.dispatches(), if fused { 1 } else { 2 }, "{case:?}");
        executor.run(example.inputs()).unwrap();
        TOLERANCE.check(&read(&executor, "y"), &example.expected, &shape, &format!("{kernel:?}, {case:?}"));
    }
}

#[test]
fn every_algorithm_computes_every_layer_that_it_fits() {
    edge_cases().iter().for_each(check_on_cpu);
    random_cases(60).for_each(|case| check_on_cpu(&case));
}

#[test]
fn every_kernel_computes_every_layer_that_it_fits() {
    // The error says what to install.
    let gpu = pollster::block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}"));
    let kernels: Vec<ConvKernel> = ConvKernel::all().collect();
    edge_cases().iter().for_each(|case| check(&gpu, case, &kernels));
    // Compiling takes nearly all of the time, so each of these meets one kernel after the other.
    for (case, kernel) in random_cases(36).zip(kernels.iter().cycle()) {
        check(&gpu, &case, &[*kernel]);
    }
    // Those that compute only some layers meet more of these.
    let of = |some: fn(&ConvKernel) -> bool| kernels.iter().copied().filter(some).collect::<Vec<_>>();
    let winograd = of(|kernel| matches!(kernel, ConvKernel::Winograd(_)));
    let is_wide = |case: &Case| (case.geometry.kernel, case.geometry.stride) == (3, 1);
    for (case, kernel) in random_cases(36).filter(is_wide).zip(winograd.iter().cycle()) {
        check(&gpu, &case, &[*kernel]);
    }
    let summed = of(|kernel| matches!(kernel, ConvKernel::Summed(_)));
    for (case, kernel) in random_cases(8).map(Case::to_one_pixel).zip(summed.iter().cycle()) {
        check(&gpu, &case, &[*kernel]);
    }
}
