//! Single operations and blocks, on the CPU and through WebGPU.

use candle_core::{Device, Tensor};
use lddgan::Executor as _;
use lddgan::backend::{Activation, Backend, CandleBackend};
use lddgan::diffusion::timestep_embedding;
use lddgan::graph::NodeId;
use lddgan::layers::{Conv2d, ConvGeometry, Linear};
use lddgan::networks::{AttentionBlock, AttentionStyle, Condition, ResidualBlock};
use lddgan::parameters::{Parameters, TensorMap};
use lddgan::{FirMode, Recorder};
use lddgan_tests::{read, run};
use lddgan_trainer::import::names::{self, Conversion};
use lddgan_trainer::preset::Preset;
use lddgan_webgpu::{Executor, Gpu};

use crate::recorded::{OUTPUTS, check, check_values, kept, recorded, values};

/// The recordings, and the GPU.
struct Ops {
    io: TensorMap,
    gpu: Gpu,
}

impl Ops {
    fn open() -> Self {
        let io = recorded(&kept("ops"));
        // The error says what to install.
        Self { io, gpu: pollster::block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}")) }
    }

    fn get(&self, group: &str, name: &str) -> Tensor {
        self.io[&format!("{group}/{name}")].clone()
    }

    fn conv(&self, group: &str, geometry: ConvGeometry) -> Conv2d {
        Conv2d { weight: self.get(group, "weight"), bias: Some(self.get(group, "bias")), geometry }
    }

    /// Loads a block whose parameters have names under `prefix` in the generator; `recorded` gives the value of a
    /// parameter that the authors call, say, `Conv_0.weight`.
    fn load_block(&self, parameters: &Parameters, prefix: &str, recorded: impl Fn(&str) -> Tensor) {
        let config = Preset::load("cifar10").unwrap().generator;
        let tensors = parameters.vars().into_iter().map(|(ours, _)| {
            let source = names::generator(&config, &format!("{prefix}.{ours}")).unwrap();
            // all_modules, number of the module, layer
            let layer = source.name.splitn(3, '.').nth(2).unwrap();
            (ours, source.conversion.apply(&recorded(layer)).unwrap())
        });
        parameters.load(&tensors.collect(), prefix).unwrap();
    }

    fn run(&self, mut recorder: Recorder, y: NodeId, inputs: &[Tensor]) -> Tensor {
        recorder.output("y", y);
        let executor = pollster::block_on(Executor::new(&self.gpu, &recorder.finish())).unwrap();
        let executor = run(executor, inputs);
        Tensor::from_vec(read(&executor, "y"), executor.shape("y").unwrap(), &Device::Cpu).unwrap()
    }
}

/// Computes an expression in a backend and its inputs under both backends and compares with the recorded `y`.
macro_rules! check {
    ($ops:expr, $group:expr, $inputs:expr, |$b:ident, $x:ident| $compute:expr) => {{
        let (group, inputs): (&str, Vec<Tensor>) = ($group, $inputs.map(|name| $ops.get($group, name)).to_vec());
        let expected = $ops.get(group, "y");
        let found = {
            let ($b, $x) = (&mut CandleBackend, &inputs);
            $compute.unwrap()
        };
        check(&format!("{group}, Cpu"), &found, &expected, OUTPUTS);
        let mut recorder = Recorder::new();
        let nodes: Vec<_> =
            inputs.iter().enumerate().map(|(i, input)| recorder.input(&i.to_string(), input.dims())).collect();
        let y = {
            let ($b, $x) = (&mut recorder, &nodes);
            $compute.unwrap()
        };
        check(&format!("{group}, Wgpu"), &$ops.run(recorder, y, &inputs), &expected, OUTPUTS);
    }};
}

#[test]
fn resampling() {
    let ops = Ops::open();
    for (name, mode) in [("upsample", FirMode::Upsample), ("downsample", FirMode::Downsample)] {
        for group in [format!("fir_{name}_2d"), format!("fir_{name}_2d_impulse")] {
            check!(ops, &group, ["x"], |b, x| b.fir(&x[0], mode));
        }
    }
    let halving = |pad_after| ConvGeometry { kernel: 3, stride: 2, pad_before: 0, pad_after };
    let conv = ops.conv("conv_downsample_2d", halving(0));
    check!(ops, "conv_downsample_2d", ["x"], |b, x| {
        let smooth = b.fir(&x[0], FirMode::Smooth).unwrap();
        b.conv2d(&smooth, &conv)
    });
    let conv = ops.conv("ldm_downsample", halving(1));
    check!(ops, "ldm_downsample", ["x"], |b, x| b.conv2d(&x[0], &conv));
    let conv = ops.conv("ldm_upsample", ConvGeometry::same(3));
    check!(ops, "ldm_upsample", ["x"], |b, x| {
        let large = b.upsample_nearest(&x[0], 2).unwrap();
        b.conv2d(&large, &conv)
    });
}

