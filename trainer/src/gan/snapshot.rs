//! What a checkpoint holds, and how good it is.

use anyhow::Result;
use candle_core::{DType, Device};
use lddgan::backend::CandleBackend;
use lddgan::{FileConfig, ModelFile, NetworkName, Provenance};

use super::latents::Latents;
use super::step::Trainer;
use crate::checkpoint::{Metric, Position, Score};
use crate::data::ImageSet;
use crate::eval::table::{Row, Table};
use crate::grid;
use crate::run::Snapshot;

/// Images in the picture of a checkpoint, made from the seeds 0, 1, ….
const PICTURE_IMAGES: usize = 64;
/// Images that a checkpoint is judged by, made from the same seeds, and the least that figures can be of.
pub const SCORED_IMAGES: usize = 256;
const MIN_SCORED: usize = 4;
/// Images made at a time; the pictures are whole batches.
const BATCH: usize = 16;

/// Where networks of this run come from.
fn provenance(autoencoder: &ModelFile, position: &Position) -> Provenance {
    let mut provenance = Provenance {
        name: position.preset.name.clone(),
        revision: crate::revision(),
        ..autoencoder.provenance.clone()
    };
    provenance.steps.insert("gan".to_string(), position.before.step + position.step);
    provenance.images.insert("gan".to_string(), position.before.images + position.images);
    provenance
}

/// The discriminator's file, which another run may start with.
pub fn discriminator_file(trainer: &Trainer, autoencoder: &ModelFile, position: &Position) -> ModelFile {
    let config = FileConfig { discriminator: Some(position.preset.discriminator.clone()), ..Default::default() };
    ModelFile { config, provenance: provenance(autoencoder, position), tensors: trainer.discriminator() }
}

/// The model file: averaged generator, and the decoder of the autoencoder's file.
pub fn model_file(trainer: &Trainer, autoencoder: &ModelFile, position: &Position) -> ModelFile {
    let mut tensors = trainer.averaged_generator();
    tensors.extend(autoencoder.tensors_of(NetworkName::Decoder));
    let config = FileConfig {
        generator: Some(position.preset.generator.clone()),
        diffusion: Some(position.preset.diffusion.clone()),
        ..autoencoder.config.clone()
    };
    ModelFile { config, provenance: provenance(autoencoder, position), tensors }
}

/// Reconstructions of some training images, where the images themselves are not at hand.
pub fn reconstructions(autoencoder: &ModelFile, file: &str, latents: &Latents, device: &Device) -> Result<ImageSet> {
    let decoder = autoencoder.decoder(file, device)?;
    let indices = latents.spread(SCORED_IMAGES);
    let mut images = ImageSet::new(autoencoder.config.autoencoder.as_ref().map_or(0, |config| config.image_size));
    for indices in indices.chunks(BATCH) {
        let latents = latents.unscaled(indices)?;
        let quantized = decoder.quantize(&mut CandleBackend, &latents)?;
        images.append(&decoder.forward(&mut CandleBackend, &quantized)?)?;
    }
    Ok(images)
}

/// What generated images are measured against; nothing, where there are too few real ones.
pub struct Judge {
    table: Option<Table>,
    /// How many images are compared with as many.
    count: usize,
}

impl Judge {
    pub fn new(real: &ImageSet) -> Result<Self> {
        let count = real.len().min(SCORED_IMAGES);
        let table = (count >= MIN_SCORED).then(|| Table::of(real, count)).transpose()?;
        Ok(Self { table, count })
    }

    fn row(&self, generated: &ImageSet) -> Result<Option<Row>> {
        Ok(self.table.as_ref().map(|table| table.row(generated)).transpose()?)
    }
}

/// What goes into a checkpoint.
pub fn snapshot(
    trainer: &Trainer,
    autoencoder: &ModelFile,
    judge: &Judge,
    position: &Position,
    device: &Device,
) -> Result<Snapshot> {
    let bytes = model_file(trainer, autoencoder, position).to_bytes(DType::F16)?;
    // The picture is made from the file, so that it shows what the file holds.
    let name = "the model file of the checkpoint";
    let model = ModelFile::from_bytes(&bytes, name)?.model(name, device)?;
    let seeds: Vec<u64> = (0..judge.count.max(PICTURE_IMAGES) as u64).collect();
    let mut pictures = Vec::new();
    let mut scored = ImageSet::new(position.preset.autoencoder.image_size);
    for (batch, seeds) in seeds.chunks(BATCH).enumerate() {
        let images = model.sample_seeds(seeds, device)?.image;
        if batch * BATCH < PICTURE_IMAGES {
            pictures.extend(grid::to_images(&images)?);
        }
        let left = judge.count.saturating_sub(batch * BATCH).min(seeds.len());
        if left > 0 {
            scored.append(&images.narrow(0, 0, left)?)?;
        }
    }
    let row = judge.row(&scored)?;
    let score = row.map(|row| Score { metric: Metric::Distance, value: row.distance, count: judge.count });
    let figures = row.map_or_else(Vec::new, |row| row.named()[1..].to_vec());
    let picture = grid::arrange(&pictures, 8);
    Ok(Snapshot { state: trainer.state()?, model: bytes, score, figures, picture })
}
