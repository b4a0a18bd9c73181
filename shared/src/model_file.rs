//! The model file: weights, the configuration that rebuilds the networks, and where they come from, in one
//! safetensors file.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::config::{FileConfig, ModelConfig};
use crate::directions;
use crate::error::{Error, Result};
use crate::hash::hex;
use crate::model::Model;
use crate::networks::{Decoder, Encoder, Generator, Network, NetworkName};
use crate::parameters::{TensorMap, Weights};

/// The key in the safetensors metadata that holds ours, and the version of its layout.
const KEY: &str = "lddgan";
const VERSION: u32 = 1;

/// How the weights came about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// A name to show, and for files that are made with the model: when a file is read, characters that no path and no
    /// terminal should get are replaced.
    #[serde(deserialize_with = "safe_name")]
    pub name: String,
    /// The training images.
    pub data: String,
    /// Optimiser steps of each stage.
    pub steps: BTreeMap<String, u64>,
    /// Training images seen by each stage.
    pub images: BTreeMap<String, u64>,
    /// Measured figures, each named with its unit or sample count.
    pub metrics: BTreeMap<String, f64>,
    /// Git revision of the trainer.
    pub revision: String,
    /// What the directions are called that images can be moved along, see [`crate::Shifts`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directions: Vec<Direction>,
}

/// A direction, and in a word what it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// Its number, from the strongest on.
    pub mode: usize,
    /// Safe as that of the model.
    #[serde(deserialize_with = "safe_name")]
    pub name: String,
}

impl Provenance {
    /// The mode of the direction with this name, or number.
    pub fn direction(&self, name: &str) -> Option<usize> {
        let named = self.directions.iter().find(|direction| direction.name == name);
        named.map(|direction| direction.mode).or_else(|| name.parse().ok())
    }
}

/// The longest name of a model, in characters.
const MAX_NAME: usize = 100;

/// Reads a name that becomes part of paths and is shown on terminals: letters and digits of ASCII, `.`, `_` and `-` stay,
/// everything else becomes `_`, a leading `.` too, so that it can neither leave a folder nor hide in one.
pub(crate) fn safe_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let safe = |(index, c): (usize, char)| match c {
        '.' if index > 0 => c,
        '_' | '-' => c,
        c if c.is_ascii_alphanumeric() => c,
        _ => '_',
    };
    let name: String = name.chars().take(MAX_NAME).enumerate().map(safe).collect();
    Ok(if name.is_empty() { "model".to_string() } else { name })
}

/// What is stored under [`KEY`].
#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u32,
    /// A [`FileConfig`], as the text that the hash covers: settings added later must not change it.
    config: Box<RawValue>,
    provenance: Provenance,
    sha256: String,
}

/// A model file in memory. Tensors are named after their networks: `generator.…`, `decoder.…`, `encoder.…`,
/// `discriminator.…`; what images can be moved along is `directions.…`, see [`crate::Directions`].
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// What rebuilds the networks.
    pub config: FileConfig,
    /// Where they come from.
    pub provenance: Provenance,
    /// Their parameters, by name.
    pub tensors: TensorMap,
}

impl ModelFile {
    /// The bytes of the file, with weights in `dtype` (f16 or f32). Weights that are not finite in it are an error.
    pub fn to_bytes(&self, dtype: DType) -> Result<Vec<u8>> {
        let convert = |(name, tensor): (&String, &Tensor)| -> Result<_> {
            Ok((name.clone(), tensor.to_device(&Device::Cpu)?.to_dtype(dtype)?.contiguous()?))
        };
        let tensors = self.tensors.iter().map(convert).collect::<Result<TensorMap>>()?;
        refuse_not_finite(&tensors, &self.provenance.name)?;
        let fail = |error: serde_json::Error| Error::ModelFile {
            file: self.provenance.name.clone(),
            reason: format!("its metadata cannot be written: {error}"),
        };
        let config = serde_json::value::to_raw_value(&self.config).map_err(fail)?;
        let sha256 = hash(&config, &tensors);
        let metadata = Metadata { version: VERSION, config, provenance: self.provenance.clone(), sha256 };
        let json = serde_json::to_string(&metadata).map_err(fail)?;
        let metadata = HashMap::from([(KEY.to_string(), json)]);
        Ok(safetensors::serialize(&tensors, Some(metadata)).map_err(candle_core::Error::from)?)
    }

