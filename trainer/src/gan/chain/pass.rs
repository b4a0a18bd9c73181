//! One iteration on a chain. Generated and real x_0 go through the same code: the same pairs are drawn of them, and the same
//! pictures made.

use candle_core::{Tensor, Var};
use lddgan::Result;
use lddgan::backend::CandleBackend;
use lddgan::parameters::TensorMap;

use super::inputs::{ChainInputs, PairInputs};
use crate::adversarial::gradient;
use crate::gan::losses::softplus_mean;
use crate::gan::numbers::Numbers;
use crate::gan::passes::{Pair, Seen};
use crate::gan::step::{Pass, Trainer};

impl Trainer {
    /// Updates the judges, then the generator if it learns.
    pub(in crate::gan) fn chain_pass(&mut self, pass: Pass, inputs: &ChainInputs) -> Result<Numbers> {
        let (penalty, learns) = match pass {
            Pass::Chain { penalty, generator_learns, .. } => (penalty, generator_learns),
            Pass::Discriminator { penalty } => (penalty, false),
            Pass::Generator => (false, true),
        };
        let x_0 = self.sample_chain(inputs)?;
        // A graph of its own: what the judges say ends here.
        let fake = Var::from_tensor(&x_0.detach())?;
        let [of_real, of_fake, of_generator] = &inputs.pairs;
        let (real_pair, fake_pair) = (self.pair(&inputs.real, of_real)?, self.pair(&x_0.detach(), of_fake)?);
        let seen = Seen { t: &of_real.t, shifts: &inputs.shifts };
        let mut numbers = self.update_discriminator(&real_pair, &fake_pair, seen, penalty)?;

        let (x_t, x_tp1) = self.pair(fake.as_tensor(), of_generator)?;
        let seen = Seen { t: &of_generator.t, shifts: &inputs.shifts };
        let adversarial = softplus_mean(&self.discriminate(&x_t, &x_tp1, seen)?.neg()?)?;
        let mut wanted = gradient(&adversarial, &fake)?;
        numbers = numbers.and(&Numbers::of(&[("adversarial", &adversarial)])?)?;
        if let (Some(judge), Some([real, generated])) = (&mut self.judge, &inputs.pictures) {
            let (of_pictures, said) = judge.judge((&inputs.real, real), (&fake, generated), &wanted, &self.processes)?;
            wanted = (wanted + of_pictures)?;
            numbers = numbers.and(&said)?;
        }
        if learns {
            // Its gradient is that of all judges on x_0.
            let norm = self.update_generator(&(&x_0 * wanted)?.sum_all()?)?;
            numbers = numbers.and(&Numbers::of(&[("generator_norm", &norm)])?)?;
        }
        Ok(numbers)
    }

    /// x_0 of the chains (N, C, H, W), which a gradient flows through all steps of.
    fn sample_chain(&self, inputs: &ChainInputs) -> Result<Tensor> {
        let batch = inputs.x.dim(0)?;
        let levels = self.schedule.levels(inputs.z.len())?;
        let mut x = inputs.x.clone();
        for (index, (level, z)) in levels.windows(2).zip(&inputs.z).enumerate() {
            let (from, to) = (level[0], level[1]);
            let x_0 = self.predict(&x, &row(&self.steps[0], from - 1, batch)?, z)?;
            let noise = inputs.noise.get(index);
            x = self.schedule.posterior(from, to).sample(&mut CandleBackend, &x_0, &x, noise)?;
        }
        Ok(x)
    }

    fn pair(&self, x_0: &Tensor, inputs: &PairInputs) -> Result<Pair> {
        self.coefficients.select(&inputs.t)?.q_sample_pairs(x_0, &inputs.noise_t, &inputs.noise_tp1)
    }
}

/// The inputs of one step for so many samples.
fn row(tables: &TensorMap, step: usize, samples: usize) -> Result<TensorMap> {
    let row = |(name, table): (&String, &Tensor)| {
        let mut shape = table.dims().to_vec();
        shape[0] = samples;
        Ok((name.clone(), table.narrow(0, step, 1)?.broadcast_as(shape)?.contiguous()?))
    };
    tables.iter().map(row).collect()
}
