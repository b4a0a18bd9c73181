//! The variance-preserving diffusion of LDDGAN (reference: `Diffusion_Coefficients` and `Posterior_Coefficients`).
//!
//! Steps are numbered t = 0..T-1; x_t at t = 0 is x_0 itself.

use candle_core::{Device, Tensor};

use crate::backend::Backend;
use crate::config::DiffusionConfig;
use crate::error::{Error, Result};

/// The tables of a diffusion process, in f32 as the reference computes them.
#[derive(Debug, Clone)]
pub struct Schedule {
    steps: usize,
    /// sqrt(1 - beta), T + 1 entries: the first belongs to t = 0.
    pub a_s: Vec<f32>,
    /// sqrt(beta), T + 1 entries.
    pub sigmas: Vec<f32>,
    /// Running product of `a_s`.
    pub a_s_cum: Vec<f32>,
    /// sqrt(1 - a_s_cum²)
    pub sigmas_cum: Vec<f32>,
    /// Factor of x_0 in the posterior mean, T entries.
    pub posterior_mean_coef1: Vec<f32>,
    /// Factor of x_{t+1} in the posterior mean, T entries.
    pub posterior_mean_coef2: Vec<f32>,
    /// Standard deviation of the posterior, T entries, the first 0.
    pub posterior_std: Vec<f32>,
    /// beta of the T steps.
    betas: Vec<f32>,
    /// Running product of 1 - beta of the T steps.
    cumulative: Vec<f32>,
}

/// The posterior q(x_s | x_0, x_t), a normal distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PosteriorCoefficients {
    /// Factor of x_0 in the mean.
    pub x_0: f32,
    /// Factor of x_t in the mean.
    pub x_t: f32,
    /// Standard deviation, 0 where s = 0.
    pub std: f32,
}

impl PosteriorCoefficients {
    /// Draws x_s from x_0 and x_t, with standard normal `noise`. There is none where s = 0, and x_t has no part then.
    pub fn sample<B: Backend>(
        self,
        b: &mut B,
        x_0: &B::Value,
        x_t: &B::Value,
        noise: Option<&B::Value>,
    ) -> Result<B::Value> {
        match noise {
            Some(noise) => b.weighted_sum(&[(self.x_0, x_0), (self.x_t, x_t), (self.std, noise)]),
            None => b.weighted_sum(&[(self.x_0, x_0)]),
        }
    }
}

/// The smallest continuous time.
const EPSILON: f64 = 1e-3;
/// Beta of the step in front of the first.
const FIRST_BETA: f32 = 1e-8;

impl Schedule {
    /// Computes the schedule in f64.
    pub fn new(config: &DiffusionConfig) -> Result<Self> {
        config.validate()?;
        let betas = betas(config);
        let a_s: Vec<f32> = betas.iter().map(|beta| (1.0 - beta).sqrt()).collect();
        let a_s_cum = running_product(&a_s);
        let sigmas_cum = a_s_cum.iter().map(|a| (1.0 - a * a).sqrt()).collect();

        let betas_t = betas[1..].to_vec();
        let alphas: Vec<f32> = betas_t.iter().map(|beta| 1.0 - beta).collect();
        let mut schedule = Self {
            steps: config.steps(),
            sigmas: betas.iter().map(|beta| beta.sqrt()).collect(),
            sigmas_cum,
            posterior_mean_coef1: Vec::new(),
            posterior_mean_coef2: Vec::new(),
            posterior_std: Vec::new(),
            cumulative: running_product(&alphas),
            betas: betas_t,
            a_s,
            a_s_cum,
        };
        let single: Vec<PosteriorCoefficients> = (0..config.steps()).map(|t| schedule.posterior(t + 1, t)).collect();
        schedule.posterior_mean_coef1 = single.iter().map(|posterior| posterior.x_0).collect();
        schedule.posterior_mean_coef2 = single.iter().map(|posterior| posterior.x_t).collect();
        schedule.posterior_std = single.iter().map(|posterior| posterior.std).collect();
        Ok(schedule)
    }

    /// The number of steps T.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The share of x_0's variance in x_t, t = 0..=T.
    pub fn alpha_bar(&self, t: usize) -> f32 {
        if t == 0 { 1.0 } else { self.cumulative[t - 1] }
    }

    /// The posterior of x_s, from x_0 and x_t of a later t <= T: several steps at once if t > s + 1.
    pub fn posterior(&self, t: usize, s: usize) -> PosteriorCoefficients {
        let alpha_bar = |t: usize| self.alpha_bar(t);
        let alpha: f32 = self.betas[s..t].iter().map(|beta| 1.0 - beta).product();
        let beta = if t == s + 1 { self.betas[s] } else { 1.0 - alpha };
        let rest = 1.0 - alpha_bar(t);
        let variance = if s == 0 { 0.0 } else { (beta * (1.0 - alpha_bar(s)) / rest).max(1e-20) };
        PosteriorCoefficients {
            x_0: beta * alpha_bar(s).sqrt() / rest,
            x_t: (1.0 - alpha_bar(s)) * alpha.sqrt() / rest,
            std: variance.sqrt(),
        }
    }

