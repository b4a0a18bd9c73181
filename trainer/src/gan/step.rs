//! One training iteration of the diffusion GAN (reference: the inner loop of `train_ldgan.py`; paper, section 3).

use candle_core::{DType, Device, Tensor, Var};
use lddgan::Result;
use lddgan::backend::CandleBackend;
use lddgan::diffusion::{Coefficients, Schedule};
use lddgan::networks::{Discriminator, Generator, StepInputs};
use lddgan::parameters::{Parameters, TensorMap};

use super::Moments;
use super::augment::translate;
use super::draws::{Drawing, Draws};
use super::inputs::Inputs;
use super::losses::{Losses, gradient_penalty, ordered, softplus_mean};
#[cfg(feature = "cuda")]
use super::recordings::Recordings;
use crate::adam::{Adam, LearningRate};
use crate::checkpoint::named;
use crate::distributed::Processes;
use crate::precision::Precision;
use crate::preset::{GanTraining, Preset};

/// Adam's betas for both networks.
const BETAS: (f64, f64) = (0.5, 0.9);

/// Which parts of an iteration depend on when it takes place.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Whether the R1 penalty is due.
    pub penalty: bool,
    /// Weight of the reconstruction loss, see [`super::reconstruction_weight`].
    pub reconstruction_weight: f64,
}

/// Generator, discriminator and their optimisers.
pub struct Trainer {
    precision: Precision,
    generator: Generator,
    generator_parameters: Parameters,
    generator_optimizer: Adam,
    discriminator: Discriminator,
    discriminator_parameters: Parameters,
    discriminator_optimizer: Adam,
    schedule: Schedule,
    /// For every t, in its order: what samples are drawn with, and the step inputs of generator and discriminator.
    coefficients: Coefficients,
    steps: [TensorMap; 2],
    options: GanTraining,
    processes: Processes,
    /// Exponential moving average of the generator's parameters; empty before the first step of random ones.
    ema: TensorMap,
    #[cfg(feature = "cuda")]
    averages: Option<lddgan::MovingAverages>,
    #[cfg(feature = "cuda")]
    recordings: Recordings,
}

/// What a trainer is made from.
pub struct Setup<'a> {
    pub preset: &'a Preset,
    pub seed: u64,
    pub precision: Precision,
    pub device: &'a Device,
    pub processes: &'a Processes,
    /// Of the latents, where the preset's networks need them.
    pub moments: Option<&'a Moments>,
}

/// An iteration that was begun.
pub struct Begun {
    /// Those of [`Trainer::discriminator_pass`], then those of [`Trainer::generator_pass`].
    numbers: Tensor,
    /// The steps of the discriminator's samples.
    t: Vec<u32>,
    penalty: bool,
}

/// A half of an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Half {
    Discriminator { penalty: bool },
    Generator,
}

/// The numbers of all these tensors, one after the other.
fn numbers(tensors: &[&Tensor]) -> Result<Tensor> {
    let flat = tensors.iter().map(|tensor| Ok(tensor.detach().to_dtype(DType::F32)?.flatten_all()?));
    Ok(Tensor::cat(&flat.collect::<Result<Vec<_>>>()?, 0)?)
}

impl Trainer {
    pub fn new(setup: &Setup) -> Result<Self> {
        let Setup { preset, device, .. } = setup;
        let parameters = |network: &str| match setup.moments {
            Some(moments) => Parameters::new(setup.seed, device).with_constants(&moments.constants(network)),
            None => Ok(Parameters::new(setup.seed, device)),
        };
        let generator_parameters = parameters("generator")?;
        let denoising = preset.discriminator.gaussian_modes > 0;
        let discriminator_parameters =
            if denoising { parameters("discriminator")? } else { Parameters::new(setup.seed, device) };
        let options = preset.train_gan.clone();
        let generator = Generator::new(generator_parameters.var_builder().pp("generator"), &preset.generator)?;
        let vb = discriminator_parameters.var_builder();
        let discriminator = Discriminator::new(vb.pp("discriminator"), &preset.discriminator)?;
        let schedule = Schedule::new(&preset.diffusion)?;
        let all: Vec<u32> = (0..schedule.steps() as u32).collect();
        let adam = |parameters: &Parameters, first: f64, last: Option<f64>| -> Result<Adam> {
            Ok(Adam::new(parameters, LearningRate { first, last }, BETAS)?.with_clip(options.gradient_clip))
        };
        let both = options.final_learning_rate;
        let generator_last = both.or(options.final_generator_learning_rate);
        Ok(Self {
            precision: setup.precision,
            generator_optimizer: adam(&generator_parameters, options.generator_learning_rate, generator_last)?,
            discriminator_optimizer: adam(&discriminator_parameters, options.discriminator_learning_rate, both)?,
            coefficients: schedule.coefficients(&all, device)?,
            steps: [
                generator.step_inputs(&schedule, &all, device)?,
                discriminator.step_inputs(&schedule, &all, device)?,
            ],
            generator,
            generator_parameters,
            discriminator,
            discriminator_parameters,
            schedule,
            options,
            processes: setup.processes.clone(),
            ema: TensorMap::new(),
            #[cfg(feature = "cuda")]
            averages: None,
            #[cfg(feature = "cuda")]
            recordings: Recordings::default(),
        })
    }

