//! What the tests that span crates share.

use std::fmt::Debug;

use candle_core::{DType, Device, Tensor};
use lddgan::noise::Stream;
use lddgan::parameters::{Parameters, TensorMap};
use lddgan::{
    AutoencoderConfig, AutoencoderKind, BandOrder, DiffusionConfig, Executor, FileConfig, ModelFile, Network,
    Provenance,
};

mod not_run;
mod tolerance;

pub use not_run::not_run;
pub use tolerance::{Tolerance, psnr_of_span};

/// Runs a graph whose inputs are named by their numbers.
pub fn run<'a, E: Executor<Error: Debug>>(mut executor: E, inputs: impl IntoIterator<Item = &'a Tensor>) -> E {
    let inputs: Vec<_> = inputs.into_iter().enumerate().map(|(i, x)| (i.to_string(), values(x))).collect();
    let inputs = inputs.iter().map(|(name, values)| (name.as_str(), values.as_slice()));
    executor.run(inputs).unwrap_or_else(|error| panic!("{error:?}"));
    executor
}

/// An output of the last run.
pub fn read(executor: &impl Executor<Error: Debug>, output: &str) -> Vec<f32> {
    pollster::block_on(executor.read(output)).unwrap_or_else(|error| panic!("{error:?}"))
}

/// A configuration that has every feature of the networks and is small enough for a software adapter: 16x16 images,
/// 4x4 latents, attention, odd channel counts, linear path.
pub fn tiny_config() -> FileConfig {
    let generator = r#"{"latent_channels": 3, "latent_size": 4, "channels": 12, "multipliers": [1, 2], "blocks": 1,
        "attention": [4], "z_dim": 10, "z_embedding": 14, "z_layers": 2}"#;
    let coder = |channels: usize| {
        format!(
            r#"{{"channels": {channels}, "multipliers": [1, 2, 2], "blocks": 1, "groups": 3, "attention": [8],
                "middle_attention": true}}"#
        )
    };
    let autoencoder = format!(
        r#"{{"image_channels": 3, "image_size": 16, "latent_channels": 3, "codes": 37, "encoder": {}, "decoder": {},
            "linear_path": true}}"#,
        coder(9),
        coder(6)
    );
    let config =
        format!(r#"{{"autoencoder": {autoencoder}, "latent_scale": [2.5, 1.5, 0.5], "generator": {generator}}}"#);
    let config: FileConfig = serde_json::from_str(&config).expect("the configuration above is valid");
    FileConfig { diffusion: Some(DiffusionConfig::default()), ..config }
}

/// The networks of [`tiny_config`] with an autoencoder without weights, `identity` or `haar`.
pub fn fixed_config(kind: &str, latent_channels: usize) -> FileConfig {
    let autoencoder =
        format!(r#"{{"kind": "{kind}", "image_channels": 3, "image_size": 16, "latent_channels": {latent_channels}}}"#);
    let autoencoder: AutoencoderConfig = serde_json::from_str(&autoencoder).expect("the configuration above is valid");
    let mut config = tiny_config();
    if let Some(generator) = &mut config.generator {
        (generator.latent_channels, generator.latent_size) = (latent_channels, autoencoder.latent_size());
    }
    FileConfig { autoencoder: Some(autoencoder), latent_scale: vec![1.5; latent_channels], ..config }
}

/// 64x64 images, latents 16x16x4: what trains on a CPU.
pub fn faces_config() -> FileConfig {
    let generator = r#"{"latent_channels": 4, "latent_size": 16, "channels": 32, "multipliers": [1, 2, 2], "blocks": 1,
        "attention": [8], "z_dim": 100, "z_embedding": 128, "z_layers": 4}"#;
    let coder = r#"{"channels": 32, "multipliers": [1, 2, 4], "blocks": 1, "groups": 8}"#;
    let autoencoder = format!(
        r#"{{"image_channels": 3, "image_size": 64, "latent_channels": 4, "codes": 512, "encoder": {coder},
            "decoder": {coder}, "linear_path": true}}"#
    );
    let config =
        format!(r#"{{"autoencoder": {autoencoder}, "latent_scale": [2.5, 2.5, 2.5, 2.5], "generator": {generator}}}"#);
    let config: FileConfig = serde_json::from_str(&config).expect("the configuration above is valid");
    FileConfig { diffusion: tiny_config().diffusion, ..config }
}

/// A configuration whose generator starts from a normal distribution with so many modes, over noise levels of its own.
pub fn gaussian_config(mut config: FileConfig, modes: usize) -> FileConfig {
    if let Some(generator) = &mut config.generator {
        (generator.gaussian_modes, generator.z_dim, generator.tanh) = (modes, modes, false);
    }
    FileConfig { diffusion: Some(DiffusionConfig::AlphaBar(vec![0.7, 0.3, 0.06, 1e-4])), ..config }
}

/// The normal distribution of imagined latents, as networks with [`lddgan::networks::Gaussian`] take it; `prefix` begins
/// the names. Nothing for no modes.
pub fn gaussian(prefix: &str, modes: usize, channels: usize, size: usize) -> TensorMap {
    if modes == 0 {
        return TensorMap::new();
    }
    let numbers = channels * size * size;
    let variances: Vec<f32> = (0..modes).map(|k| 4.0 / (k + 1) as f32).collect();
    let tensors = [
        ("mean", normal("mean", &[channels, size, size])),
        ("directions", orthonormal(modes, numbers).reshape((modes, channels, size, size)).expect("as many numbers")),
        ("variances", Tensor::from_vec(variances, modes, &Device::Cpu).expect("one for each mode")),
    ];
    tensors.map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).into()
}

