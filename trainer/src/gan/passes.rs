//! The passes of an iteration on single steps, and what those on chains share with them.

use candle_core::{DType, Tensor, Var};
use lddgan::Result;
use lddgan::backend::CandleBackend;
use lddgan::diffusion::Coefficients;
use lddgan::networks::StepInputs;
use lddgan::parameters::TensorMap;

use super::augment::translate;
use super::inputs::HalfInputs;
use super::losses::{gradient_penalty, softplus_mean};
use super::numbers::Numbers;
use super::step::Trainer;

/// x_t and x_{t+1} for each sample, (N, C, H, W).
pub(super) type Pair = (Tensor, Tensor);

/// How the discriminator sees pairs.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// The steps of the samples, u32.
    pub t: &'a Tensor,
    pub shifts: &'a [[i64; 2]],
}

impl HalfInputs {
    fn seen(&self) -> Seen<'_> {
        Seen { t: &self.t, shifts: &self.shifts }
    }
}

impl Trainer {
    /// An update of the discriminator on generated pairs that share their x_{t+1} with the real ones.
    pub(super) fn discriminator_pass(&mut self, inputs: &HalfInputs, penalty: bool) -> Result<Numbers> {
        let coefficients = self.coefficients.select(&inputs.t)?;
        let real = coefficients.q_sample_pairs(&inputs.real, &inputs.noise_t, &inputs.noise_tp1)?;
        // Detached at once, so that what the generator kept for a gradient is freed.
        let fake = self.generate(&real.1, inputs, &coefficients)?.1.detach();
        let fake = (fake, real.1.clone());
        self.update_discriminator(&real, &fake, inputs.seen(), penalty)
    }

    /// Losses on real and generated pairs, R1 penalty (or 0), norm of the gradient, and the logits of all pairs.
    pub(super) fn update_discriminator(
        &mut self,
        real: &Pair,
        fake: &Pair,
        seen: Seen,
        penalty: bool,
    ) -> Result<Numbers> {
        // Only the penalty needs a gradient in x_t.
        let x_t = Var::from_tensor(&real.0)?;
        let of_real = self.discriminate(if penalty { x_t.as_tensor() } else { &real.0 }, &real.1, seen)?;
        let on_real = softplus_mean(&of_real.neg()?)?;
        let penalty = penalty.then(|| gradient_penalty(&of_real, &x_t, self.options.r1_gamma)).transpose()?;
        let loss = match &penalty {
            Some(penalty) => (&on_real + penalty)?,
            None => on_real.clone(),
        };
        let of_fake = self.discriminate(&fake.0, &fake.1, seen)?;
        let on_fake = softplus_mean(&of_fake)?;
        let gradients = self.processes.backward(&(loss + &on_fake)?, &self.discriminator_parameters)?;
        self.discriminator_optimizer.apply(&gradients)?;
        let named = [
            ("real", &on_real),
            ("fake", &on_fake),
            ("discriminator_norm", self.discriminator_optimizer.gradient_norm_tensor()),
            ("of_real", &of_real),
            ("of_fake", &of_fake),
        ];
        let penalty = penalty.as_ref().map(|penalty| ("penalty", penalty));
        Numbers::of(&named.into_iter().chain(penalty).collect::<Vec<_>>())
    }

    /// Adversarial and reconstruction loss, and the norm of the gradient.
    pub(super) fn generator_pass(&mut self, inputs: &HalfInputs) -> Result<Numbers> {
        let coefficients = self.coefficients.select(&inputs.t)?;
        let (_, x_tp1) = coefficients.q_sample_pairs(&inputs.real, &inputs.noise_t, &inputs.noise_tp1)?;
        let (x_0, fake) = self.generate(&x_tp1, inputs, &coefficients)?;
        let adversarial = softplus_mean(&self.discriminate(&fake, &x_tp1, inputs.seen())?.neg()?)?;
        let reconstruction = (x_0 - &inputs.real)?.abs()?.mean_all()?;
        let loss = (&adversarial + (&reconstruction * inputs.reconstruction_weight.get(0)?)?)?;
        let norm = self.update_generator(&loss)?;
        Numbers::of(&[("adversarial", &adversarial), ("reconstruction", &reconstruction), ("generator_norm", &norm)])
    }

    /// The norm of the gradient.
    pub(super) fn update_generator(&mut self, loss: &Tensor) -> Result<Tensor> {
        self.generator_optimizer.apply(&self.processes.backward(loss, &self.generator_parameters)?)?;
        let norm = self.generator_optimizer.gradient_norm_tensor().clone();
        #[cfg(feature = "cuda")]
        if let Some(averages) = &self.averages {
            averages.launch(self.options.ema_decay, &norm)?;
        }
        Ok(norm)
    }

    /// The logits of pairs, (N, 1).
    pub(super) fn discriminate(&self, x_t: &Tensor, x_tp1: &Tensor, seen: Seen) -> Result<Tensor> {
        let step = select(&self.steps[1], seen.t)?;
        let moved = |x: &Tensor| -> Result<Tensor> { Ok(self.precision.of(&translate(x, seen.shifts)?)?) };
        let (x_t, x_tp1) = (moved(x_t)?, moved(x_tp1)?);
        self.discriminator.forward(&mut CandleBackend, &x_t, &step, &x_tp1)
    }

    /// The predicted x_0, and x_t drawn from the posterior around it.
    fn generate(&self, x_tp1: &Tensor, inputs: &HalfInputs, coefficients: &Coefficients) -> Result<(Tensor, Tensor)> {
        let x_0 = self.predict(x_tp1, &select(&self.steps[0], &inputs.t)?, &inputs.z)?;
        let x_t = coefficients.sample_posterior(&x_0, x_tp1, &inputs.noise_posterior)?;
        Ok((x_0, x_t))
    }

    /// The x_0 that the generator predicts from x_{t+1}.
    pub(super) fn predict(&self, x_tp1: &Tensor, step: &StepInputs<Tensor>, z: &Tensor) -> Result<Tensor> {
        let input = self.precision.of(x_tp1)?;
        Ok(self.generator.forward(&mut CandleBackend, &input, step, z)?.to_dtype(DType::F32)?)
    }
}

/// The rows of these steps.
pub(super) fn select(tables: &TensorMap, steps: &Tensor) -> Result<StepInputs<Tensor>> {
    let rows = |(name, table): (&String, &Tensor)| Ok((name.clone(), table.index_select(steps, 0)?));
    tables.iter().map(rows).collect()
}