    /// Takes the learning rates of the moment when `progress` (0 to 1) of the training is done.
    pub fn anneal(&mut self, progress: f64) {
        self.generator_optimizer.anneal(progress);
        self.discriminator_optimizer.anneal(progress);
    }

    /// How the draws of a run with this seed are made.
    pub fn drawing(&self, seed: u64) -> Drawing {
        let config = self.generator.config();
        Drawing {
            seed,
            steps: self.schedule.steps(),
            z_dim: config.z_dim,
            translation: self.options.translation,
            shape: [config.latent_channels, config.latent_size, config.latent_size],
        }
    }

    /// One iteration on a batch of scaled latents with the draws of the training samples numbered `samples`.
    pub fn step(&mut self, real: &Tensor, seed: u64, samples: &[u64], step: Step) -> Result<Losses> {
        let [d, g] = self.drawing(seed).draw(samples)?;
        self.step_with(real, &d, &g, step)
    }

    /// As [`Self::step`], with given draws.
    pub fn step_with(&mut self, real: &Tensor, d: &Draws, g: &Draws, step: Step) -> Result<Losses> {
        let begun = self.begin(real, d, g, step)?;
        self.losses_of(&begun, &begun.numbers.to_vec1()?)
    }

    /// Begins an iteration with given draws: first the discriminator, then the generator against the updated discriminator.
    /// A gradient that is not finite changes nothing, see [`Losses::gradient_norms`]. A GPU is not waited for, but in
    /// the first iteration: several may be begun before [`Self::losses`] reads them.
    pub fn begin(&mut self, real: &Tensor, d: &Draws, g: &Draws, step: Step) -> Result<Begun> {
        let Step { penalty, reconstruction_weight } = step;
        self.discriminator_optimizer.prepare()?;
        let d_numbers = self.half(Half::Discriminator { penalty }, Inputs::new(real, d, 0.0)?)?;
        self.generator_optimizer.prepare()?;
        let g_numbers = self.half(Half::Generator, Inputs::new(real, g, reconstruction_weight)?)?;
        if !self.averages_in_pass() && g_numbers.get(2)?.to_scalar::<f32>()?.is_finite() {
            self.update_ema()?;
        }
        Ok(Begun { numbers: numbers(&[&d_numbers, &g_numbers])?, t: d.t.clone(), penalty })
    }

    /// What came of these iterations, which had the same number of samples. They are waited for.
    pub fn losses(&self, begun: &[Begun]) -> Result<Vec<Losses>> {
        let Some(first) = begun.first() else { return Ok(Vec::new()) };
        let all: Vec<&Tensor> = begun.iter().map(|begun| &begun.numbers).collect();
        let all: Vec<f32> = Tensor::cat(&all, 0)?.to_vec1()?;
        let each = begun.iter().zip(all.chunks(first.numbers.elem_count()));
        each.map(|(begun, numbers)| self.losses_of(begun, numbers)).collect()
    }

    fn losses_of(&self, begun: &Begun, numbers: &[f32]) -> Result<Losses> {
        let numbers: Vec<f64> = numbers.iter().copied().map(f64::from).collect();
        let (d_numbers, g_numbers) = numbers.split_at(numbers.len() - 3);
        let (of_loss, logits) = d_numbers.split_at(4);
        let mut losses = Losses {
            real: of_loss[0],
            fake: of_loss[1],
            penalty: begun.penalty.then_some(of_loss[2]),
            adversarial: g_numbers[0],
            reconstruction: g_numbers[1],
            ordered: ordered(&begun.t, logits.split_at(begun.t.len()), self.schedule.steps()),
            gradient_norms: [of_loss[3], g_numbers[2]],
        };
        losses.average(&self.processes)?;
        Ok(losses)
    }

