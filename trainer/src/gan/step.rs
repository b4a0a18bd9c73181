//! One training iteration of the diffusion GAN (reference: the inner loop of `train_ldgan.py`; paper, section 3).

use candle_core::{Device, Tensor, Var};
use lddgan::Result;
use lddgan::diffusion::{Coefficients, Schedule};
use lddgan::networks::{Discriminator, Generator};
use lddgan::parameters::{Parameters, TensorMap};

use super::Moments;
use super::chain::{ChainDrawing, ChainDraws, ChainInputs, PictureJudge};
use super::draws::{Drawing, Draws, StepDraws};
use super::inputs::{HalfInputs, Inputs};
use super::losses::Losses;
use super::numbers::Numbers;
#[cfg(feature = "cuda")]
use super::recordings::Recordings;
use crate::adam::{Adam, LearningRate};
use crate::checkpoint::named;
use crate::distributed::Processes;
use crate::precision::Precision;
use crate::preset::{ChainTraining, GanTraining, Preset};

/// Adam's betas for both networks.
const BETAS: (f64, f64) = (0.5, 0.9);

/// Which parts of an iteration depend on when it takes place.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Whether the R1 penalty is due.
    pub penalty: bool,
    /// Weight of the reconstruction loss, see [`super::reconstruction_weight`].
    pub reconstruction_weight: f64,
    /// Whether the generator learns from a chain, or the judges alone.
    pub generator_learns: bool,
}

/// Generator, discriminator and their optimisers.
pub struct Trainer {
    pub(super) precision: Precision,
    pub(super) generator: Generator,
    pub(super) generator_parameters: Parameters,
    pub(super) generator_optimizer: Adam,
    pub(super) discriminator: Discriminator,
    pub(super) discriminator_parameters: Parameters,
    pub(super) discriminator_optimizer: Adam,
    pub(super) schedule: Schedule,
    /// For every t, in its order: what samples are drawn with, and the step inputs of generator and discriminator.
    pub(super) coefficients: Coefficients,
    pub(super) steps: [TensorMap; 2],
    pub(super) options: GanTraining,
    pub(super) processes: Processes,
    /// Judges the pictures of a chain's latents, if something does.
    pub(super) judge: Option<PictureJudge>,
    /// Exponential moving average of the generator's parameters; empty before the first step of random ones.
    ema: TensorMap,
    #[cfg(feature = "cuda")]
    pub(super) averages: Option<lddgan::MovingAverages>,
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
    numbers: Numbers,
    /// The steps of the discriminator's samples.
    t: Vec<u32>,
}

