//! Executors beyond their numbers: errors, repeated runs, and of the one for WebGPU memory and drawing.
//!
//! Needs a WebGPU adapter; a software one (Mesa's lavapipe) is enough. Without one these tests fail.

use candle_core::Device;
use lddgan::backend::Backend;
use lddgan::graph::{Op, Recorder};
use lddgan::model::{NamedNoise, to_byte};
use lddgan::noise::Stream;
use lddgan::{Executor as _, FileConfig, Graph, Model, NetworkName};
use lddgan_tests::{faces_config, gaussian_config, not_run, random_model_file, tiny_config};
use lddgan_webgpu::executor::summarise;
use lddgan_webgpu::{Error, Executor, Gpu, Painter, ceilings};
use pollster::block_on;
use wgpu::TextureFormat;

fn gpu() -> Gpu {
    // The error says what to install.
    block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}"))
}

/// An image that goes in as `x` and comes out as `y`, with an operation between.
fn doubling(shape: &[usize]) -> Graph {
    let mut recorder = Recorder::new();
    let x = recorder.input("x", shape);
    let y = recorder.weighted_sum(&[(2.0, &x)]).unwrap();
    recorder.output("y", y);
    recorder.finish()
}

fn check_inputs<E: lddgan::Executor<Error: std::error::Error>>(mut executor: E) {
    let values = [0.5; 12];
    for (inputs, reason) in [
        (vec![], "input `x`: was not given"),
        (vec![("x", &values[..11])], "input `x`: 11 values were given, 12 are needed"),
        (vec![("x", &values[..]), ("z", &values[..])], "input `z`: the graph has no such input"),
    ] {
        assert_eq!(executor.run(inputs).unwrap_err().to_string(), reason);
    }
    executor.run([("x", &values[..])]).unwrap();
    assert_eq!(block_on(executor.read("y")).unwrap(), [1.0; 12]);
    let error = block_on(executor.read("image")).unwrap_err();
    assert_eq!(error.to_string(), "graph: there is no output `image`");
}

#[test]
fn inputs_must_fit() {
    let graph = doubling(&[1, 3, 2, 2]);
    check_inputs(block_on(Executor::new(&gpu(), &graph)).unwrap());
    check_inputs(lddgan_cpu::Executor::new(&graph).unwrap());
}

fn check_repeated_runs<E: lddgan::Executor<Error: std::error::Error>>(model: &Model, mut executor: E) {
    let mut image = |seeds: [u64; 2]| {
        let noise = model.draw(&seeds);
        executor.run(noise.iter().map(NamedNoise::as_input)).unwrap();
        block_on(executor.read("image")).unwrap()
    };
    let first = image([1, 2]);
    let other = image([2, 3]);
    assert_eq!(first, image([1, 2]));
    let (first_of_other, second_of_first) = (&other[..other.len() / 2], &first[first.len() / 2..]);
    assert_eq!(first_of_other, second_of_first, "a face depends on its place in the batch");
    assert_ne!(first[..first.len() / 2], *first_of_other);
}

#[test]
fn a_run_leaves_nothing_behind() {
    let model = random_model_file(&tiny_config(), 1).unwrap().model("random", &Device::Cpu).unwrap();
    let graph = model.record(2).unwrap();
    check_repeated_runs(&model, block_on(Executor::new(&gpu(), &graph)).unwrap());
    check_repeated_runs(&model, lddgan_cpu::Executor::new(&graph).unwrap());
}

#[test]
fn a_value_beyond_the_limits_is_refused() {
    let gpu = gpu();
    let limits = gpu.device().limits();
    let largest = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    assert!(largest >= 1 << 27, "WebGPU promises 128 MiB: {largest}");
    // One image has 16 MiB.
    let images = largest as usize / (1 << 24) + 1;
    let error = block_on(Executor::new(&gpu, &doubling(&[images, 4, 1024, 1024]))).unwrap_err();
    let Error::LimitExceeded { unit: "bytes", needed, limit, .. } = error else { panic!("{error}") };
    assert_eq!((needed, limit), ((images as u64) << 24, largest));
}