    /// Whether a generator's pass updates the moving average, too.
    fn averages_in_pass(&self) -> bool {
        #[cfg(feature = "cuda")]
        return self.averages.is_some();
        #[cfg(not(feature = "cuda"))]
        false
    }

    /// Computes a half of an iteration. Its numbers stay what they are until the same half is computed again.
    fn half(&mut self, half: Half, inputs: Inputs) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if inputs.real.device().is_cuda() {
            return self.half_on_cuda(half, inputs);
        }
        self.pass(half, &inputs)
    }

    /// The numbers of a half, in one tensor.
    fn pass(&mut self, half: Half, inputs: &Inputs) -> Result<Tensor> {
        match half {
            Half::Discriminator { penalty } => self.discriminator_pass(inputs, penalty),
            Half::Generator => self.generator_pass(inputs),
        }
    }

    /// Losses on real and generated pairs, penalty (or 0), norm of the gradient; then the logits of all real pairs, and of
    /// all generated ones.
    fn discriminator_pass(&mut self, inputs: &Inputs, penalty: bool) -> Result<Tensor> {
        let coefficients = self.coefficients.select(&inputs.t)?;
        let (x_t, x_tp1) = coefficients.q_sample_pairs(&inputs.real, &inputs.noise_t, &inputs.noise_tp1)?;
        // Only the penalty needs a gradient in x_t.
        let x_t_var = Var::from_tensor(&x_t)?;
        let x_t = if penalty { x_t_var.as_tensor() } else { &x_t };
        let of_real = self.discriminate(x_t, &x_tp1, inputs)?;
        let on_real = softplus_mean(&of_real.neg()?)?;
        let penalty = penalty.then(|| gradient_penalty(&of_real, &x_t_var, self.options.r1_gamma)).transpose()?;
        let loss = match &penalty {
            Some(penalty) => (&on_real + penalty)?,
            None => on_real.clone(),
        };
        // Detached at once, so that what the generator kept for a gradient is freed.
        let fake = self.generate(&x_tp1, inputs, &coefficients)?.1.detach();
        let of_fake = self.discriminate(&fake, &x_tp1, inputs)?;
        let on_fake = softplus_mean(&of_fake)?;
        let gradients = self.processes.backward(&(loss + &on_fake)?, &self.discriminator_parameters)?;
        self.discriminator_optimizer.apply(&gradients)?;
        let penalty = match penalty {
            Some(penalty) => penalty,
            None => on_real.zeros_like()?,
        };
        numbers(&[
            &on_real,
            &on_fake,
            &penalty,
            self.discriminator_optimizer.gradient_norm_tensor(),
            &of_real,
            &of_fake,
        ])
    }

    /// Adversarial and reconstruction loss, and the norm of the gradient.
    fn generator_pass(&mut self, inputs: &Inputs) -> Result<Tensor> {
        let coefficients = self.coefficients.select(&inputs.t)?;
        let (_, x_tp1) = coefficients.q_sample_pairs(&inputs.real, &inputs.noise_t, &inputs.noise_tp1)?;
        let (x_0, fake) = self.generate(&x_tp1, inputs, &coefficients)?;
        let adversarial = softplus_mean(&self.discriminate(&fake, &x_tp1, inputs)?.neg()?)?;
        let reconstruction = (x_0 - &inputs.real)?.abs()?.mean_all()?;
        let loss = (&adversarial + (&reconstruction * inputs.reconstruction_weight.get(0)?)?)?;
        self.generator_optimizer.apply(&self.processes.backward(&loss, &self.generator_parameters)?)?;
        let norm = self.generator_optimizer.gradient_norm_tensor();
        #[cfg(feature = "cuda")]
        if let Some(averages) = &self.averages {
            averages.launch(self.options.ema_decay, norm)?;
        }
        numbers(&[&adversarial, &reconstruction, norm])
    }

    fn discriminate(&self, x_t: &Tensor, x_tp1: &Tensor, inputs: &Inputs) -> Result<Tensor> {
        let step = select(&self.steps[1], &inputs.t)?;
        let seen = |x: &Tensor| -> Result<Tensor> { Ok(self.precision.of(&translate(x, &inputs.shifts)?)?) };
        let (x_t, x_tp1) = (seen(x_t)?, seen(x_tp1)?);
        self.discriminator.forward(&mut CandleBackend, &x_t, &step, &x_tp1)
    }

    /// The predicted x_0, and x_t drawn from the posterior around it.
    fn generate(&self, x_tp1: &Tensor, inputs: &Inputs, coefficients: &Coefficients) -> Result<(Tensor, Tensor)> {
        let step = select(&self.steps[0], &inputs.t)?;
        let input = self.precision.of(x_tp1)?;
        let x_0 = self.generator.forward(&mut CandleBackend, &input, &step, &inputs.z)?.to_dtype(DType::F32)?;
        let x_t = coefficients.sample_posterior(&x_0, x_tp1, &inputs.noise_posterior)?;
        Ok((x_0, x_t))
    }

    /// The average starts as the parameters after the first update; no bias correction (reference: `EMA`).
    fn update_ema(&mut self) -> Result<()> {
        if self.ema.is_empty() {
            return self.start_ema();
        }
        let decay = self.options.ema_decay;
        for (name, var) in self.generator_parameters.vars() {
            let Some(average) = self.ema.get_mut(&name) else { continue };
            *average = ((&*average * decay)? + (var.as_tensor().detach() * (1.0 - decay))?)?;
        }
        Ok(())
    }

    /// Copies: the parameters' own storage changes with the next step.
    fn start_ema(&mut self) -> Result<()> {
        let copy = |(name, var): (String, Var)| Ok((name, var.as_tensor().detach().copy()?));
        self.ema = self.generator_parameters.vars().into_iter().map(copy).collect::<Result<_>>()?;
        self.forget_places();
        Ok(())
    }

    /// Tensors that were replaced are elsewhere.
    fn forget_places(&mut self) {
        #[cfg(feature = "cuda")]
        {
            self.averages = None;
            self.recordings = Recordings::default();
        }
    }

    /// The averaged generator, named as in a model file; the generator itself before the first step.
    pub fn averaged_generator(&self) -> TensorMap {
        // With what is not trained, and has no average.
        let mut tensors = self.generator_parameters.tensors();
        tensors.extend(self.ema.clone());
        tensors
    }

    /// The discriminator, named as in a model file.
    pub fn discriminator(&self) -> TensorMap {
        self.discriminator_parameters.tensors()
    }

    /// Takes up the generator's parameters, named as in a model file, and begins their average there; `file` is for
    /// errors.
    pub fn load_generator(&mut self, tensors: &TensorMap, file: &str) -> Result<()> {
        self.generator_parameters.load(tensors, file)?;
        self.start_ema()
    }

    /// Takes up the discriminator's parameters, named as in a model file; `file` is for errors.
    pub fn load_discriminator(&mut self, tensors: &TensorMap, file: &str) -> Result<()> {
        self.discriminator_parameters.load(tensors, file)
    }

    /// Everything that is needed to go on.
    pub fn state(&self) -> Result<TensorMap> {
        Ok(named("generator", self.generator_parameters.tensors())
            .chain(named("generator_adam", self.generator_optimizer.tensors()?))
            .chain(named("discriminator", self.discriminator_parameters.tensors()))
            .chain(named("discriminator_adam", self.discriminator_optimizer.tensors()?))
            .chain(named("ema", self.ema.clone()))
            .collect())
    }

    /// Takes up a saved state; `part` gives the tensors of each of its parts.
    pub fn load(&mut self, part: impl Fn(&str) -> TensorMap, file: &str) -> Result<()> {
        self.generator_parameters.load(&part("generator"), file)?;
        self.load_discriminator(&part("discriminator"), file)?;
        self.generator_optimizer.load(&part("generator_adam"))?;
        self.discriminator_optimizer.load(&part("discriminator_adam"))?;
        let device = self.generator_parameters.device();
        let to_device = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(device)?));
        self.ema = part("ema").into_iter().map(to_device).collect::<Result<_>>()?;
        self.forget_places();
        Ok(())
    }
}