    /// Reads and verifies a file; `file` is its name in errors. Weights that are not finite are an error.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self> {
        let read = Self::from_bytes_to_inspect(bytes, file)?;
        refuse_not_finite(&read.tensors, file)?;
        Ok(read)
    }

    /// As [`Self::from_bytes`], also where weights are not finite, of which nothing useful can be computed.
    pub fn from_bytes_to_inspect(bytes: &[u8], file: &str) -> Result<Self> {
        let fail = |reason: String| Error::ModelFile { file: file.to_string(), reason };
        let (_, header) = safetensors::SafeTensors::read_metadata(bytes)
            .map_err(|error| fail(format!("not a whole safetensors file ({error}); download or copy it again")))?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let json =
            json.ok_or_else(|| fail(format!("a safetensors file without `{KEY}` metadata: not an LDDGAN model")))?;
        let unreadable = |error: serde_json::Error| fail(format!("its configuration cannot be read: {error}"));
        let metadata: Metadata = serde_json::from_str(json).map_err(unreadable)?;
        if metadata.version != VERSION {
            return Err(fail(format!("layout version {}, this program reads {VERSION}", metadata.version)));
        }
        let tensors: TensorMap = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
            .map_err(|error| fail(format!("its tensors cannot be read: {error}")))?
            .into_iter()
            .collect();
        let other = tensors.iter().find(|(_, tensor)| !matches!(tensor.dtype(), DType::F16 | DType::F32));
        if let Some((name, tensor)) = other {
            return Err(fail(format!("tensor {name} is {}, not f16 or f32", tensor.dtype().as_str())));
        }
        let found = hash(&metadata.config, &tensors);
        if found != metadata.sha256 {
            return Err(fail(format!("altered or damaged: SHA-256 {found}, recorded {}", metadata.sha256)));
        }
        let config = serde_json::from_str(metadata.config.get()).map_err(unreadable)?;
        Ok(Self { config, provenance: metadata.provenance, tensors })
    }

    /// Builds generator and decoder, and checks that every tensor of the file is used.
    pub fn model(&self, file: &str, device: &Device) -> Result<Model> {
        let config = ModelConfig {
            generator: self.need(&self.config.generator, "generator", file)?.clone(),
            autoencoder: self.need(&self.config.autoencoder, "autoencoder", file)?.clone(),
            diffusion: self.need(&self.config.diffusion, "diffusion", file)?.clone(),
            latent_scale: self.config.latent_scale.clone(),
        };
        config.validate()?;
        let (directions, networks): (TensorMap, TensorMap) =
            self.tensors.clone().into_iter().partition(|(name, _)| name.starts_with(directions::PREFIX));
        let weights = Weights::new(networks);
        let vb = weights.var_builder(device);
        let generator = Generator::new(vb.pp("generator"), &config.generator)?;
        let decoder = Decoder::new(vb.pp("decoder"), &config.autoencoder)?;
        if self.has(NetworkName::Encoder) {
            Encoder::new(vb.pp("encoder"), &config.autoencoder)?;
        }
        weights.finish(file)?;
        Model::new(config, generator, decoder, device)?.with_directions(&directions, file)
    }

    /// Builds encoder and decoder.
    pub fn autoencoder(&self, file: &str, device: &Device) -> Result<(Encoder, Decoder)> {
        Ok((self.encoder(file, device)?, self.decoder(file, device)?))
    }

    /// Builds the encoder; `file` is for errors.
    pub fn encoder(&self, file: &str, device: &Device) -> Result<Encoder> {
        let config = self.need(&self.config.autoencoder, "autoencoder", file)?;
        self.build(NetworkName::Encoder, file, device, |vb| Encoder::new(vb, config))
    }

    /// Builds the decoder; `file` is for errors.
    pub fn decoder(&self, file: &str, device: &Device) -> Result<Decoder> {
        let config = self.need(&self.config.autoencoder, "autoencoder", file)?;
        self.build(NetworkName::Decoder, file, device, |vb| Decoder::new(vb, config))
    }

    /// Builds any network; `file` is for errors.
    pub fn network(&self, name: NetworkName, file: &str, device: &Device) -> Result<Network> {
        if !name.is_described_by(&self.config) {
            return Err(self.missing(name.as_str(), file));
        }
        self.build(name, file, device, |vb| Network::new(name, &self.config, vb))
    }

    /// The tensors of one network.
    pub fn tensors_of(&self, network: NetworkName) -> TensorMap {
        let own = self.tensors.iter().filter(|(name, _)| is_of(name, network));
        own.map(|(name, tensor)| (name.clone(), tensor.clone())).collect()
    }

    /// Builds one network from its own tensors, and checks that each of them is used.
    fn build<N>(
        &self,
        name: NetworkName,
        file: &str,
        device: &Device,
        build: impl FnOnce(VarBuilder) -> Result<N>,
    ) -> Result<N> {
        let weights = Weights::new(self.tensors_of(name));
        let network = build(weights.var_builder(device).pp(name.as_str()))?;
        weights.finish(file).map_err(|error| if self.has(name) { error } else { self.missing(name.as_str(), file) })?;
        Ok(network)
    }

    fn need<'a, T>(&self, field: &'a Option<T>, name: &str, file: &str) -> Result<&'a T> {
        field.as_ref().ok_or_else(|| self.missing(name, file))
    }

    /// The error of a file that lacks a network or its settings; says what it does hold.
    fn missing(&self, name: &str, file: &str) -> Error {
        let networks = NetworkName::ALL.into_iter().filter(|&name| self.has(name)).map(NetworkName::as_str);
        let held = networks.collect::<Vec<_>>().join(", ");
        Error::ModelFile { file: file.to_string(), reason: format!("holds no {name}, only {held}") }
    }

    /// Whether it has tensors of a network.
    pub fn has(&self, network: NetworkName) -> bool {
        self.tensors.keys().any(|name| is_of(name, network))
    }
}

