//! The Adam optimiser, with moments that can be saved, and with clipped gradients.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use lddgan::parameters::{Parameters, TensorMap};

const EPSILON: f64 = 1e-8;

/// How the learning rate changes in the course of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    pub first: f64,
    /// Where half a cosine leads it; absent, it stays what it is.
    pub last: Option<f64>,
}

impl LearningRate {
    /// The rate after `progress` (0 to 1) of the training (reference: `torch.optim.lr_scheduler.CosineAnnealingLR`).
    pub fn at(self, progress: f64) -> f64 {
        let Some(last) = self.last else { return self.first };
        let cosine = (std::f64::consts::PI * progress.clamp(0.0, 1.0)).cos();
        last + (self.first - last) * (1.0 + cosine) / 2.0
    }
}

/// Adam without weight decay (reference: `torch.optim.Adam`).
pub struct Adam {
    schedule: LearningRate,
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    step: u64,
    /// Largest norm that the gradient of all parameters together may have; a larger one is scaled down to it.
    clip: Option<f64>,
    /// Of rank 0, where the parameters are.
    gradient_norm: Tensor,
    slots: Vec<Slot>,
    /// Made at the first step.
    #[cfg(feature = "cuda")]
    on_cuda: Option<OnCuda>,
}

/// All parameters at once, without waiting for the norm.
#[cfg(feature = "cuda")]
struct OnCuda {
    fused: lddgan::FusedAdam,
    /// Where the slots' gradients are copied to, as `fused` needs them in the same place each time.
    gradients: Vec<Tensor>,
}

#[cfg(feature = "cuda")]
impl OnCuda {
    fn new(slots: &[Slot]) -> Result<Self> {
        let gradients = slots.iter().map(|slot| slot.first.zeros_like()).collect::<Result<Vec<_>>>()?;
        let places = slots.iter().zip(&gradients).map(|(Slot { var, first, second, .. }, gradient)| lddgan::AdamSlot {
            value: var.as_tensor(),
            first,
            second,
            gradient,
        });
        Ok(Self { fused: lddgan::FusedAdam::new(&places.collect::<Vec<_>>())?, gradients })
    }

    fn apply(&self, slots: &[Slot], gradients: &GradStore) -> Result<()> {
        for (slot, place) in slots.iter().zip(&self.gradients) {
            if let Some(gradient) = gradients.get(&slot.var) {
                place.slice_set(&gradient.detach().contiguous()?, 0, 0)?;
            }
        }
        self.fused.launch()
    }
}

/// A parameter and its moments.
struct Slot {
    name: String,
    var: Var,
    first: Tensor,
    second: Tensor,
}

impl Adam {
    pub fn new(parameters: &Parameters, schedule: LearningRate, (beta1, beta2): (f64, f64)) -> Result<Self> {
        let slot = |(name, var): (String, Var)| {
            // Each with memory of its own: they are changed in place on CUDA devices.
            let zeros = || Ok::<_, candle_core::Error>(var.as_tensor().zeros_like()?.detach());
            Ok(Slot { name, first: zeros()?, second: zeros()?, var })
        };
        let slots = parameters.vars().into_iter().map(slot).collect::<Result<_>>()?;
        let learning_rate = schedule.first;
        let gradient_norm = Tensor::zeros((), DType::F32, parameters.device())?;
        Ok(Self {
            schedule,
            learning_rate,
            beta1,
            beta2,
            step: 0,
            clip: None,
            gradient_norm,
            slots,
            #[cfg(feature = "cuda")]
            on_cuda: None,
        })
    }

    /// Takes the learning rate of the moment when `progress` (0 to 1) of the training is done.
    pub fn anneal(&mut self, progress: f64) {
        self.learning_rate = self.schedule.at(progress);
    }

    /// Clips gradients by their global norm (reference: `torch.nn.utils.clip_grad_norm_`).
    pub fn with_clip(self, clip: Option<f64>) -> Self {
        Self { clip, ..self }
    }

    /// The norm of the last gradient of all parameters together, before it was clipped.
    pub fn gradient_norm(&self) -> Result<f64> {
        self.gradient_norm.to_dtype(DType::F64)?.to_scalar()
    }

    /// As [`Self::gradient_norm`], of rank 0 and where the parameters are: to be read with other numbers, as a GPU is
    /// waited for each time.
    pub fn gradient_norm_tensor(&self) -> &Tensor {
        &self.gradient_norm
    }

