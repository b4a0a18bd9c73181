//! `lddgan data encode`: the latents of a set of images in a small file, to train elsewhere without the images.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::{D, DType, Tensor};

use super::latent_cache::Cache;
use super::latents::Encoded;
use crate::data::DataOptions;
use crate::files;
use crate::network::{BackendName, device};
use crate::say;

/// The largest 8-bit number.
const LARGEST: f64 = 255.0;

/// Options of `lddgan data encode`.
#[derive(Debug, Clone, clap::Args)]
pub struct EncodeOptions {
    #[command(flatten)]
    pub data: DataOptions,
    /// The file that `lddgan train autoencoder` wrote
    #[arg(long, value_name = "FILE")]
    pub autoencoder: PathBuf,
    /// File to write, for `lddgan train gan --latents`; its name must end with .safetensors
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Backend that computes
    #[arg(long, default_value = "cpu")]
    pub backend: BackendName,
}

/// Numbers as 8-bit steps between the least and the largest of each channel.
pub struct Rounded {
    /// (N, C, H, W), u8
    pub levels: Tensor,
    /// The number of level 0 of each channel, (1, C, 1, 1).
    pub least: Tensor,
    /// What a level adds, (1, C, 1, 1).
    pub step: Tensor,
}

impl Rounded {
    pub fn new(values: &Tensor) -> candle_core::Result<Self> {
        let channels = values.transpose(0, 1)?.contiguous()?.flatten_from(1)?;
        let of_channels = |values: Tensor| values.reshape((1, (), 1, 1));
        let (least, most) = (of_channels(channels.min(D::Minus1)?)?, of_channels(channels.max(D::Minus1)?)?);
        // A channel of one value has levels of some size.
        let step = ((&most - &least)? / LARGEST)?.maximum(f32::MIN_POSITIVE)?;
        let levels = values.broadcast_sub(&least)?.broadcast_div(&step)?.round()?.clamp(0.0, LARGEST)?;
        Ok(Self { levels: levels.to_dtype(DType::U8)?, least, step })
    }

    /// The numbers, each within half a step of what it was.
    pub fn values(&self) -> candle_core::Result<Tensor> {
        self.levels.to_dtype(DType::F32)?.broadcast_mul(&self.step)?.broadcast_add(&self.least)
    }
}

/// Runs `lddgan data encode`.
pub fn encode(options: &EncodeOptions) -> Result<()> {
    let out = options.out.display();
    ensure!(
        options.out.extension().is_some_and(|end| end == "safetensors"),
        "{out}: its name must end with .safetensors"
    );
    let device = device(options.backend)?;
    let (file, name) = files::read_model(&options.autoencoder)?;
    let encoder = file.encoder(&name, &device)?;
    let size = file.config.autoencoder.as_ref().map_or(0, |config| config.image_size);
    let images = options.data.load(size)?;
    let means = Encoded::new(&encoder, &images, &device)?.means.to_device(&candle_core::Device::Cpu)?;
    let rounded = Rounded::new(&means)?;
    let root_mean_square =
        |x: &Tensor| -> candle_core::Result<f64> { Ok(f64::from(x.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt()) };
    let error = root_mean_square(&(rounded.values()? - &means)?)?;
    let centred = means.broadcast_sub(&means.mean_keepdim(0)?)?;
    let share = 100.0 * error / root_mean_square(&centred)?;
    Cache::new(options.out.clone(), &file, Some(images.sha256()))?.write_rounded(&rounded)?;
    say!("{} latents; rounding moves them by {share:.2} % of their deviation", means.dim(0)?);
    say!("wrote {out}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn each_channel_has_levels_of_its_own() {
        let values = [0f32, 255.0, 100.4, 7.0, -1.0, 1.0, 0.3, -0.2, 5.0, 5.0, 5.0, 5.0];
        let values = Tensor::new(&values, &Device::Cpu).unwrap().reshape((1, 3, 2, 2)).unwrap();
        let rounded = Rounded::new(&values).unwrap();
        let found = rounded.values().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found[..4], [0.0, 255.0, 100.0, 7.0]);
        let errors: Vec<f32> = found[4..8].iter().zip([-1.0, 1.0, 0.3, -0.2]).map(|(a, b)| (a - b).abs()).collect();
        assert!(
            errors[0] < 1e-6 && errors[1] < 1e-6 && errors[2..].iter().all(|error| *error < 1.0 / 255.0),
            "{errors:?}"
        );
        assert_eq!(found[8..], [5.0; 4]);
    }
}