/// The two ways of a generator's patches, whose orders differ.
#[test]
fn patches() {
    let ops = Ops::open();
    let get = |name: &str| ops.get("patchify_generator_p2", name);
    let b = &mut CandleBackend;
    let pixels = (0..4).map(|i| {
        let mut weights = [0.0; 4];
        weights[i] = 1.0;
        b.pool(&get("x"), weights).unwrap()
    });
    let channels = Tensor::cat(&pixels.collect::<Vec<_>>(), 1).unwrap();
    check("patches in", &channels, &get("patchified"), 1e-6);
    let back = b.depth_to_space(&channels, 2).unwrap();
    check("patches out", &back, &get("unpatchified_of_patchified"), 1e-6);
}

#[test]
fn normalisation() {
    let ops = Ops::open();
    check!(ops, "pixelnorm", ["x"], |b, x| b.pixel_norm(&x[0]));
    for (group, groups) in [("adagn_c8_groups2", 2), ("adagn_c36_groups9", 9), ("adagn_c160_groups32", 32)] {
        let bias = Conversion::Style.apply(&ops.get(group, "style_bias")).unwrap();
        let style = Linear { weight: ops.get(group, "style_weight"), bias };
        check!(ops, group, ["x", "style"], |b, x| {
            let style = b.linear(&x[1], &style, Activation::Identity).unwrap();
            b.adaptive_group_norm(&x[0], &style, groups, Activation::Identity)
        });
    }
    for batch in [1, 2, 3, 4, 8, 12] {
        check!(ops, &format!("minibatch_stddev_b{batch}"), ["x"], |b, x| b.minibatch_stddev(&x[0]));
    }
}

#[test]
fn attention() {
    let ops = Ops::open();
    let conv = Conv2d {
        weight: Conversion::Nin.apply(&ops.get("nin", "W")).unwrap(),
        bias: Some(ops.get("nin", "b")),
        geometry: ConvGeometry::same(1),
    };
    check!(ops, "nin", ["x"], |b, x| b.conv2d(&x[0], &conv));
    let parameters = Parameters::new(0, &Device::Cpu);
    let block = AttentionBlock::new(parameters.var_builder(), 16, 4, AttentionStyle::NCSNPP).unwrap();
    ops.load_block(&parameters, "middle.attention", |name| ops.get("attn_block", &name.replace('.', "_")));
    check!(ops, "attn_block", ["x"], |b, x| block.forward(b, &x[0]));
}

/// `inputs`: image, time embedding, mapped z.
fn residual_block<B: Backend>(b: &mut B, block: &ResidualBlock, inputs: &[B::Value]) -> lddgan::Result<B::Value> {
    let time = b.activate(&inputs[1], Activation::Silu)?;
    block.forward(b, &inputs[0], &Condition { time, z: inputs[2].clone() })
}

#[test]
fn residual_blocks() {
    let ops = Ops::open();
    for (group, inputs, resample) in [
        ("resblock_same", 8, None),
        ("resblock_change", 12, None),
        ("resblock_up", 8, Some(FirMode::Upsample)),
        ("resblock_down", 8, Some(FirMode::Downsample)),
    ] {
        let parameters = Parameters::new(0, &Device::Cpu);
        let widths = Condition { time: 6, z: 5 };
        let block = ResidualBlock::new(parameters.var_builder(), &widths, inputs, 8, resample).unwrap();
        ops.load_block(&parameters, "middle.block1", |name| ops.get(group, &format!("param/{name}")));
        check!(ops, group, ["x", "temb", "zemb"], |b, x| residual_block(b, &block, x));
    }
}

#[test]
fn time_sinusoids() {
    let io = recorded(&kept("ops"));
    for width in [16, 9, 4] {
        let group = format!("timestep_embedding_dim{width}");
        let t: Vec<u32> = values(&io[&format!("{group}/t")]).into_iter().map(|t| t as u32).collect();
        let found = timestep_embedding(&t, width, &Device::Cpu).unwrap();
        check_values(&group, &values(&found), &values(&io[&format!("{group}/y")]), 1e-6);
    }
}