#[test]
fn a_lost_device_is_an_error() {
    let gpu = gpu();
    let mut executor = block_on(Executor::new(&gpu, &doubling(&[1, 1, 1, 1]))).unwrap();
    assert_eq!(gpu.lost(), None);
    gpu.device().destroy();
    let finished = block_on(gpu.finish());
    assert!(matches!(finished, Err(Error::DeviceLost(_))), "{finished:?}");
    assert!(gpu.lost().is_some());
    let run = executor.run([("x", &[1.0][..])]);
    assert!(matches!(run, Err(Error::DeviceLost(_))), "{run:?}");
}

/// How many times the bytes of a model's weights are uploaded for a sampling.
fn uploaded(config: &FileConfig) -> f64 {
    let file = random_model_file(config, 1).unwrap();
    let executed = file.tensors.iter().filter(|(name, _)| !name.starts_with("encoder."));
    // Weights are as in the file, f16, directions in two layouts; biases, norms and the codebook f32.
    let is_wide = |name: &str, rank: usize| rank == 1 || name.ends_with("codebook") || name.ends_with("directions");
    let size = |name: &str, rank: usize| if is_wide(name, rank) { 4 } else { 2 };
    let bytes: usize = executed.map(|(name, tensor)| size(name, tensor.rank()) * tensor.elem_count()).sum();
    let model = file.model("random", &Device::Cpu).unwrap();
    // Four steps use the generator's weights four times; the layers of the time embedding are computed at compile time.
    let executor = block_on(Executor::new(&gpu(), &model.record(1).unwrap())).unwrap();
    executor.weight_bytes() as f64 / bytes as f64
}

#[test]
fn weights_are_uploaded_once() {
    // The second one's directions would be noticed.
    for config in [faces_config(), gaussian_config(faces_config(), 256)] {
        let times = uploaded(&config);
        assert!((0.9..1.1).contains(&times), "{times} times the model's weights were uploaded");
    }
}

#[test]
fn what_depends_on_z_alone_is_computed_once_for_all_steps() {
    // The second one's z drive its start, too.
    for config in [tiny_config(), gaussian_config(tiny_config(), 32)] {
        check_styles(&config);
    }
}

fn check_styles(config: &FileConfig) {
    let model = random_model_file(config, 1).unwrap().model("random", &Device::Cpu).unwrap();
    let graph = model.record(2).unwrap();
    let executor = block_on(Executor::new(&gpu(), &graph)).unwrap();
    let work = executor.work();
    let of = |kernel: &str| work.iter().filter(|work| work.kernel.starts_with(kernel)).collect::<Vec<_>>();
    // The layers of the mapping, and one more for all styles, whose rows are those of all steps.
    assert_eq!(of("linear").len(), config.generator.as_ref().unwrap().z_layers + 2);
    assert_eq!(of("pixel_norm").len(), 1);
    assert!(of("linear").iter().all(|work| work.y[0] == 2 * model.schedule.steps()));
    assert!(work[1..].iter().take_while(|work| work.kernel.starts_with("linear")).count() == of("linear").len());
    assert_eq!(work.iter().map(|work| work.flops).sum::<u64>() + folded(&graph), graph.flops());
}

/// Operations of the linear layers of the time embedding, which depend on no input.
fn folded(graph: &Graph) -> u64 {
    let mut constant = vec![false; graph.nodes.len()];
    let mut flops = 0;
    for (id, node) in graph.nodes.iter().enumerate() {
        constant[id] = !matches!(node.op, Op::Input(_)) && node.inputs.iter().all(|&input| constant[input]);
        flops += if constant[id] { node.flops() } else { 0 };
    }
    flops
}

