//! What the WebGPU executor does when something is missing or goes wrong: a lost device, too large a batch, an adapter
//! without optional features, hundreds of batches in a row.
//!
//! Needs a WebGPU adapter; a software one (Mesa's lavapipe) is enough. Without one these tests fail.

use candle_core::Device;
use lddgan::Executor as _;
use lddgan::model::NamedNoise;
use lddgan::{Model, Sampler};
use lddgan_tests::{Tolerance, not_run, random_model_file, tiny_config, values};
use lddgan_webgpu::executor::{ConvKernel, Dtype, Options};
use lddgan_webgpu::{Compiler, Error, Executor, Gpu, Recovery};
use pollster::block_on;
use wgpu::Features;

const TOLERANCE: Tolerance = Tolerance::Absolute(1e-4);

fn gpu() -> Gpu {
    // The error says what to install.
    block_on(Gpu::new()).unwrap_or_else(|error| panic!("{error}"))
}

fn model() -> Model {
    random_model_file(&tiny_config(), 1).unwrap().model("random", &Device::Cpu).unwrap()
}

/// The images, which must be those of Candle.
fn check(model: &Model, seeds: &[u64], images: &[f32]) {
    let expected = model.sample_seeds(seeds, &Device::Cpu).unwrap().image;
    TOLERANCE.check(images, &values(&expected), expected.dims(), &format!("seeds {seeds:?}"));
}

/// The live allocations on a device, by name and bytes, without wgpu's own; none where the backend does not report them.
fn allocated(device: &wgpu::Device) -> Option<Vec<(String, u64)>> {
    // Lets go of what nothing uses any more.
    device.poll(wgpu::PollType::wait_indefinitely()).map(drop).unwrap_or_default();
    let allocations = device.generate_allocator_report()?.allocations.into_iter();
    let ours = allocations.filter(|allocation| !allocation.name.starts_with("(wgpu internal)"));
    let mut ours: Vec<_> = ours.map(|allocation| (allocation.name, allocation.size)).collect();
    ours.sort();
    Some(ours)
}

/// Two models of the same shapes, each in all its steps and in fewer, through one sampler in turns.
#[test]
fn a_sampler_never_takes_one_model_for_another() {
    let other = || random_model_file(&tiny_config(), 2).unwrap().model("other", &Device::Cpu).unwrap();
    let (mut models, seeds) = ([model(), other()], [3, 4]);
    let mut sampler = Sampler::new(Compiler::new(gpu()), 2);
    for steps in [4, 2, 4] {
        for model in &mut models {
            model.set_steps(steps).unwrap();
            let images = block_on(sampler.sample(model, &seeds, async |executor| executor.read("image").await));
            check(model, &seeds, &images.unwrap().concat());
        }
    }
}

#[test]
fn a_batch_is_repeated_on_a_new_device() {
    let (model, seeds) = (model(), [3, 4, 5]);
    let mut sampler = Sampler::new(Compiler::new(gpu()), 2);
    let mut sizes = Vec::new();
    for round in 0..4 {
        let device = sampler.compiler().gpu().device().clone();
        let mut calls = 0;
        // The second batch is under way when the device goes.
        let images = block_on(sampler.sample(&model, &seeds, async |executor| {
            calls += 1;
            if calls == 2 {
                device.destroy();
            }
            executor.read("image").await
        }));
        check(&model, &seeds, &images.unwrap().concat());
        assert_eq!(calls, 3, "one batch and one batch twice");
        let recoveries = sampler.compiler_mut().take_recoveries();
        let [recovery @ Recovery::Reopened { .. }] = recoveries.as_slice() else { panic!("{recoveries:?}") };
        assert!(recovery.to_string().contains("lost") && recovery.to_string().contains("repeated"), "{recovery}");
        assert_eq!(sampler.compiler().gpu().lost(), None);
        assert_eq!(sampler.largest_batch(), 2);
        // Nothing stays on the device that was lost.
        let Some(left) = allocated(&device) else { continue };
        assert!(left.is_empty(), "round {round}: {left:?}");
        sizes.extend(allocated(sampler.compiler().gpu().device()));
    }
    assert!(sizes.iter().all(|size| !size.is_empty() && *size == sizes[0]), "{sizes:?}");
}