    /// The t of the latents x_t on a way of `steps` steps from T to 0, both included, as even as whole numbers allow.
    pub fn levels(&self, steps: usize) -> Result<Vec<usize>> {
        if !(1..=self.steps).contains(&steps) {
            let reason = format!("{steps} steps; this model has from 1 to {}", self.steps);
            return Err(Error::config("steps", reason));
        }
        Ok((0..=steps).rev().map(|i| (i * self.steps + steps / 2) / steps).collect())
    }

    /// What samples of the steps `t` are drawn with.
    pub fn coefficients(&self, t: &[u32], device: &Device) -> Result<Coefficients> {
        let table = |values: &[f32], offset: u32| per_sample(values, t, offset, device);
        Ok(Coefficients([
            table(&self.a_s_cum, 0)?,
            table(&self.sigmas_cum, 0)?,
            table(&self.a_s, 1)?,
            table(&self.sigmas, 1)?,
            table(&self.posterior_mean_coef1, 0)?,
            table(&self.posterior_mean_coef2, 0)?,
            table(&self.posterior_std, 0)?,
        ]))
    }

    /// See [`Coefficients::q_sample_pairs`]; one step `t` per sample.
    pub fn q_sample_pairs(
        &self,
        x_0: &Tensor,
        t: &[u32],
        noise_t: &Tensor,
        noise_tp1: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        self.coefficients(t, x_0.device())?.q_sample_pairs(x_0, noise_t, noise_tp1)
    }

    /// See [`Coefficients::sample_posterior`]; one step `t` per sample.
    pub fn sample_posterior(&self, x_0: &Tensor, x_tp1: &Tensor, t: &[u32], noise: &Tensor) -> Result<Tensor> {
        self.coefficients(t, x_0.device())?.sample_posterior(x_0, x_tp1, noise)
    }
}

/// The numbers of a schedule that belong to some steps, each (N, 1, 1, 1): of x_0 and noise in x_t, of x_t and noise in
/// x_{t+1}, and of x_0, x_{t+1} and noise in the posterior's x_t.
#[derive(Debug, Clone)]
pub struct Coefficients([Tensor; 7]);

impl Coefficients {
    /// Those of the rows `rows` (u32).
    pub fn select(&self, rows: &Tensor) -> Result<Self> {
        let mut selected = self.0.clone();
        for coefficient in &mut selected {
            *coefficient = coefficient.index_select(rows, 0)?;
        }
        Ok(Self(selected))
    }

    /// Draws (x_t, x_{t+1}) for x_0 (N, C, H, W), from standard normal noise of the same shape. `noise_tp1` takes x_t to
    /// x_{t+1}.
    pub fn q_sample_pairs(&self, x_0: &Tensor, noise_t: &Tensor, noise_tp1: &Tensor) -> Result<(Tensor, Tensor)> {
        let [a_cum, sigma_cum, a, sigma, ..] = &self.0;
        let x_t = (x_0.broadcast_mul(a_cum)? + noise_t.broadcast_mul(sigma_cum)?)?;
        let x_tp1 = (x_t.broadcast_mul(a)? + noise_tp1.broadcast_mul(sigma)?)?;
        Ok((x_t, x_tp1))
    }

    /// Draws x_t from the posterior q(x_t | x_0, x_{t+1}).
    pub fn sample_posterior(&self, x_0: &Tensor, x_tp1: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let [.., of_x_0, of_x_tp1, std] = &self.0;
        let mean = (x_0.broadcast_mul(of_x_0)? + x_tp1.broadcast_mul(of_x_tp1)?)?;
        Ok((mean + noise.broadcast_mul(std)?)?)
    }
}

/// beta of t = 0 (almost nothing) and of the T steps.
fn betas(config: &DiffusionConfig) -> Vec<f32> {
    let alpha_bar = |i: usize| match config {
        DiffusionConfig::Betas { steps, beta_min, beta_max } => {
            let t = i as f64 / *steps as f64 * (1.0 - EPSILON) + EPSILON;
            libm::exp(-(t * t) * (beta_max - beta_min) / 2.0 - t * beta_min)
        }
        DiffusionConfig::AlphaBar(levels) => i.checked_sub(1).map_or(1.0, |i| levels[i]),
    };
    let beta = |i: usize| (1.0 - alpha_bar(i) / alpha_bar(i - 1)) as f32;
    std::iter::once(FIRST_BETA).chain((1..=config.steps()).map(beta)).collect()
}