#[cfg(feature = "cuda")]
impl Trainer {
    /// As [`Self::pass`], recorded once all that it keeps is there.
    fn half_on_cuda(&mut self, half: Half, inputs: Inputs) -> Result<Tensor> {
        if self.averages.is_none() && !self.ema.is_empty() {
            let vars = self.generator_parameters.vars().into_iter();
            let pairs = vars.filter_map(|(name, var)| Some((self.ema.get(&name)?.clone(), var.as_tensor().clone())));
            self.averages = Some(lddgan::MovingAverages::new(&pairs.collect::<Vec<_>>())?);
        }
        // Shifts are numbers of the host, which a recording would keep as they are; and processes wait for each other.
        let moves = inputs.shifts.iter().any(|shift| *shift != [0, 0]);
        if moves || self.processes.size() > 1 {
            return self.pass(half, &inputs);
        }
        let device = inputs.real.device().clone();
        let mut recordings = std::mem::take(&mut self.recordings);
        let number = match half {
            Half::Discriminator { penalty } => usize::from(penalty),
            Half::Generator => 2,
        };
        let numbers = recordings.run(number, &device, inputs.tensors(), |tensors| {
            self.pass(half, &Inputs::of(tensors, inputs.shifts.clone()))
        });
        self.recordings = recordings;
        numbers
    }
}

