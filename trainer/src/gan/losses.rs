//! The losses of the diffusion GAN (reference: `train_ldgan.py`; paper, section 3).

use candle_core::{Tensor, Var};
use lddgan::{Error, Result};

use super::numbers::Read;
use crate::distributed::Processes;
use crate::second_order;

/// The losses of one iteration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Losses {
    /// softplus(-D) on real pairs.
    pub real: f64,
    /// softplus(D) on generated pairs.
    pub fake: f64,
    /// R1 penalty, where this iteration has one.
    pub penalty: Option<f64>,
    /// softplus(-D) of the generator's pairs.
    pub adversarial: f64,
    /// Mean |x_0 - prediction| in the scaled latent space; 0 on chains.
    pub reconstruction: f64,
    /// Of the judge of pictures, where there is one.
    pub pictures: Option<PictureLosses>,
    /// For each step t the samples of the batch, and those of which the discriminator held the real pair to be more
    /// real than the generated one. A half of them is chance.
    pub ordered: Vec<Ordered>,
    /// The norms of the gradients of discriminator and generator, before they were clipped; 0 for a generator that did not
    /// learn.
    pub gradient_norms: [f64; 2],
}

/// What came of judging pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PictureLosses {
    /// The negative verdict on generated pictures.
    pub verdict: f64,
    /// The projected discriminator's own hinge loss.
    pub discriminator: f64,
    /// The norm of its gradient, before it was clipped.
    pub gradient_norm: f64,
    /// What its gradient on x_0 was multiplied by, to be as long as that of the discriminator of pairs.
    pub gradient_ratio: f64,
    /// Of its pairs of a real and a generated picture.
    pub ordered: Ordered,
}

/// See [`Losses::ordered`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ordered {
    pub samples: f64,
    pub right: f64,
}

impl Losses {
    /// From the numbers of an iteration on pairs of the steps `t`, of so many steps in all.
    pub(super) fn read(numbers: &Read, t: &[u32], steps: usize) -> Self {
        let one = |name: &str| numbers.one(name).unwrap_or_default();
        let pictures = numbers.one("projected").map(|verdict| PictureLosses {
            verdict,
            discriminator: one("projected_discriminator"),
            gradient_norm: one("projected_norm"),
            gradient_ratio: one("gradient_ratio"),
            ordered: ordered(&vec![0; t.len()], (numbers.all("pictures_real"), numbers.all("pictures_fake")), 1)[0],
        });
        Self {
            real: one("real"),
            fake: one("fake"),
            penalty: numbers.one("penalty"),
            adversarial: one("adversarial"),
            reconstruction: one("reconstruction"),
            pictures,
            ordered: ordered(t, (numbers.all("of_real"), numbers.all("of_fake")), steps),
            gradient_norms: [one("discriminator_norm"), one("generator_norm")],
        }
    }

    /// Replaces the losses by their means over the processes.
    pub(super) fn average(&mut self, processes: &Processes) -> Result<()> {
        let Self { real, fake, penalty, adversarial, reconstruction, pictures, ordered, gradient_norms: _ } = self;
        let losses = [real, fake, adversarial, reconstruction].into_iter().chain(penalty.as_mut());
        let (mut values, mut all_ordered) = (losses.collect::<Vec<_>>(), ordered.iter_mut().collect::<Vec<_>>());
        if let Some(PictureLosses { verdict, discriminator, ordered, gradient_norm: _, gradient_ratio: _ }) = pictures {
            values.extend([verdict, discriminator]);
            all_ordered.push(ordered);
        }
        values.extend(all_ordered.into_iter().flat_map(|Ordered { samples, right }| [samples, right]));
        Ok(processes.average(&mut values)?)
    }
}

/// The weighted-learning schedule: the weight of the reconstruction loss after `progress` (0 to 1) of the training
/// goes from almost one to almost zero along a sigmoid (paper, section 3.3; reference: `get_alpha_schedule`).
pub fn reconstruction_weight(progress: f64) -> f64 {
    1.0 / (1.0 + (12.0 * progress.clamp(0.0, 1.0) - 6.0).exp())
}

/// Mean of ln(1 + exp(x)), in the form that does not overflow.
pub fn softplus_mean(x: &Tensor) -> Result<Tensor> {
    let magnitude = x.abs()?;
    Ok((x.relu()? + (magnitude.neg()?.exp()? + 1.0)?.log()?)?.mean_all()?)
}

/// R1: `gamma` / 2 times the mean squared norm of the gradient of the logits (N, 1) in x_t (N, C, H, W), itself
/// differentiable. An error unless [`second_order::start`] was called or `CANDLE_GRAD_DO_NOT_DETACH` is set.
pub fn gradient_penalty(logits: &Tensor, x_t: &Var, gamma: f64) -> Result<Tensor> {
    let logits = logits.sum_all()?;
    let gradients = second_order::run(logits.device(), || logits.backward())?;
    let gradient = gradients.get(x_t).filter(|gradient| gradient.track_op()).ok_or_else(|| Error::Config {
        field: "CANDLE_GRAD_DO_NOT_DETACH".to_string(),
        reason: "must be 1 in the environment: the R1 penalty needs second-order gradients".to_string(),
    })?;
    Ok((gradient.sqr()?.flatten_from(1)?.sum(1)?.mean_all()? * (gamma / 2.0))?)
}

/// How many of each step's samples have a larger logit for the real pair (first of `logits`) than for the other.
pub fn ordered(t: &[u32], logits: (&[f64], &[f64]), steps: usize) -> Vec<Ordered> {
    let mut ordered = vec![Ordered::default(); steps];
    for ((&t, real), fake) in t.iter().zip(logits.0).zip(logits.1) {
        ordered[t as usize].samples += 1.0;
        ordered[t as usize].right += f64::from(u8::from(real > fake));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// The reference's table for 20 epochs starts at 0.9975, passes 0.5 half-way and ends at 0.0025.
    #[test]
    fn reconstruction_gives_way_to_the_adversary() {
        for (progress, expected) in [(0.0, 0.99753), (0.5, 0.5), (1.0, 0.00247)] {
            assert!((reconstruction_weight(progress) - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn softplus_neither_overflows_nor_cancels() {
        for (x, expected) in [(0f32, std::f64::consts::LN_2), (100.0, 100.0), (-100.0, 0.0), (1.5, 1.701_413_3)] {
            let x = Tensor::new(&[x], &Device::Cpu).unwrap();
            let found = f64::from(softplus_mean(&x).unwrap().to_scalar::<f32>().unwrap());
            assert!((found - expected).abs() < 1e-5);
        }
    }
}