    /// Updates every parameter that has a gradient. A gradient that is not finite changes nothing;
    /// [`Self::gradient_norm`] tells.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.prepare()?;
        self.apply(gradients)
    }

    /// What [`Self::step`] does before it needs the gradients. On CUDA devices, the rest can be recorded.
    pub fn prepare(&mut self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if self.gradient_norm.device().is_cuda() {
            return self.prepare_on_cuda();
        }
        Ok(())
    }

    /// The rest of a [`Self::step`].
    pub fn apply(&mut self, gradients: &GradStore) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(on_cuda) = &self.on_cuda {
            return on_cuda.apply(&self.slots, gradients);
        }
        self.step_on_cpu(gradients)
    }

    fn step_on_cpu(&mut self, gradients: &GradStore) -> Result<()> {
        let norm = self.norm(gradients)?;
        self.gradient_norm = Tensor::new(norm, &Device::Cpu)?;
        if !norm.is_finite() {
            return Ok(());
        }
        // As the reference, which keeps clear of dividing by zero.
        let scale = self.clip.map(|clip| clip / (norm + 1e-6)).filter(|scale| *scale < 1.0);
        self.step += 1;
        let (correct1, correct2) = self.corrections(self.step);
        for slot in &mut self.slots {
            let Some(gradient) = gradients.get(&slot.var) else { continue };
            let gradient = match scale {
                Some(scale) => (gradient.detach() * scale)?,
                None => gradient.detach(),
            };
            slot.first = ((&slot.first * self.beta1)? + (&gradient * (1.0 - self.beta1))?)?;
            slot.second = ((&slot.second * self.beta2)? + (gradient.sqr()? * (1.0 - self.beta2))?)?;
            let denominator = ((&slot.second / correct2)?.sqrt()? + EPSILON)?;
            let update = (slot.first.div(&denominator)? * (self.learning_rate / correct1))?;
            slot.var.set(&slot.var.as_tensor().detach().sub(&update)?)?;
        }
        Ok(())
    }

    /// What the moments after so many steps are divided by, as they start at zero.
    fn corrections(&self, step: u64) -> (f64, f64) {
        (1.0 - self.beta1.powf(step as f64), 1.0 - self.beta2.powf(step as f64))
    }

    #[cfg(feature = "cuda")]
    fn prepare_on_cuda(&mut self) -> Result<()> {
        self.step += 1;
        let (correct1, correct2) = self.corrections(self.step);
        let step = lddgan::AdamStep {
            rate: self.learning_rate / correct1,
            beta1: self.beta1,
            beta2: self.beta2,
            correct2,
            epsilon: EPSILON,
            clip: self.clip,
        };
        let on_cuda = match &mut self.on_cuda {
            Some(on_cuda) => on_cuda,
            none => none.insert(OnCuda::new(&self.slots)?),
        };
        self.gradient_norm = on_cuda.fused.norm().clone();
        on_cuda.fused.set(&step)
    }

    fn norm(&self, gradients: &GradStore) -> Result<f64> {
        let squares = self.slots.iter().filter_map(|slot| gradients.get(&slot.var));
        let squares = squares.map(|gradient| gradient.detach().sqr()?.sum_all()).collect::<Result<Vec<_>>>()?;
        match squares.is_empty() {
            true => Ok(0.0),
            false => Ok(f64::from(Tensor::stack(&squares, 0)?.sum_all()?.to_scalar::<f32>()?).sqrt()),
        }
    }

    /// The state: `step`, and the moments as `first/<parameter>` and `second/<parameter>`.
    pub fn tensors(&self) -> Result<TensorMap> {
        let moments = |slot: &Slot| {
            [
                (format!("first/{}", slot.name), slot.first.clone()),
                (format!("second/{}", slot.name), slot.second.clone()),
            ]
        };
        let step = ("step".to_string(), Tensor::new(self.step as i64, &Device::Cpu)?);
        Ok(self.slots.iter().flat_map(moments).chain([step]).collect())
    }

    /// Takes up a saved state.
    pub fn load(&mut self, tensors: &TensorMap) -> Result<()> {
        let get = |name: String, like: &Tensor| match tensors.get(&name) {
            Some(tensor) if tensor.shape() == like.shape() => tensor.to_device(like.device()),
            _ => candle_core::bail!("the saved state lacks {name} {:?}", like.shape()),
        };
        #[cfg(feature = "cuda")]
        {
            self.on_cuda = None;
        }
        for slot in &mut self.slots {
            slot.first = get(format!("first/{}", slot.name), &slot.first)?;
            slot.second = get(format!("second/{}", slot.name), &slot.second)?;
        }
        match tensors.get("step") {
            Some(step) => self.step = step.to_scalar::<i64>()? as u64,
            None => candle_core::bail!("the saved state lacks the optimiser's step"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_nn::Init;

    fn constant(first: f64) -> LearningRate {
        LearningRate { first, last: None }
    }

    /// A cosine is half-way down at a half, and at a third three quarters up.
    #[test]
    fn the_learning_rate_falls_along_half_a_cosine() {
        let annealed = LearningRate { first: 5e-4, last: Some(1e-4) };
        for (progress, expected) in [(0.0, 5e-4), (1.0 / 3.0, 4e-4), (0.5, 3e-4), (1.0, 1e-4), (1.5, 1e-4)] {
            assert!((annealed.at(progress) - expected).abs() < 1e-12, "{progress}");
            assert_eq!(constant(5e-4).at(progress), 5e-4);
        }
    }

    /// Adam's first step has the length of the learning rate.
    #[test]
    fn steps_have_the_annealed_length() {
        for (progress, length) in [(0.0, 0.2), (0.5, 0.15), (1.0, 0.1)] {
            let parameters = Parameters::new(0, &Device::Cpu);
            let w = parameters.var_builder().get_with_hints(1, "w", Init::Const(1.0)).unwrap();
            let mut adam = Adam::new(&parameters, LearningRate { first: 0.2, last: Some(0.1) }, (0.5, 0.9)).unwrap();
            adam.anneal(progress);
            adam.step(&w.sum_all().unwrap().backward().unwrap()).unwrap();
            assert!((f64::from(w.to_vec1::<f32>().unwrap()[0]) - (1.0 - length)).abs() < 1e-6, "{progress}");
        }
    }

    /// Three steps on f(w) = w² from w = 1, worked out by hand from the update rule with betas 0.5 and 0.9.
    #[test]
    fn follows_the_update_rule() {
        let parameters = Parameters::new(0, &Device::Cpu);
        let w = parameters.var_builder().get_with_hints(1, "w", Init::Const(1.0)).unwrap();
        let mut adam = Adam::new(&parameters, constant(0.1), (0.5, 0.9)).unwrap();
        let (mut expected, mut first, mut second) = (1f64, 0f64, 0f64);
        for step in 1..=3 {
            adam.step(&w.sqr().unwrap().sum_all().unwrap().backward().unwrap()).unwrap();
            let gradient = 2.0 * expected;
            first = 0.5 * first + 0.5 * gradient;
            second = 0.9 * second + 0.1 * gradient * gradient;
            let (first, second) = (first / (1.0 - 0.5f64.powi(step)), second / (1.0 - 0.9f64.powi(step)));
            expected -= 0.1 * first / (second.sqrt() + 1e-8);
            let found = f64::from(w.to_vec1::<f32>().unwrap()[0]);
            assert!((found - expected).abs() < 1e-6, "step {step}: {found} instead of {expected}");
        }
    }

    /// Of f(v, w) = 3 v + 4 w the gradient is (3, 4), of norm 5. Adam's first step does not depend on the gradient's
    /// length, its moments do: clipped to 2.5, they are those of (1.5, 2).
    #[test]
    fn gradients_are_clipped_by_their_common_norm() {
        for (clip, factor) in [(None, 1.0), (Some(10.0), 1.0), (Some(2.5), 0.5)] {
            let parameters = Parameters::new(0, &Device::Cpu);
            let vb = parameters.var_builder();
            let v = vb.get_with_hints(1, "v", Init::Const(1.0)).unwrap();
            let w = vb.get_with_hints(1, "w", Init::Const(1.0)).unwrap();
            let mut adam = Adam::new(&parameters, constant(0.1), (0.5, 0.9)).unwrap().with_clip(clip);
            let loss = ((v * 3.0).unwrap() + (w * 4.0).unwrap()).unwrap().sum_all().unwrap();
            adam.step(&loss.backward().unwrap()).unwrap();
            assert!((adam.gradient_norm().unwrap() - 5.0).abs() < 1e-6);
            let state = adam.tensors().unwrap();
            let moment = |name: &str| f64::from(state[name].to_vec1::<f32>().unwrap()[0]);
            for (name, gradient) in [("v", 3.0 * factor), ("w", 4.0 * factor)] {
                assert!((moment(&format!("first/{name}")) - 0.5 * gradient).abs() < 1e-6);
                assert!((moment(&format!("second/{name}")) - 0.1 * gradient * gradient).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let parameters = Parameters::new(0, &Device::Cpu);
        let w = parameters.var_builder().get_with_hints(2, "w", Init::Const(0.0)).unwrap();
        let mut adam = Adam::new(&parameters, constant(0.1), (0.5, 0.9)).unwrap();
        // The derivative of the square root at 0 is infinite.
        adam.step(&w.sqrt().unwrap().sum_all().unwrap().backward().unwrap()).unwrap();
        assert!(!adam.gradient_norm().unwrap().is_finite());
        assert_eq!(w.to_vec1::<f32>().unwrap(), [0.0, 0.0]);
        let step = adam.tensors().unwrap()["step"].to_scalar::<i64>().unwrap();
        assert_eq!(step, 0);
    }

    #[test]
    fn a_saved_state_goes_on_to_the_same_bits() {
        let run = |interrupt: bool| {
            let parameters = Parameters::new(3, &Device::Cpu);
            let w = parameters.var_builder().get_with_hints(5, "w", Init::Uniform { lo: -1.0, up: 1.0 }).unwrap();
            let mut adam = Adam::new(&parameters, constant(0.01), (0.5, 0.9)).unwrap();
            for step in 0..6 {
                if interrupt && step == 3 {
                    let saved = adam.tensors().unwrap();
                    adam = Adam::new(&parameters, constant(0.01), (0.5, 0.9)).unwrap();
                    adam.load(&saved).unwrap();
                }
                adam.step(&w.powf(4.0).unwrap().sum_all().unwrap().backward().unwrap()).unwrap();
            }
            w.to_vec1::<f32>().unwrap()
        };
        assert_eq!(run(false), run(true));
    }
}
