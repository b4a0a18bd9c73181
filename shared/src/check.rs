//! The cross-platform check: what an executor makes of a few seeds, stage by stage, against recorded tensors.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::compare::{Difference, psnr};
use crate::error::{Error, Result};
use crate::model::{Model, Trajectory};
use crate::model_file::safe_name;
use crate::parameters::TensorMap;
use crate::stage::Stage;

/// The key in the safetensors metadata of golden files.
const KEY: &str = "lddgan-golden";
/// The largest difference of a latent (scaled, so that its values are around one) that passes.
pub const LATENT_TOLERANCE: f64 = 1e-3;
/// The least peak signal-to-noise ratio of an image, in dB, that passes.
pub const IMAGE_PSNR: f64 = 40.0;

/// Which model and seeds recorded tensors belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The model's name, to show.
    #[serde(deserialize_with = "safe_name")]
    pub model: String,
    /// SHA-256 of the model file, in hexadecimal.
    pub sha256: String,
    /// Of the faces that were made.
    pub seeds: Vec<u64>,
}

/// The recorded tensors of all stages: the noise of [`Model::draw`], [`Stage::Latent`] for t = T, …, 0, and [`Stage::Image`].
#[derive(Debug, Clone)]
pub struct Golden {
    /// What made them.
    pub subject: Subject,
    /// The value of each stage, by its name.
    pub stages: TensorMap,
}

/// How far one stage is from the recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageDifference {
    /// Of the stage.
    pub name: String,
    /// The largest absolute difference.
    pub max_error: f64,
    /// The mean absolute difference.
    pub mean_error: f64,
    /// Of the image; 999 where it is equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psnr: Option<f64>,
    /// Whether that is within what the stage allows.
    pub passed: bool,
}

/// The outcome of a check, as it is stored and compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was checked.
    pub subject: Subject,
    /// Who computed: `cpu`, `cuda`, `wgpu`; in a page `webgpu`, `cpu` or `candle`.
    pub executor: String,
    /// The device or adapter, as a person should see it.
    pub device: String,
    /// Operating system and architecture, or the browser.
    pub platform: String,
    /// Git revision of the program, or the version of the page's.
    pub revision: String,
    /// What WebGPU's adapter offers of what kernels may need, by WebGPU's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, u64>,
    /// The features of WebGPU's adapter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// In the order of computing.
    pub stages: Vec<StageDifference>,
    /// Whether all stages did.
    pub passed: bool,
}

/// What the executor made of each stage; the noise is added here.
pub fn stages(model: &Model, seeds: &[u64], trajectory: &Trajectory<Tensor>) -> Result<TensorMap> {
    let on_cpu = |tensor: &Tensor| tensor.to_device(&Device::Cpu);
    let mut stages = TensorMap::new();
    for noise in model.draw(seeds) {
        stages.insert(noise.name, Tensor::from_vec(noise.values, noise.shape, &Device::Cpu)?);
    }
    for (latent, t) in trajectory.latents.iter().zip(model.levels()) {
        stages.insert(Stage::Latent(*t).to_string(), on_cpu(latent)?);
    }
    stages.insert(Stage::Image.to_string(), on_cpu(&trajectory.image)?);
    Ok(stages)
}