/// So many orthonormal rows (Gram and Schmidt's way).
fn orthonormal(rows: usize, width: usize) -> Tensor {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut done: Vec<Vec<f64>> = Vec::new();
    for row in values(&normal("directions", &[rows, width])).chunks_exact(width) {
        let mut row: Vec<f64> = row.iter().map(|&value| value.into()).collect();
        for other in &done {
            let shared = dot(&row, other);
            row.iter_mut().zip(other).for_each(|(value, other)| *value -= shared * other);
        }
        let length = dot(&row, &row).sqrt();
        done.push(row.iter().map(|value| value / length).collect());
    }
    let numbers = done.concat().into_iter().map(|value| value as f32).collect();
    Tensor::from_vec(numbers, (rows, width), &Device::Cpu).expect("as many numbers")
}

/// A generator of wavelets that takes patches, on the Haar transform of an image in the other order of its bands.
pub fn wavelet_config() -> FileConfig {
    let mut config = fixed_config("haar", 12);
    if let Some(autoencoder) = &mut config.autoencoder {
        autoencoder.band_order = BandOrder::HlFirst;
    }
    if let Some(generator) = &mut config.generator {
        (generator.patch, generator.wavelet) = (2, true);
    }
    config
}

/// A model of every kind that has a wiring of its own, by name.
pub fn configs() -> [(&'static str, FileConfig); 10] {
    let mut kl = tiny_config();
    if let Some(autoencoder) = &mut kl.autoencoder {
        (autoencoder.kind, autoencoder.codes) = (AutoencoderKind::Kl, 0);
    }
    let mut patches = kl.clone();
    if let Some(autoencoder) = &mut patches.autoencoder {
        // As many pixels to a latent with a level less.
        autoencoder.patch = 2;
        let coders = [&mut autoencoder.encoder, &mut autoencoder.decoder].into_iter().flatten();
        coders.for_each(|coder| coder.multipliers.truncate(2));
    }
    [
        ("tiny", tiny_config()),
        ("faces", faces_config()),
        ("kl", kl),
        ("patches", patches),
        ("pixels", fixed_config("identity", 3)),
        ("wavelets", fixed_config("haar", 12)),
        ("wavelets of two levels", fixed_config("haar", 48)),
        ("wavelets inside", wavelet_config()),
        ("gaussian", gaussian_config(tiny_config(), 10)),
        // Whose z fill whole groups of channels.
        ("gaussian faces", gaussian_config(faces_config(), 64)),
    ]
}

/// Normally distributed values that depend on the name and the shape alone.
pub fn normal(name: &str, shape: &[usize]) -> Tensor {
    let values = Stream::new(7, 0, name).normals(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).expect("there are as many values as the shape has")
}

/// The values of an f32 tensor in the order of its shape.
pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("an f32 tensor on the CPU")
}

/// A whole model with random weights.
pub fn random_model_file(config: &FileConfig, seed: u64) -> lddgan::Result<ModelFile> {
    let given = config.generator.as_ref().map_or_else(TensorMap::new, |generator| {
        gaussian("generator.gaussian.", generator.gaussian_modes, generator.latent_channels, generator.latent_size)
    });
    let parameters = Parameters::new(seed, &Device::Cpu).with_constants(&given)?;
    let vb = parameters.var_builder();
    for name in config.networks() {
        Network::new(name, config, vb.pp(name))?;
    }
    randomize(&parameters, seed)?;
    let provenance = Provenance { name: "random".to_string(), ..Default::default() };
    let file = ModelFile { config: config.clone(), provenance, tensors: parameters.tensors() };
    // Through bytes, so that all executors see the same f16-rounded weights.
    ModelFile::from_bytes(&file.to_bytes(DType::F16)?, "random.safetensors")
}

/// Directions in x, in noise and in z of one step, as a file of [`tiny_config`] holds them: so many.
pub fn directions(count: usize) -> TensorMap {
    let draws = [("x", [3, 4, 4].as_slice()), ("noise/2", &[3, 4, 4]), ("z/1", &[10])];
    let tensors = draws.map(|(draw, shape)| {
        let name = format!("{}{draw}", lddgan::directions::PREFIX);
        let tensor = normal(&name, &[&[count], shape].concat());
        (name, tensor)
    });
    tensors.into()
}

/// Makes all parameters random, so that every part of a network influences its output.
pub fn randomize(parameters: &Parameters, seed: u64) -> lddgan::Result<()> {
    for (name, var) in parameters.vars() {
        // Layers that start at zero or one get noise of the size that trained weights have.
        let fan_in = var.dims().iter().skip(1).product::<usize>().max(1);
        let spread = if var.dims().len() > 1 { (1.0 / fan_in as f64).sqrt() } else { 0.1 };
        let noise = Stream::new(seed, 1, &name).normals(var.elem_count());
        let noise = Tensor::from_vec(noise, var.shape(), &Device::Cpu)?.affine(spread, 0.0)?;
        let centre = if var.dims().len() > 1 { 0.0 } else { 1.0 };
        var.set(&(var.as_tensor().affine(centre, 0.0)? + noise)?)?;
    }
    Ok(())
}
