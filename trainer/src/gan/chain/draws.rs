//! The random numbers of an iteration on a chain.

use candle_core::{Device, Tensor};
use lddgan::Result;
use lddgan::diffusion::Schedule;
use lddgan::noise::Stream;

use super::augment::Augmentation;
use crate::gan::augment::draw_shift;
use crate::gan::draws::Drawing;
use crate::noise::normals;
use crate::preset::ChainTraining;

/// The draws of one iteration, on the CPU.
pub struct ChainDraws {
    /// How many steps the chain has.
    pub steps: usize,
    /// What it starts from, (N, C, H, W).
    pub x: Tensor,
    /// (N, z_dim) for each step.
    pub z: Vec<Tensor>,
    /// Noise of the posterior for each step but the last.
    pub noise: Vec<Tensor>,
    /// Pairs of real latents and of generated ones for the discriminator, and generated ones for the generator. The first two
    /// have the same t.
    pub pairs: [PairDraws; 3],
    /// How far the discriminator sees each pair moved, in rows and columns.
    pub shifts: Vec<[i64; 2]>,
    /// How real and generated pictures are changed; none where nothing judges pictures.
    pub pictures: Option<[Vec<Augmentation>; 2]>,
}

/// Noise that takes x_0 to x_t, and x_t to x_{t+1}.
pub struct PairDraws {
    /// One step per sample, 0..T.
    pub t: Vec<u32>,
    pub noise_t: Tensor,
    pub noise_tp1: Tensor,
}

/// How draws are made.
#[derive(Debug, Clone)]
pub struct ChainDrawing {
    pub options: ChainTraining,
    pub schedule: Schedule,
}

impl ChainDrawing {
    /// The draws of the iteration `number` on the training samples numbered `samples`. Numbers of steps are the same for all
    /// samples of an iteration; everything else belongs to the samples.
    pub fn draw(&self, drawing: &Drawing, number: u64, samples: &[u64]) -> Result<ChainDraws> {
        let Drawing { seed, shape, z_dim, translation, .. } = *drawing;
        let normal = |draw: &str, shape: &[usize]| normals(seed, samples, draw, shape, &Device::Cpu);
        let steps = &self.options.steps;
        let steps = steps[Stream::new(seed, number, "chain/steps").below(steps.len() as u32) as usize];
        let levels = self.schedule.levels(steps)?;
        let of_level = |level: &usize| normal(&format!("chain/z{level}"), &[z_dim]);
        let noise = |level: &usize| normal(&format!("chain/noise{level}"), &shape);
        let pair = |half: &str, pair: &str| -> Result<PairDraws> {
            let t = |&sample: &u64| self.step_of_pair(&mut Stream::new(seed, sample, &format!("chain/{half}/t")));
            Ok(PairDraws {
                t: samples.iter().map(t).collect(),
                noise_t: normal(&format!("chain/{pair}/noise_t"), &shape)?,
                noise_tp1: normal(&format!("chain/{pair}/noise_tp1"), &shape)?,
            })
        };
        let stream = |draw: &str, sample: u64| Stream::new(seed, sample, draw);
        let pictures = |draw: &str| {
            samples.iter().map(|&sample| Augmentation::draw(&mut stream(draw, sample), &self.options)).collect()
        };
        Ok(ChainDraws {
            steps,
            x: normal("chain/x", &shape)?,
            z: levels[..steps].iter().map(of_level).collect::<Result<_>>()?,
            noise: levels[..steps - 1].iter().map(noise).collect::<Result<_>>()?,
            pairs: [pair("d", "real")?, pair("d", "fake")?, pair("g", "g")?],
            shifts: samples.iter().map(|&sample| draw_shift(&mut stream("chain/shift", sample), translation)).collect(),
            pictures: (self.options.projected > 0.0)
                .then(|| [pictures("chain/real_picture"), pictures("chain/fake_picture")]),
        })
    }

    /// The t of a pair, with the probabilities of the settings.
    fn step_of_pair(&self, stream: &mut Stream) -> u32 {
        let weights = &self.options.pairs;
        let mut place = stream.uniform() * weights.iter().sum::<f64>();
        for (t, weight) in weights.iter().enumerate() {
            place -= weight;
            if place < 0.0 {
                return t as u32;
            }
        }
        // Rounding alone leads here: the last step that occurs.
        weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0) as u32
    }
}