#[test]
fn every_dispatch_is_timed() {
    let gpu = gpu();
    let config = tiny_config();
    let file = random_model_file(&config, 1).unwrap();
    let decoder = file.network(NetworkName::Decoder, "random", &Device::Cpu).unwrap();
    let graph = decoder.record(&decoder.shapes(&config, 1).unwrap()).unwrap();
    let mut executor = block_on(Executor::new(&gpu, &graph)).unwrap();
    let latent = Stream::new(1, 0, "latent").normals(3 * 4 * 4);
    let profile = |executor: &Executor| block_on(executor.profile([("latent", latent.as_slice())]));
    let times = match profile(&executor) {
        Err(Error::NoTimestamps(adapter)) => {
            assert!(!gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY), "{adapter}");
            not_run(&format!("{adapter} has no timestamp queries"));
            return;
        }
        times => times.unwrap(),
    };
    let profiled = block_on(executor.read("image")).unwrap();
    assert_eq!(times.len(), executor.dispatches());
    assert!(times.iter().all(|time| time.seconds.is_finite() && time.seconds >= 0.0 && time.work.bytes > 0));
    assert_eq!(times.iter().map(|time| time.work.flops).sum::<u64>(), graph.flops());
    executor.run([("latent", latent.as_slice())]).unwrap();
    assert_eq!(profiled, block_on(executor.read("image")).unwrap());
    let kernels = summarise(&[times, profile(&executor).unwrap()]);
    assert_eq!(kernels.iter().map(|kernel| kernel.dispatches).sum::<usize>(), executor.dispatches());
    let ceilings = block_on(ceilings::measure(&gpu)).unwrap();
    assert!(ceilings.flops_per_second > 0.0 && ceilings.bytes_per_second > 0.0, "{ceilings:?}");
}

/// Width and height of the texture that is drawn on; rows of 64 texels can be copied to a buffer.
const SIZE: u32 = 64;

/// Draws an output on a texture and reads the texture's bytes.
fn drawn(gpu: &Gpu, executor: &Executor, format: TextureFormat, columns: u32) -> Vec<u8> {
    let size = wgpu::Extent3d { width: SIZE, height: SIZE, depth_or_array_layers: 1 };
    let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: None,
        size,
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
        view_formats: &[],
    });
    let painter = block_on(Painter::new(gpu, format)).unwrap();
    painter.draw(executor, "y", &texture.create_view(&Default::default()), columns).unwrap();
    let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: u64::from(4 * SIZE * SIZE),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * SIZE), rows_per_image: None };
    encoder.copy_texture_to_buffer(
        texture.as_image_copy(),
        wgpu::TexelCopyBufferInfo { buffer: &buffer, layout },
        size,
    );
    gpu.queue().submit([encoder.finish()]);
    buffer.map_async(wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
    block_on(gpu.finish()).unwrap();
    buffer.get_mapped_range(..).unwrap().to_vec()
}

#[test]
fn drawn_images_have_the_bytes_of_the_cpu() {
    let gpu = gpu();
    let (images, height, width, columns) = (5, 9, 13, 3);
    for (channels, format) in
        [(3, TextureFormat::Rgba8Unorm), (3, TextureFormat::Bgra8Unorm), (1, TextureFormat::Rgba8Unorm)]
    {
        let shape = [images, channels, height, width];
        let values = Stream::new(1, 0, "image").normals(shape.iter().product());
        let mut executor = block_on(Executor::new(&gpu, &doubling(&shape))).unwrap();
        executor.run([("x", values.as_slice())]).unwrap();
        let bytes = drawn(&gpu, &executor, format, columns as u32);
        for (i, texel) in bytes.chunks(4).enumerate() {
            let (row, column) = (i / SIZE as usize, i % SIZE as usize);
            let image = row / height * columns + column / width;
            let mut expected = [0; 4];
            if column / width < columns && image < images {
                let value = |channel: usize| {
                    let plane = image * channels + channel.min(channels - 1);
                    to_byte(2.0 * values[(plane * height + row % height) * width + column % width])
                };
                expected = [value(0), value(1), value(2), 255];
            }
            if format == TextureFormat::Bgra8Unorm {
                expected.swap(0, 2);
            }
            assert_eq!(texel, expected, "{format:?}, {channels} channels, row {row}, column {column}");
        }
    }
}
