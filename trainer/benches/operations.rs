//! The operations that sampling and training spend most of their time in, forwards with Candle and with the CPU executor, and
//! with Candle forwards and backwards. `pytorch_operations.py` has the same in PyTorch, under the same names.
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p lddgan-trainer --bench operations -- conv2d`

use candle_core::{Device, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use lddgan::Executor as _;
use lddgan::Result;
use lddgan::backend::{Activation, Backend, CandleBackend, FirMode};
use lddgan::graph::Recorder;
use lddgan::layers::{Conv2d, ConvGeometry, GroupNorm};
use lddgan_cpu::Executor;
use lddgan_trainer::allocation;

/// Images at a time.
const BATCH: usize = 16;
/// Channels and size of feature maps: those of faces256 at its widest and at its largest.
const MAPS: [(usize, usize); 2] = [(128, 8), (64, 16)];

/// An operation on a feature map, for any backend.
trait Operation {
    const NAME: &'static str;

    fn apply<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value>;

    fn new(channels: usize) -> Self;
}

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).expect("random numbers")
}

/// Parameters, which get a gradient.
fn trained(shape: &[usize]) -> Tensor {
    Var::from_tensor(&random(shape)).expect("a tensor").as_tensor().clone()
}

/// 3x3, as many channels as before.
struct Convolution(Conv2d);

impl Operation for Convolution {
    const NAME: &'static str = "conv2d";

    fn new(channels: usize) -> Self {
        let weight = trained(&[channels, channels, 3, 3]);
        Self(Conv2d { weight, bias: Some(trained(&[channels])), geometry: ConvGeometry::same(3) })
    }

    fn apply<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        b.conv2d(x, &self.0)
    }
}

/// Group norm and SiLU.
struct Norm(GroupNorm);

impl Operation for Norm {
    const NAME: &'static str = "group_norm";

    fn new(channels: usize) -> Self {
        Self(GroupNorm { weight: trained(&[channels]), bias: trained(&[channels]), groups: channels / 4 })
    }

    fn apply<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        b.group_norm(x, &self.0, Activation::Silu)
    }
}

/// Half the size.
struct Down;

impl Operation for Down {
    const NAME: &'static str = "fir_down";

    fn new(_channels: usize) -> Self {
        Self
    }

    fn apply<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        b.fir(x, FirMode::Downsample)
    }
}

/// Over all positions of a map, with itself.
struct Attention;

impl Operation for Attention {
    const NAME: &'static str = "attention";

    fn new(_channels: usize) -> Self {
        Self
    }

    fn apply<B: Backend>(&self, b: &mut B, x: &B::Value) -> Result<B::Value> {
        b.attention(x, x, x)
    }
}

fn bench<O: Operation>(criterion: &mut Criterion) {
    for (channels, size) in MAPS {
        let shape = [BATCH, channels, size, size];
        let (operation, x) = (O::new(channels), random(&shape));
        // As the program does.
        allocation::keep_freed();
        let mut group = criterion.benchmark_group(format!("{} {channels} {size}x{size}", O::NAME));
        group.bench_function("candle", |bencher| bencher.iter(|| operation.apply(&mut CandleBackend, &x)));

        let mut recorder = Recorder::new();
        let input = recorder.input("x", &shape);
        let y = operation.apply(&mut recorder, &input).expect("an operation of a network");
        recorder.output("y", y);
        let mut executor = Executor::new(&recorder.finish()).expect("an operation of a network");
        let values: Vec<f32> = x.flatten_all().and_then(|x| x.to_vec1()).expect("f32 numbers");
        group.bench_function("cpu", |bencher| bencher.iter(|| executor.run([("x", values.as_slice())])));

        let x = Var::from_tensor(&x).expect("a tensor");
        let both = || operation.apply(&mut CandleBackend, &x)?.sum_all()?.backward().map_err(lddgan::Error::from);
        group.bench_function("candle, with gradient", |bencher| bencher.iter(both));
    }
}

criterion_group!(operations, bench::<Convolution>, bench::<Norm>, bench::<Down>, bench::<Attention>);
criterion_main!(operations);