fn running_product(values: &[f32]) -> Vec<f32> {
    let product = |state: &mut f32, value: &f32| {
        *state *= value;
        Some(*state)
    };
    values.iter().scan(1.0, product).collect()
}

/// `values[t + offset]` for every sample, (N, 1, 1, 1).
fn per_sample(values: &[f32], t: &[u32], offset: u32, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = t.iter().map(|t| values[(t + offset) as usize]).collect();
    Ok(Tensor::from_vec(values, (t.len(), 1, 1, 1), device)?)
}

/// The sinusoidal embedding of integer steps, (len of t, `width`): sines of half the width, then cosines, zero
/// padded if `width` is odd (reference: `get_timestep_embedding`).
pub fn timestep_embedding(t: &[u32], width: usize, device: &Device) -> Result<Tensor> {
    let half = width / 2;
    let spacing = libm::log(10_000.0) / (half.max(2) - 1) as f64;
    let mut values = vec![0f32; t.len() * width];
    for (row, &t) in values.chunks_exact_mut(width).zip(t) {
        for k in 0..half {
            let frequency = libm::exp(-(k as f64) * spacing) as f32;
            let (sine, cosine) = libm::sincosf(t as f32 * frequency);
            row[k] = sine;
            row[half + k] = cosine;
        }
    }
    Ok(Tensor::from_vec(values, (t.len(), width), device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(steps: usize) -> Schedule {
        Schedule::new(&DiffusionConfig::linear(steps)).unwrap()
    }

    #[test]
    fn step_zero_is_the_clean_latent() {
        for steps in [1, 2, 4, 8] {
            let schedule = schedule(steps);
            assert_eq!((schedule.a_s_cum[0], schedule.sigmas_cum[0]), (1.0, 0.0));
            assert!((schedule.posterior_mean_coef1[0] - 1.0).abs() < 2e-7);
            assert_eq!((schedule.posterior_mean_coef2[0], schedule.posterior_std[0]), (0.0, 0.0));
        }
    }

    /// alpha_bar has a closed form; the product of the tables must agree with it at the last step.
    #[test]
    fn last_step_is_almost_noise() {
        let expected = ((-(20.0 - 0.1) / 2.0 - 0.1f64) - (-(1e-6f64) * 19.9 / 2.0 - 1e-3 * 0.1)).exp().sqrt();
        for steps in [1, 2, 4, 8] {
            let schedule = schedule(steps);
            let last = f64::from(schedule.a_s_cum[steps]);
            // With T = 1, beta is so close to 1 that rounding it to f32 moves the square root by 2e-6.
            assert!((last - expected).abs() < 1e-5, "T = {steps}: {last} instead of {expected}");
        }
    }

    /// The marginal of x_{t+1} through x_t has variance 1 for x_0 of variance 1.
    #[test]
    fn variance_is_preserved() {
        let schedule = schedule(4);
        for t in 0..4 {
            let x_t = schedule.a_s_cum[t].powi(2) + schedule.sigmas_cum[t].powi(2);
            let x_tp1 = schedule.a_s[t + 1].powi(2) * x_t + schedule.sigmas[t + 1].powi(2);
            assert!((x_tp1 - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_way_has_even_steps_from_noise_to_image() {
        let schedule = schedule(4);
        let levels = |steps| schedule.levels(steps).unwrap();
        assert_eq!([levels(4), levels(2), levels(1)], [vec![4, 3, 2, 1, 0], vec![4, 2, 0], vec![4, 0]]);
        for steps in [0, 5] {
            assert!(schedule.levels(steps).unwrap_err().to_string().contains("from 1 to 4"));
        }
    }

    /// Marginals must agree: x_s drawn from the posterior, with x_t from x_0, has the mean and variance of x_s from x_0.
    #[test]
    fn a_posterior_over_several_steps_keeps_the_marginals() {
        let schedule = schedule(4);
        let alpha_bar = |t: usize| (0..t).map(|t| 1.0 - f64::from(schedule.betas[t])).product::<f64>();
        for (t, s) in [(4, 2), (4, 1), (3, 1), (4, 3), (2, 1), (4, 0), (1, 0)] {
            let PosteriorCoefficients { x_0, x_t, std } = schedule.posterior(t, s);
            let mean = f64::from(x_0) + f64::from(x_t) * alpha_bar(t).sqrt();
            let variance = f64::from(std).powi(2) + f64::from(x_t).powi(2) * (1.0 - alpha_bar(t));
            assert!((mean - alpha_bar(s).sqrt()).abs() < 1e-5, "{t} to {s}: mean {mean}");
            assert!((variance - (1.0 - alpha_bar(s))).abs() < 1e-5, "{t} to {s}: variance {variance}");
        }
    }
}