/// Whether a tensor of this name belongs to a network.
fn is_of(name: &str, network: NetworkName) -> bool {
    name.split('.').next() == Some(network.as_str())
}

/// The number of values in a tensor that are not finite.
pub fn count_not_finite(tensor: &Tensor) -> Result<usize> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().filter(|value| !value.is_finite()).count())
}

fn refuse_not_finite(tensors: &TensorMap, file: &str) -> Result<()> {
    for (name, tensor) in tensors {
        let count = count_not_finite(tensor)?;
        if count > 0 {
            let reason = format!(
                "tensor {name} has {count} of {} values that are infinite or not a number in {}: training diverged, or the \
                 values do not fit the type",
                tensor.elem_count(),
                tensor.dtype().as_str()
            );
            return Err(Error::ModelFile { file: file.to_string(), reason });
        }
    }
    Ok(())
}

/// SHA-256 over the configuration and, in the order of their names, every tensor's name, type, shape and values.
fn hash(config: &RawValue, tensors: &TensorMap) -> String {
    use safetensors::View;
    let mut hasher = Sha256::new().chain_update(config.get());
    for (name, tensor) in tensors {
        hasher.update(format!("\n{name} {} {:?}\n", tensor.dtype().as_str(), tensor.dims()));
        hasher.update(tensor.data());
    }
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candle reads types of less than a byte, but panics when asked for their bytes.
    #[test]
    fn other_types_than_f16_and_f32_are_errors() {
        let metadata = r#"{"version": 1, "config": {}, "sha256": "", "provenance":
            {"name": "", "data": "", "steps": {}, "images": {}, "metrics": {}, "revision": ""}}"#;
        // Eight elements have as many bytes as one has bits.
        for (dtype, name, bits) in
            [("F4", "f4", 4), ("F6_E2M3", "f6e2m3", 6), ("F8_E8M0", "f8e8m0", 8), ("I64", "i64", 64)]
        {
            let tensor = serde_json::json!({"dtype": dtype, "shape": [8], "data_offsets": [0, bits]});
            let header = serde_json::json!({"__metadata__": {KEY: metadata}, "a": tensor}).to_string();
            let length = (header.len() as u64).to_le_bytes();
            let bytes = [&length[..], header.as_bytes(), &vec![0; bits]].concat();
            let error = ModelFile::from_bytes(&bytes, "file").unwrap_err().to_string();
            assert_eq!(error, format!("file: tensor a is {name}, not f16 or f32"));
        }
    }

    fn file(name: &str, values: &[f32]) -> ModelFile {
        let tensors = [("generator.a".to_string(), Tensor::new(values, &Device::Cpu).unwrap())].into();
        let provenance = Provenance { name: name.to_string(), ..Default::default() };
        ModelFile { config: FileConfig::default(), provenance, tensors }
    }

    #[test]
    fn weights_that_are_not_finite_are_neither_written_nor_read() {
        for values in [[1.0, f32::NAN], [f32::INFINITY, 1.0], [f32::NEG_INFINITY, f32::NAN]] {
            let error = file("m", &values).to_bytes(DType::F32).unwrap_err().to_string();
            assert!(error.contains("generator.a"), "{error}");
        }
        // The largest number of f16 is 65504.
        assert!(file("m", &[65504.0, 0.0]).to_bytes(DType::F16).is_ok());
        assert!(file("m", &[7e4, 0.0]).to_bytes(DType::F16).unwrap_err().to_string().contains("f16"));

        let tensors: TensorMap = file("m", &[0.0, f32::NAN]).tensors;
        let config = serde_json::value::to_raw_value(&FileConfig::default()).unwrap();
        let sha256 = hash(&config, &tensors);
        let metadata = Metadata { version: VERSION, config, provenance: Provenance::default(), sha256 };
        let metadata = HashMap::from([(KEY.to_string(), serde_json::to_string(&metadata).unwrap())]);
        let bytes = safetensors::serialize(&tensors, Some(metadata)).unwrap();
        let error = ModelFile::from_bytes(&bytes, "file").unwrap_err().to_string();
        assert!(error.starts_with("file: tensor generator.a has 1 of 2 values"), "{error}");
        let read = ModelFile::from_bytes_to_inspect(&bytes, "file").unwrap();
        assert_eq!(count_not_finite(&read.tensors["generator.a"]).unwrap(), 1);
    }

    #[test]
    fn names_are_safe_in_paths_and_on_terminals() {
        let long = "a".repeat(MAX_NAME + 1);
        for (name, expected) in [
            ("faces256", "faces256"),
            ("a.b_c-9", "a.b_c-9"),
            ("../../escaped", "_._.._escaped"),
            ("/etc/passwd", "_etc_passwd"),
            ("..", "_."),
            (".hidden", "_hidden"),
            ("C:\\x", "C__x"),
            ("a\u{1b}[31m\nb\0", "a__31m_b_"),
            ("Gesichter für alle", "Gesichter_f_r_alle"),
            ("", "model"),
            (long.as_str(), &long[1..]),
        ] {
            let bytes = file(name, &[1.0]).to_bytes(DType::F32).unwrap();
            assert_eq!(ModelFile::from_bytes(&bytes, "file").unwrap().provenance.name, expected);
        }
    }
}