impl Golden {
    /// The bytes of the file. Images, most of it, are in f16, far more exact than they need to be.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_string(&self.subject)
            .map_err(|error| Error::ModelFile { file: self.subject.model.clone(), reason: error.to_string() })?;
        let metadata = HashMap::from([(KEY.to_string(), json)]);
        let mut stages = self.stages.clone();
        if let Some(image) = stages.get_mut(&Stage::Image.to_string()) {
            *image = image.to_dtype(DType::F16)?;
        }
        Ok(safetensors::serialize(&stages, Some(metadata)).map_err(candle_core::Error::from)?)
    }

    /// Reads a file; `file` is its name in errors.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self> {
        let fail = |reason: String| Error::ModelFile { file: file.to_string(), reason };
        let (_, header) = safetensors::SafeTensors::read_metadata(bytes)
            .map_err(|error| fail(format!("not a whole safetensors file ({error}); download or copy it again")))?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let json = json.ok_or_else(|| fail(format!("without `{KEY}` metadata: not a file of golden tensors")))?;
        let subject = serde_json::from_str(json).map_err(|error| fail(error.to_string()))?;
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu);
        let stages = tensors.map_err(|error| fail(format!("its tensors cannot be read: {error}")))?;
        Ok(Self { subject, stages: stages.into_iter().collect() })
    }

    /// Compares each stage with what was found, in the order noise, latents, image. Latents may differ by
    /// `latent_tolerance`: [`LATENT_TOLERANCE`] in f32; numbers of fewer bits are judged by the image.
    pub fn compare(&self, found: &TensorMap, latent_tolerance: f64) -> Result<Vec<StageDifference>> {
        let mut names: Vec<&String> = self.stages.keys().collect();
        // x, z and noise before latents from the noisiest on, then the image.
        let rank = |name: &str| match name.parse() {
            Ok(Stage::Latent(t)) => (1, Reverse(t)),
            Ok(Stage::Image) => (2, Reverse(0)),
            _ => (0, Reverse(0)),
        };
        names.sort_by_key(|name| (rank(name), name.to_string()));
        names.into_iter().map(|name| self.compare_stage(name, found, latent_tolerance)).collect()
    }

    fn compare_stage(&self, name: &str, found: &TensorMap, latent_tolerance: f64) -> Result<StageDifference> {
        let expected = &self.stages[name];
        let found = found.get(name).filter(|found| found.shape() == expected.shape());
        let found = found.ok_or_else(|| Error::Shape {
            op: "check",
            reason: format!("the executor has no {name} of {:?}", expected.shape()),
        })?;
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let (expected, found) = (values(expected)?, values(found)?);
        let difference = Difference::between(&found, &expected)?;
        let (max_error, mean_error) = (difference.max, difference.mean);
        // What is not a number passes no comparison.
        let stage = name.parse();
        let psnr = (stage == Ok(Stage::Image)).then(|| psnr(difference.mean_squared, 2.0));
        let passed = match psnr {
            Some(psnr) => psnr >= IMAGE_PSNR,
            None if matches!(stage, Ok(Stage::Latent(_))) => max_error <= latent_tolerance,
            None => max_error == 0.0,
        };
        // JSON has finite numbers alone: errors become the largest, a PSNR the least.
        let finite = |x: f64| if x.is_finite() { x } else { f64::MAX };
        let (max_error, mean_error) = (finite(max_error), finite(mean_error));
        let psnr = psnr.map(|psnr| if psnr.is_finite() { psnr } else { f64::MIN });
        Ok(StageDifference { name: name.to_string(), max_error, mean_error, psnr, passed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    fn golden() -> Golden {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let stages = [("image", [0.0, 1.0]), ("x", [1.0, 2.0]), ("latent/1", [3.0, 4.0]), ("latent/0", [5.0, 6.0])];
        let stages = stages.map(|(name, values)| (name.to_string(), tensor(&values)));
        let subject = Subject { model: "m".to_string(), sha256: sha256(b"abc"), seeds: vec![0] };
        Golden { subject, stages: stages.into() }
    }

    fn set(golden: &mut Golden, name: &str, values: &[f32]) {
        golden.stages.insert(name.to_string(), Tensor::new(values, &Device::Cpu).unwrap());
    }

    #[test]
    fn a_recording_survives_its_file_and_equals_itself() {
        let golden = golden();
        // The example of the standard.
        assert!(golden.subject.sha256.starts_with("ba7816bf") && golden.subject.sha256.len() == 64);
        let read = Golden::from_bytes(&golden.to_bytes().unwrap(), "f").unwrap();
        assert_eq!(read.subject, golden.subject);
        let stages = read.compare(&golden.stages, LATENT_TOLERANCE).unwrap();
        let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["x", "latent/1", "latent/0", "image"]);
        assert!(stages.iter().all(|stage| stage.passed && stage.max_error == 0.0));
    }

    /// Noise must be equal, latents close, images alike to 40 dB: errors of 1 % of the range, 2, are just that.
    #[test]
    fn each_stage_has_its_tolerance() {
        let passed = |name: &str, values: &[f32]| {
            let mut found = golden();
            set(&mut found, name, values);
            let stages = golden().compare(&found.stages, LATENT_TOLERANCE).unwrap();
            stages.into_iter().find(|stage| stage.name == name).unwrap().passed
        };
        assert!(!passed("x", &[1.0, 2.000_001]));
        assert!(passed("latent/1", &[3.0009, 4.0]) && !passed("latent/1", &[3.002, 4.0]));
        assert!(!passed("latent/0", &[f32::NAN, 6.0]));
        let mut rounded = golden();
        set(&mut rounded, "latent/1", &[3.1, 4.0]);
        assert!(golden().compare(&rounded.stages, f64::MAX).unwrap().iter().all(|stage| stage.passed));
        assert!(passed("image", &[0.019, 1.019]) && !passed("image", &[0.021, 1.021]));
    }

    /// Whichever side they are on, and whatever else agrees.
    #[test]
    fn values_that_are_not_finite_fail() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (name, other) in [("image", 1.0), ("latent/0", 6.0), ("latent/1", 4.0), ("x", 2.0)] {
                let mut broken = golden();
                set(&mut broken, name, &[value, other]);
                for (expected, found) in [(golden(), &broken), (broken.clone(), &golden()), (broken.clone(), &broken)] {
                    let stages = expected.compare(&found.stages, LATENT_TOLERANCE).unwrap();
                    let stage = stages.iter().find(|stage| stage.name == name).unwrap();
                    assert!(!stage.passed && stage.max_error > 1e300, "{name} {value}: {stage:?}");
                    assert!(stage.psnr.is_none_or(|psnr| psnr < 0.0), "{stage:?}");
                    serde_json::from_str::<StageDifference>(&serde_json::to_string(stage).unwrap()).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_stage_of_another_shape_is_an_error() {
        let mut found = golden();
        set(&mut found, "image", &[1.0, 2.0, 3.0]);
        assert!(golden().compare(&found.stages, LATENT_TOLERANCE).unwrap_err().to_string().contains("image"));
    }
}