/// A part of an iteration that ends with updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pass {
    Discriminator { penalty: bool },
    Generator,
    Chain { steps: usize, penalty: bool, generator_learns: bool },
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
        let adam = |parameters: &Parameters, first: f64, last: Option<f64>, betas| -> Result<Adam> {
            Ok(Adam::new(parameters, LearningRate { first, last }, betas)?.with_clip(options.gradient_clip))
        };
        let generator_betas = options.chain.as_ref().map_or(BETAS, |chain| chain.betas.into());
        let both = options.final_learning_rate;
        let generator_last = both.or(options.final_generator_learning_rate);
        Ok(Self {
            precision: setup.precision,
            generator_optimizer: adam(
                &generator_parameters,
                options.generator_learning_rate,
                generator_last,
                generator_betas,
            )?,
            discriminator_optimizer: adam(&discriminator_parameters, options.discriminator_learning_rate, both, BETAS)?,
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
            judge: None,
            ema: TensorMap::new(),
            #[cfg(feature = "cuda")]
            averages: None,
            #[cfg(feature = "cuda")]
            recordings: Recordings::default(),
        })
    }

    /// With something that judges the pictures of a chain's latents.
    pub fn with_judge(self, judge: Option<PictureJudge>) -> Self {
        Self { judge, ..self }
    }

    /// Takes the learning rates of the moment when `progress` (0 to 1) of the training is done.
    pub fn anneal(&mut self, progress: f64) {
        self.generator_optimizer.anneal(progress);
        self.discriminator_optimizer.anneal(progress);
    }

    /// How the draws of a run with this seed are made.
    pub fn drawing(&self, seed: u64) -> Drawing {
        let config = self.generator.config();
        let chain = |options: &ChainTraining| ChainDrawing {
            options: ChainTraining {
                projected: if self.judge.is_some() { options.projected } else { 0.0 },
                ..options.clone()
            },
            schedule: self.schedule.clone(),
        };
        Drawing {
            seed,
            steps: self.schedule.steps(),
            z_dim: config.z_dim,
            translation: self.options.translation,
            shape: [config.latent_channels, config.latent_size, config.latent_size],
            chain: self.options.chain.as_ref().map(chain),
        }
    }

    /// Iteration `number` on a batch of scaled latents with the draws of the training samples numbered `samples`.
    pub fn step(&mut self, real: &Tensor, seed: u64, number: u64, samples: &[u64], step: Step) -> Result<Losses> {
        let begun = self.begin(real, &self.drawing(seed).draw(number, samples)?, step)?;
        self.losses_of(&begun, &begun.numbers.values.to_vec1()?)
    }

    /// An iteration on single steps with given draws.
    pub fn step_with(&mut self, real: &Tensor, d: &Draws, g: &Draws, step: Step) -> Result<Losses> {
        let begun = self.begin_pairs(real, d, g, step)?;
        self.losses_of(&begun, &begun.numbers.values.to_vec1()?)
    }

    /// Begins an iteration with given draws. A gradient that is not finite changes nothing, see [`Losses::gradient_norms`]. A
    /// GPU is not waited for, but in the first iteration: several may be begun before [`Self::losses`] reads them.
    pub fn begin(&mut self, real: &Tensor, draws: &StepDraws, step: Step) -> Result<Begun> {
        match draws {
            StepDraws::Pairs([d, g]) => self.begin_pairs(real, d, g, step),
            StepDraws::Chain(draws) => self.begin_chain(real, draws, step),
        }
    }

    /// First the discriminator, then the generator against the updated discriminator.
    fn begin_pairs(&mut self, real: &Tensor, d: &Draws, g: &Draws, step: Step) -> Result<Begun> {
        let Step { penalty, reconstruction_weight, .. } = step;
        self.discriminator_optimizer.prepare()?;
        let inputs = HalfInputs::new(real, d, 0.0)?;
        let of_d = self.pass(Pass::Discriminator { penalty }, inputs, |trainer, inputs| {
            trainer.discriminator_pass(inputs, penalty)
        })?;
        self.generator_optimizer.prepare()?;
        let inputs = HalfInputs::new(real, g, reconstruction_weight)?;
        let of_g = self.pass(Pass::Generator, inputs, Self::generator_pass)?;
        self.follow_generator(&of_g)?;
        Ok(Begun { numbers: of_d.and(&of_g)?, t: d.t.clone() })
    }

    /// The judges, and then the generator against the updated judges, all on the same chain.
    fn begin_chain(&mut self, real: &Tensor, draws: &ChainDraws, step: Step) -> Result<Begun> {
        let Step { penalty, generator_learns, .. } = step;
        let size = self.options.chain.as_ref().map_or(0, |chain| chain.picture_size);
        let inputs = ChainInputs::new(real, draws, size)?;
        self.discriminator_optimizer.prepare()?;
        if let Some(judge) = &mut self.judge {
            judge.optimizer.prepare()?;
        }
        if generator_learns {
            self.generator_optimizer.prepare()?;
        }
        let pass = Pass::Chain { steps: draws.steps, penalty, generator_learns };
        let numbers =
            self.pass(pass, inputs, |trainer, inputs| trainer.chain_pass(inputs, penalty, generator_learns))?;
        if generator_learns {
            self.follow_generator(&numbers)?;
        }
        Ok(Begun { numbers: numbers.copy()?, t: draws.pairs[0].t.clone() })
    }

    /// What came of these iterations, which had the same number of samples. They are waited for.
    pub fn losses(&self, begun: &[Begun]) -> Result<Vec<Losses>> {
        if begun.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<&Tensor> = begun.iter().map(|begun| &begun.numbers.values).collect();
        let all: Vec<f32> = Tensor::cat(&all, 0)?.to_vec1()?;
        let mut rest = all.as_slice();
        let each = begun.iter().map(|begun| {
            let (own, others) = rest.split_at(begun.numbers.count());
            rest = others;
            self.losses_of(begun, own)
        });
        each.collect()
    }

    fn losses_of(&self, begun: &Begun, numbers: &[f32]) -> Result<Losses> {
        let mut losses = Losses::read(&begun.numbers.named(numbers), &begun.t, self.schedule.steps());
        losses.average(&self.processes)?;
        Ok(losses)
    }

    /// Updates the moving average after the generator, where its pass has not done so and the gradient was finite.
    fn follow_generator(&mut self, numbers: &Numbers) -> Result<()> {
        let finite = || Ok::<_, lddgan::Error>(numbers.get("generator_norm")?.get(0)?.to_scalar::<f32>()?.is_finite());
        if !self.averages_in_pass() && finite()? { self.update_ema() } else { Ok(()) }
    }

    /// Whether a generator's pass updates the moving average, too.
    fn averages_in_pass(&self) -> bool {
        #[cfg(feature = "cuda")]
        return self.averages.is_some();
        #[cfg(not(feature = "cuda"))]
        false
    }

    /// Computes a pass with `compute`. Its numbers stay what they are until the same pass is computed again.
    fn pass<I: Inputs>(
        &mut self,
        #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "GPUs' recordings are kept by it"))]
        pass: Pass,
        inputs: I,
        compute: impl Fn(&mut Self, &I) -> Result<Numbers>,
    ) -> Result<Numbers> {
        #[cfg(feature = "cuda")]
        if self.generator_parameters.device().is_cuda() {
            return self.pass_on_cuda(pass, inputs, compute);
        }
        compute(self, &inputs)
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
            .chain(self.judge.as_ref().map(PictureJudge::state).transpose()?.unwrap_or_default())
            .collect())
    }

    /// Takes up a saved state; `part` gives the tensors of each of its parts.
    pub fn load(&mut self, part: impl Fn(&str) -> TensorMap, file: &str) -> Result<()> {
        self.generator_parameters.load(&part("generator"), file)?;
        self.load_discriminator(&part("discriminator"), file)?;
        self.generator_optimizer.load(&part("generator_adam"))?;
        self.discriminator_optimizer.load(&part("discriminator_adam"))?;
        if let Some(judge) = &mut self.judge {
            judge.load(&part, file)?;
        }
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
    fn pass_on_cuda<I: Inputs>(
        &mut self,
        pass: Pass,
        inputs: I,
        compute: impl Fn(&mut Self, &I) -> Result<Numbers>,
    ) -> Result<Numbers> {
        if self.averages.is_none() && !self.ema.is_empty() {
            let vars = self.generator_parameters.vars().into_iter();
            let pairs = vars.filter_map(|(name, var)| Some((self.ema.get(&name)?.clone(), var.as_tensor().clone())));
            self.averages = Some(lddgan::MovingAverages::new(&pairs.collect::<Vec<_>>())?);
        }
        // Shifts are numbers of the host, which a recording would keep as they are; and processes wait for each other.
        let moves = inputs.shifts().iter().any(|shift| *shift != [0, 0]);
        if moves || self.processes.size() > 1 {
            return compute(self, &inputs);
        }
        let device = self.generator_parameters.device().clone();
        let mut recordings = std::mem::take(&mut self.recordings);
        let compute = |tensors: &[Tensor]| compute(self, &inputs.with(tensors));
        let numbers = recordings.run(pass, &device, inputs.tensors(), compute);
        self.recordings = recordings;
        numbers
    }
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
            let step = Step { penalty: false, reconstruction_weight: 0.5, generator_learns: true };
            let losses =
                [[0, 1, 2, 3], [4, 5, 6, 7]].map(|samples| trainer.step(&latents, 0, 0, &samples, step).unwrap());
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
        let step = |number: usize| Step { penalty: number == 1, reconstruction_weight: 0.5, generator_learns: true };
        let begun: Vec<Begun> = (0..3)
            .map(|i| {
                let draws = at_once.drawing(0).draw(0, &samples[i]).unwrap();
                at_once.begin(&latents, &draws, step(i)).unwrap()
            })
            .collect();
        let read = at_once.losses(&begun).unwrap();
        let expected: Vec<Losses> =
            (0..3).map(|i| one_by_one.step(&latents, 0, 0, &samples[i], step(i)).unwrap()).collect();
        assert_eq!(read, expected);
        assert!(read[1].penalty.is_some() && read[0].penalty.is_none() && read[0].real != read[2].real);
    }
}