#[test]
fn a_device_that_is_lost_again_and_again_is_an_error() {
    let model = model();
    let mut sampler = Sampler::new(Compiler::new(gpu()), 4);
    let mut batches = Vec::new();
    // Each device is destroyed by the batch that runs on it.
    let result = block_on(sampler.sample(&model, &[1, 2, 3, 4], async |executor| {
        batches.push(executor.shape("image")?[0]);
        executor.gpu().device().destroy();
        executor.read("image").await
    }));
    assert!(matches!(result, Err(Error::DeviceLost(_))), "{result:?}");
    assert_eq!(batches, [4, 4, 2, 1], "a batch that is lost twice becomes smaller");
    let reopened =
        sampler.compiler_mut().take_recoveries().iter().filter(|it| matches!(it, Recovery::Reopened { .. })).count();
    assert_eq!(reopened, 3);
    // What comes next starts from a device that works, or says what is wrong.
    let images = block_on(sampler.sample(&model, &[9], async |executor| executor.read("image").await));
    check(&model, &[9], &images.unwrap().concat());
}

#[test]
fn too_large_a_batch_is_made_in_parts() {
    let model = model();
    let mut sampler = Sampler::new(Compiler::new(gpu()), 64);
    let seeds = [1, 2, 3, 4, 5];
    // The device refuses batches of more than two.
    let fits = async |executor: &Executor| match executor.shape("image")?[0] {
        0..=2 => executor.read("image").await,
        _ => Err(Error::OutOfMemory),
    };
    let images = block_on(sampler.sample(&model, &seeds, fits)).unwrap();
    assert_eq!(images.len(), 3);
    check(&model, &seeds, &images.concat());
    let largest = |recovery: &Recovery| match recovery {
        Recovery::SmallerBatches { largest, .. } => *largest,
        recovery => panic!("{recovery}"),
    };
    assert_eq!(sampler.compiler_mut().take_recoveries().iter().map(largest).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(sampler.largest_batch(), 2);

    let never = async |_: &Executor| -> Result<Vec<f32>, Error> { Err(Error::OutOfMemory) };
    let error = block_on(sampler.sample(&model, &seeds, never)).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory), "{error}");
    assert_eq!(sampler.largest_batch(), 1);
}

#[test]
fn no_optional_feature_is_needed() {
    let (model, seeds) = (model(), [7]);
    let gpu = block_on(Gpu::with_features(Features::empty())).unwrap();
    assert!(!gpu.has_f16() && gpu.device().features().is_empty(), "{:?}", gpu.device().features());
    let mut executor = block_on(Executor::new(&gpu, &model.record(1).unwrap())).unwrap();
    let noise = model.draw(&seeds);
    let inputs = || noise.iter().map(NamedNoise::as_input);
    executor.run(inputs()).unwrap();
    check(&model, &seeds, &block_on(executor.read("image")).unwrap());
    assert!(matches!(block_on(executor.profile(inputs())), Err(Error::NoTimestamps(_))));
    let options = Options { convolutions: &|_| ConvKernel::DIRECT, images: Dtype::F16 };
    let half = block_on(Executor::with_options(&gpu, &model.record(1).unwrap(), &options));
    assert!(matches!(half, Err(Error::NoF16(_))), "{half:?}");
    assert!(!block_on(gpu.reopen()).unwrap().has_f16());
}

#[test]
fn hundreds_of_batches_take_no_more_memory_than_one() {
    let model = model();
    let mut sampler = Sampler::new(Compiler::new(gpu()), 2);
    let mut batches = |count: u64| {
        for seed in 0..count {
            let seeds = [seed, seed + 1];
            block_on(sampler.sample(&model, &seeds, async |executor| executor.read("image").await)).unwrap();
        }
        allocated(sampler.compiler().gpu().device())
    };
    let after_few = batches(3);
    if after_few.is_none() {
        not_run("this backend does not report what is allocated");
        return;
    }
    assert_eq!(batches(500), after_few);
}
