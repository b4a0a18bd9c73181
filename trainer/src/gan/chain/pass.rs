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
use crate::gan::step::Trainer;

impl Trainer {
    /// Updates the judges, then the generator if it `learns`.
    pub(in crate::gan) fn chain_pass(&mut self, inputs: &ChainInputs, penalty: bool, learns: bool) -> Result<Numbers> {
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
            let (of_pictures, said) =
                judge.judge((&inputs.real, real), (&fake, generated), &wanted, &self.processes)?;
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::{Device, Tensor};
    use lddgan::noise::Stream;
    use lddgan::parameters::TensorMap;

    use super::super::{ChainDraws, ChainInputs, LinearPicture, PictureJudge};
    use crate::autoencoder::Backbone;
    use crate::distributed::Processes;
    use crate::gan::step::{Setup, Step, Trainer};
    use crate::gan::{Losses, StepDraws};
    use crate::precision::Precision;
    use crate::preset::Preset;

    const SAMPLES: [u64; 4] = [4, 5, 6, 7];

    /// A preset that trains on chains of `steps` steps, and whose pictures are judged.
    fn tiny(steps: usize) -> Preset {
        let text =
            include_str!("../../../tests/tiny.toml").replace("lazy_reg = 2", "lazy_reg = 2\nreconstruction = 0.0");
        let chain = format!(
            "[train_gan.chain]\nsteps = [{steps}]\npairs = [0.4, 0.3, 0.2, 0.1]\nprojected = 0.7\npicture_size = 16\nshift = 2\n\
             brightness = 0.2\ncontrast = 0.2\nsaturation = 0.2\nbetas = [0.0, 0.99]\n"
        );
        Preset::parse("tiny", &(text + &chain)).unwrap()
    }

    fn random(shape: &[usize], name: &str) -> Tensor {
        let values = Stream::new(3, 0, name).normals(shape.iter().product());
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn trainer(preset: &Preset, judged: bool) -> Trainer {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/backbone.onnx"));
        let processes = Processes::alone();
        let (precision, device) = (Precision::F32, &Device::Cpu);
        let setup = Setup { preset, seed: 0, precision, device, processes: &processes, moments: None };
        let judge = || {
            let (latents, images) = (random(&[20, 3, 8, 8], "latents"), random(&[20, 3, 16, 16], "images"));
            let chain = preset.train_gan.chain.as_ref().unwrap();
            let picture = LinearPicture::fit(&latents, &images, chain.picture_size).unwrap();
            PictureJudge::new(chain, 0, Backbone::load(file, device).unwrap(), picture).unwrap()
        };
        Trainer::new(&setup).unwrap().with_judge(judged.then(judge))
    }

    fn draws(trainer: &Trainer, number: u64) -> Box<ChainDraws> {
        match trainer.drawing(0).draw(number, &SAMPLES).unwrap() {
            StepDraws::Chain(draws) => draws,
            StepDraws::Pairs(_) => panic!("the preset trains on chains"),
        }
    }

    fn begin(trainer: &mut Trainer, real: &Tensor, draws: Box<ChainDraws>, learns: bool) -> Losses {
        let step = Step { penalty: true, reconstruction_weight: 0.0, generator_learns: learns };
        let begun = trainer.begin(real, &StepDraws::Chain(draws), step).unwrap();
        trainer.losses(&[begun]).unwrap().remove(0)
    }

    fn same(a: &TensorMap, b: &TensorMap) -> bool {
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        a.len() == b.len() && a.iter().zip(b).all(|((a, x), (b, y))| a == b && values(x) == values(y))
    }

    /// The gradient of a linear function of x_0 in all of the generator's parameters, against differences along that gradient
    /// and along a random direction.
    #[test]
    fn gradients_flow_through_all_steps() {
        for steps in [1, 2, 4] {
            let preset = tiny(steps);
            let trainer = trainer(&preset, false);
            let real = random(&[4, 3, 8, 8], "real");
            let inputs = ChainInputs::new(&real, &draws(&trainer, 0), 16).unwrap();
            let weights = random(&[4, 3, 8, 8], "weights");
            let value = || (trainer.sample_chain(&inputs).unwrap() * &weights).unwrap().sum_all().unwrap();
            let gradients = value().backward().unwrap();
            let vars = trainer.generator_parameters.vars();
            let start: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().copy().unwrap()).collect();
            let gradient: Vec<Tensor> = vars.iter().map(|(_, var)| gradients.get(var).unwrap().detach()).collect();
            let dot = |a: &[Tensor], b: &[Tensor]| -> f64 {
                let sums =
                    a.iter().zip(b).map(|(a, b)| (a * b).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
                sums.map(f64::from).sum()
            };
            let length = dot(&gradient, &gradient).sqrt();
            let along: Vec<Tensor> = gradient.iter().map(|part| (part / length).unwrap()).collect();
            let across: Vec<Tensor> =
                vars.iter().map(|(name, var)| (random(var.dims(), name) * 0.02).unwrap()).collect();
            for direction in [along, across] {
                let at = |by: f64| {
                    for (((_, var), start), direction) in vars.iter().zip(&start).zip(&direction) {
                        var.set(&(start + (direction * by).unwrap()).unwrap()).unwrap();
                    }
                    f64::from(value().to_scalar::<f32>().unwrap())
                };
                const BY: f64 = 2e-3;
                let (found, expected) = (dot(&gradient, &direction), (at(BY) - at(-BY)) / (2.0 * BY));
                let tolerance = 0.02 * found.abs() + 2e-3 * length;
                assert!(
                    (found - expected).abs() < tolerance,
                    "{steps} steps: {found} not {expected} (length {length})"
                );
            }
        }
    }

    /// The chain of the training is the one that samples are made by.
    #[test]
    fn chains_are_samples() {
        let preset = tiny(2);
        let trainer = trainer(&preset, false);
        let draws = draws(&trainer, 0);
        let inputs = ChainInputs::new(&random(&[4, 3, 8, 8], "real"), &draws, 16).unwrap();
        let parameters = lddgan::parameters::Parameters::new(1, &Device::Cpu);
        let vb = parameters.var_builder();
        let decoder = lddgan::networks::Decoder::new(vb.pp("decoder"), &preset.autoencoder).unwrap();
        let weights = lddgan::parameters::Parameters::new(1, &Device::Cpu);
        let generator =
            lddgan::networks::Generator::new(weights.var_builder().pp("generator"), &preset.generator).unwrap();
        weights.load(&trainer.generator_parameters.tensors(), "trainer").unwrap();
        let mut model = lddgan::Model::new(preset.model_config(), generator, decoder, &Device::Cpu).unwrap();
        model.set_steps(2).unwrap();
        let sample = lddgan::SampleInputs { x: draws.x.clone(), z: draws.z.clone(), noise: draws.noise.clone() };
        let expected = model.sample_latents(&mut lddgan::backend::CandleBackend, &sample).unwrap();
        let found = trainer.sample_chain(&inputs).unwrap();
        let error = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(error < 1e-5, "{error}");
    }

    /// Real latents that are those of the chain, with the same draws, get the verdicts of the chain to the bit.
    #[test]
    fn real_and_generated_latents_go_through_the_same_code() {
        let preset = tiny(4);
        let mut trainer = trainer(&preset, true);
        let mut draws = draws(&trainer, 0);
        let [real, fake, _] = &mut draws.pairs;
        (fake.noise_t, fake.noise_tp1) = (real.noise_t.clone(), real.noise_tp1.clone());
        let [real, fake] = draws.pictures.as_mut().unwrap();
        fake.clone_from(real);
        let inputs = ChainInputs::new(&random(&[4, 3, 8, 8], "real"), &draws, 16).unwrap();
        let x_0 = trainer.sample_chain(&inputs).unwrap().detach();
        let losses = begin(&mut trainer, &x_0, draws, true);
        // Nothing is ordered right where both are equal.
        assert!(losses.ordered.iter().all(|ordered| ordered.right == 0.0));
        let pictures = losses.pictures.unwrap();
        assert_eq!((pictures.ordered.right, pictures.ordered.samples), (0.0, 4.0));
        assert_eq!(pictures.discriminator, 1.0);
        assert!(losses.gradient_norms[1] > 0.0);
    }

    /// The generator stays to the bit while the judges learn alone, and moves when it learns.
    #[test]
    fn judges_can_learn_alone() {
        let preset = tiny(4);
        let real = random(&[4, 3, 8, 8], "real");
        for (learns, stays) in [(false, true), (true, false)] {
            let mut trainer = trainer(&preset, true);
            let copies = |tensors: TensorMap| -> TensorMap {
                tensors.into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect()
            };
            let before = copies(trainer.generator_parameters.tensors());
            let judges = copies(trainer.state().unwrap());
            let draws = draws(&trainer, 1);
            begin(&mut trainer, &real, draws, learns);
            assert_eq!(same(&before, &trainer.generator_parameters.tensors()), stays);
            let after = trainer.state().unwrap();
            let moved = |prefix: &str| {
                let own = judges.iter().filter(|(name, _)| name.starts_with(prefix));
                own.map(|(name, tensor)| (tensor - &after[name]).unwrap().abs().unwrap().sum_all().unwrap())
                    .any(|moved| moved.to_scalar::<f32>().unwrap() > 0.0)
            };
            assert!(moved("heads/") && moved("discriminator/"));
        }
    }

    /// Without judges of pictures, the discriminator of pairs alone teaches; a size of 0 is the same as none.
    #[test]
    fn a_judge_that_is_switched_off_changes_nothing() {
        let (mut off, real) = (tiny(4), random(&[4, 3, 8, 8], "real"));
        off.train_gan.chain.as_mut().unwrap().projected = 0.0;
        let states = [(tiny(4), false), (off, false)].map(|(preset, judged)| {
            let mut trainer = trainer(&preset, judged);
            let draws = draws(&trainer, 0);
            assert!(begin(&mut trainer, &real, draws, true).pictures.is_none());
            trainer.generator_parameters.tensors()
        });
        assert!(same(&states[0], &states[1]));
    }

    /// A step from a saved state is the step that would have followed it, to the bit.
    #[test]
    fn a_saved_state_goes_on_as_it_would_have() {
        let (preset, real) = (tiny(4), random(&[4, 3, 8, 8], "real"));
        let mut first = trainer(&preset, true);
        let draw = draws(&first, 0);
        begin(&mut first, &real, draw, true);
        let state: TensorMap =
            first.state().unwrap().into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect();
        let mut second = trainer(&preset, true);
        let part = |part: &str| -> TensorMap {
            let own = |(name, tensor): (&String, &Tensor)| {
                Some((name.strip_prefix(part)?.strip_prefix('/')?.to_string(), tensor.copy().unwrap()))
            };
            state.iter().filter_map(own).collect()
        };
        second.load(part, "state").unwrap();
        let losses = [&mut first, &mut second].map(|trainer| {
            let draw = draws(trainer, 1);
            begin(trainer, &real, draw, true)
        });
        assert_eq!(losses[0], losses[1]);
        let numbers = |trainer: &Trainer| -> TensorMap {
            trainer.state().unwrap().into_iter().filter(|(name, _)| !name.ends_with("/step")).collect()
        };
        assert!(same(&numbers(&first), &numbers(&second)));
    }

    /// Each iteration has one of the numbers of steps, and in the long run all of them; pairs have the probabilities of
    /// the settings.
    #[test]
    fn draws_follow_the_settings() {
        let mut preset = tiny(4);
        let chain = preset.train_gan.chain.as_mut().unwrap();
        (chain.steps, chain.pairs) = (vec![1, 2, 4], vec![0.4, 0.0, 0.2, 0.4]);
        let trainer = trainer(&preset, true);
        let (mut steps, mut t) = (Vec::new(), [0; 4]);
        for number in 0..100 {
            let draws = draws(&trainer, number);
            assert_eq!((draws.z.len(), draws.noise.len()), (draws.steps, draws.steps - 1));
            steps.push(draws.steps);
        }
        assert!([1, 2, 4].iter().all(|count| steps.iter().filter(|steps| *steps == count).count() > 15));
        let samples: Vec<u64> = (0..4000).collect();
        let StepDraws::Chain(draws) = trainer.drawing(0).draw(0, &samples).unwrap() else { panic!("no chain") };
        draws.pairs[0].t.iter().for_each(|&step| t[step as usize] += 1);
        // Five standard deviations.
        for (count, expected) in t.into_iter().zip([1600.0, 0.0, 800.0, 1600.0]) {
            assert!((f64::from(count) - expected).abs() <= 5.0 * (expected * 0.6f64).sqrt(), "{t:?}");
        }
    }
}