/// The rows of these steps.
fn select(tables: &TensorMap, steps: &Tensor) -> Result<StepInputs<Tensor>> {
    let rows = |(name, table): (&String, &Tensor)| Ok((name.clone(), table.index_select(steps, 0)?));
    tables.iter().map(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lddgan::noise::Stream;

    /// A preset, and four latents for it.
    fn tiny() -> (Preset, Tensor) {
        let preset = Preset::load(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tiny.toml")).unwrap();
        let config = &preset.generator;
        let shape = [4, config.latent_channels, config.latent_size, config.latent_size];
        let latents = Stream::new(0, 0, "latents").normals(shape.iter().product());
        let latents = Tensor::from_vec(latents, &shape, &Device::Cpu).unwrap();
        (preset, latents)
    }

    /// bfloat16 has 8 bits of mantissa, so a few units of 1/256 are the rounding of two networks; Adam's first steps, which
    /// go by the sign of gradients, add some more.
    #[test]
    fn bf16_stays_close_to_f32() {
        let (preset, latents) = tiny();
        let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|precision| {
            let processes = Processes::alone();
            let setup = Setup {
                preset: &preset,
                seed: 0,
                precision,
                device: &Device::Cpu,
                processes: &processes,
                moments: None,
            };
            let mut trainer = Trainer::new(&setup).unwrap();
            let step = Step { penalty: false, reconstruction_weight: 0.5 };
            let losses = [[0, 1, 2, 3], [4, 5, 6, 7]].map(|samples| trainer.step(&latents, 0, &samples, step).unwrap());
            losses.map(|losses| [losses.real, losses.fake, losses.adversarial, losses.reconstruction])
        });
        let pairs = exact.as_flattened().iter().zip(rounded.as_flattened());
        let largest = pairs.map(|(exact, rounded)| ((exact - rounded) / exact).abs()).fold(0.0, f64::max);
        assert!(largest > 0.0 && largest < 0.05, "{exact:?} {rounded:?}");
    }

    /// Losses that are read later are those of the steps they came from, whatever was begun since.
    #[test]
    fn losses_of_several_steps_can_be_read_at_once() {
        let (preset, latents) = tiny();
        let processes = Processes::alone();
        let (precision, device, moments) = (Precision::F32, &Device::Cpu, None);
        let setup = Setup { preset: &preset, seed: 0, precision, device, processes: &processes, moments };
        let [mut one_by_one, mut at_once] = [(); 2].map(|()| Trainer::new(&setup).unwrap());
        let samples = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]];
        let step = |number: usize| Step { penalty: number == 1, reconstruction_weight: 0.5 };
        let begun: Vec<Begun> = (0..3)
            .map(|i| {
                let [d, g] = at_once.drawing(0).draw(&samples[i]).unwrap();
                at_once.begin(&latents, &d, &g, step(i)).unwrap()
            })
            .collect();
        let read = at_once.losses(&begun).unwrap();
        let expected: Vec<Losses> =
            (0..3).map(|i| one_by_one.step(&latents, 0, &samples[i], step(i)).unwrap()).collect();
        assert_eq!(format!("{read:?}"), format!("{expected:?}"));
        assert!(read[1].penalty.is_some() && read[0].penalty.is_none() && read[0].real != read[2].real);
    }
}
