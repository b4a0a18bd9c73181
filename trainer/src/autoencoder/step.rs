//! One training iteration of the autoencoder (reference: `VQLPIPSWithDiscriminator` of VQGAN).

use candle_core::{DType, Device, Tensor, Var};
use lddgan::Result;
use lddgan::backend::CandleBackend;
use lddgan::networks::{Decoder, Encoder, LOG_VARIANCE_RANGE, LatentDistribution, PatchDiscriminator};
use lddgan::parameters::{Parameters, TensorMap};

use super::backbone::{self, Backbone};
use super::codebook::Codebook;
use super::lattice::Lattice;
use super::pca::PatchPca;
use super::projected::{Learning, ProjectedDiscriminator};
use super::structure;
use crate::adam::{Adam, LearningRate};
use crate::adversarial::{gradient, hinge, mean_of};
use crate::checkpoint::{Checkpoint, named};
use crate::distributed::Processes;
use crate::eval::lpips::Lpips;
use crate::noise::normals;
use crate::precision::Precision;
use crate::preset::{AutoencoderTraining, Preset};

/// Adam's betas for both networks (as VQGAN).
const BETAS: (f64, f64) = (0.5, 0.9);
/// Images that are encoded at a time where all are needed.
const AT_A_TIME: usize = 16;
/// Log variance that an encoder of the KL kind starts with.
const FIRST_LOG_VARIANCE: f32 = -6.0;
/// The adversarial gradient is scaled by no more than this.
const MAX_ADAPTIVE_WEIGHT: f64 = 1e4;

/// Networks that others trained, which losses are taken on.
#[derive(Default)]
pub struct Given {
    pub lpips: Option<Lpips>,
    pub backbone: Option<Backbone>,
}

/// What a trainer is made from.
pub struct Setup<'a> {
    pub preset: &'a Preset,
    pub seed: u64,
    /// Whether the encoder stays as it is.
    pub hold_encoder: bool,
    pub precision: Precision,
    pub device: &'a Device,
    pub processes: &'a Processes,
}

/// Encoder, decoder, discriminators and their optimisers.
pub struct Trainer {
    pub encoder: Encoder,
    pub decoder: Decoder,
    pub parameters: Parameters,
    options: AutoencoderTraining,
    precision: Precision,
    processes: Processes,
    hold_encoder: bool,
    given: Given,
    lattice: Option<Lattice>,
    seed: u64,
    optimizer: Adam,
    codebook: Option<Codebook>,
    discriminator: PatchDiscriminator,
    projected: Option<ProjectedDiscriminator>,
    /// Of both discriminators.
    discriminator_parameters: Parameters,
    discriminator_optimizer: Adam,
}

/// The losses of one step; those that it did without are absent.
#[derive(Debug, Default)]
pub struct Losses {
    /// Mean |reconstruction - image|.
    pub l1: f64,
    /// 1 - structural similarity.
    pub structure: Option<f64>,
    /// The distance LPIPS of reconstruction and image.
    pub perceptual: Option<f64>,
    /// The distance in features of a network.
    pub features: Option<f64>,
    /// The excess of regular patterns.
    pub lattice: Option<f64>,
    /// Squared distance of latents and codes, with the commitment.
    pub quantization: Option<f64>,
    /// The patch discriminator's negative verdict on reconstructions.
    pub adversarial: Option<f64>,
    /// The patch discriminator's own hinge loss.
    pub discriminator: Option<f64>,
    /// The projected discriminator's negative verdict on reconstructions.
    pub projected: Option<f64>,
    /// The projected discriminator's own hinge loss.
    pub projected_discriminator: Option<f64>,
}

impl Losses {
    /// Replaces the losses by their means over the processes.
    fn average(&mut self, processes: &Processes) -> Result<()> {
        let Self { l1, structure, perceptual, features, lattice, quantization, .. } = self;
        let Self { adversarial, discriminator, projected, projected_discriminator, .. } = self;
        let optional = [structure, perceptual, features, lattice, quantization];
        let optional = optional.into_iter().chain([adversarial, discriminator, projected, projected_discriminator]);
        Ok(processes.average(&mut [l1].into_iter().chain(optional.flatten()).collect::<Vec<_>>())?)
    }

    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let optional = [
            ("structure", self.structure),
            ("perceptual", self.perceptual),
            ("features", self.features),
            ("lattice", self.lattice),
            ("quantization", self.quantization),
            ("adversarial", self.adversarial),
            ("discriminator", self.discriminator),
            ("projected", self.projected),
            ("projected_discriminator", self.projected_discriminator),
        ];
        let optional = optional.into_iter().filter_map(|(name, loss)| Some((name, loss?)));
        [("l1", self.l1)].into_iter().chain(optional).collect()
    }
}

pub fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_scalar::<f32>()?))
}

/// The square of the Euclidean norm of a gradient.
fn squared_norm(gradient: &Tensor) -> Result<f64> {
    scalar(&gradient.sqr()?.sum_all()?)
}

/// Images (N, C, H, W) as the losses see them.
struct View {
    images: Tensor,
    /// Of each stride of the network that is given, if one is.
    features: Vec<Tensor>,
}

impl View {
    fn detach(&self) -> Self {
        Self { images: self.images.detach(), features: self.features.iter().map(Tensor::detach).collect() }
    }

    /// The first `count` images.
    fn first(&self, count: usize) -> Result<Self> {
        let first = |tensor: &Tensor| tensor.narrow(0, 0, count);
        let features = self.features.iter().map(first).collect::<candle_core::Result<_>>()?;
        Ok(Self { images: first(&self.images)?, features })
    }
}

/// Standard normal noise of the shape of `like`, a value for each of the training samples numbered `samples`.
fn noise(like: &Tensor, seed: u64, samples: &[u64], draw: &str) -> Result<Tensor> {
    normals(seed, samples, draw, &like.dims()[1..], like.device())
}

impl Trainer {
    pub fn new(setup: &Setup, given: Given) -> anyhow::Result<Self> {
        let &Setup { preset, seed, hold_encoder, precision, device, processes } = setup;
        let options = preset.autoencoder_training()?.clone();
        let parameters = Parameters::new(seed, device);
        let vb = parameters.var_builder();
        let encoder = Encoder::new(vb.pp("encoder"), &preset.autoencoder)?;
        let decoder = Decoder::new(vb.pp("decoder"), &preset.autoencoder)?;
        let discriminator_parameters = Parameters::new(seed, device);
        let discriminator = PatchDiscriminator::new(
            discriminator_parameters.var_builder().pp("patch_discriminator"),
            preset.autoencoder.image_channels,
            options.discriminator_channels,
            options.discriminator_layers,
        )?;
        let projected = match &given.backbone {
            Some(backbone) if options.projected > 0.0 => {
                let channels: Vec<usize> = backbone.channels().collect();
                Some(ProjectedDiscriminator::new(&discriminator_parameters, seed, &channels)?)
            }
            _ => None,
        };
        let adam = |parameters: &Parameters, first: f64| -> Result<Adam> {
            let learning_rate = LearningRate { first, last: options.final_learning_rate };
            Ok(Adam::new(parameters, learning_rate, BETAS)?.with_clip(options.gradient_clip))
        };
        Ok(Self {
            optimizer: adam(&parameters, options.learning_rate)?,
            discriminator_optimizer: adam(&discriminator_parameters, options.discriminator_learning_rate)?,
            codebook: Codebook::new(&parameters, options.restart_codes_after)?,
            lattice: (options.lattice > 0.0).then(|| Lattice::new(device)).transpose()?,
            options,
            precision,
            processes: processes.clone(),
            hold_encoder,
            given,
            seed,
            encoder,
            decoder,
            parameters,
            discriminator,
            projected,
            discriminator_parameters,
        })
    }

    /// Starts from principal components, and from a codebook fitted to the first latents.
    pub fn start(&self, preset: &Preset, images: &Tensor) -> Result<()> {
        let config = &preset.autoencoder;
        if config.linear_path {
            PatchPca::fit(images, config.factor(), config.latent_channels)?.set_linear_path(&self.parameters)?;
        }
        if let Some(var) = self.parameters.var("encoder.quant_conv.bias")
            && self.codebook.is_none()
        {
            let means = config.latent_channels;
            let bias = (0..var.elem_count()).map(|i| if i < means { 0.0 } else { FIRST_LOG_VARIANCE }).collect();
            var.set(&Tensor::from_vec(bias, var.shape(), var.device())?)?;
        }
        if let Some(codebook) = &self.codebook {
            codebook.fit(&self.latents(images)?, self.seed)?;
        }
        // Processors may differ in the last bits.
        Ok(self.processes.copy_first(&self.parameters)?)
    }

    /// Latents of many images, a few at a time and without what a gradient would need.
    fn latents(&self, images: &Tensor) -> Result<Tensor> {
        let starts = (0..images.dim(0)?).step_by(AT_A_TIME);
        let latents = starts.map(|start| {
            let images = images.narrow(0, start, AT_A_TIME.min(images.dim(0)? - start))?;
            Ok(self.encoder.forward(&mut CandleBackend, &images)?.detach())
        });
        Ok(Tensor::cat(&latents.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// Takes the learning rates of the moment when `progress` (0 to 1) of the training is done.
    pub fn anneal(&mut self, progress: f64) {
        self.optimizer.anneal(progress);
        self.discriminator_optimizer.anneal(progress);
    }

    /// One iteration, number `number`, on images (N, C, H, W), the training samples numbered `samples`, after so many images. The
    /// discriminators, and the decoder through them, see images of the `generated` latents too, if there are some.
    pub fn step(
        &mut self,
        images: &Tensor,
        generated: Option<&Tensor>,
        samples: &[u64],
        number: u64,
        seen: u64,
    ) -> Result<Losses> {
        let mut losses = Losses::default();
        let (mut latent, quantization) = self.latent(images, samples, number)?;
        if let Some(generated) = generated {
            latent = Tensor::cat(&[&latent, &self.decoder.quantize(&mut CandleBackend, generated)?.detach()], 0)?;
        }
        let restored = self.decoder.forward(&mut CandleBackend, &self.precision.of(&latent)?)?.to_dtype(DType::F32)?;
        let real = self.view(images)?;
        // A graph of its own: it ends at the image.
        let fake = self.view(Var::from_tensor(&restored.detach())?.as_tensor())?;
        let gradient = self.image_gradient(&fake, &real, seen, &mut losses)?;
        // Its gradient is that of all losses on the image.
        let mut loss = (&restored * gradient)?.sum_all()?;
        if let Some(quantization) = quantization {
            losses.quantization = Some(scalar(&quantization)?);
            loss = (loss + quantization)?;
        }
        self.optimizer.step(&self.processes.backward(&loss, &self.parameters)?)?;
        self.discriminator_step(&real, &fake.detach(), seen, &mut losses)?;
        losses.average(&self.processes)?;
        Ok(losses)
    }

    fn view(&self, images: &Tensor) -> Result<View> {
        let features = self.given.backbone.as_ref().map(|backbone| backbone.features(images)).transpose()?;
        Ok(View { images: images.clone(), features: features.unwrap_or_default() })
    }

    /// What the decoder is to see, and the quantisation loss of the VQ kind.
    fn latent(&mut self, images: &Tensor, samples: &[u64], number: u64) -> Result<(Tensor, Option<Tensor>)> {
        let images = self.precision.of(images)?;
        let mut latent = match self.encoder.latent_distribution(&mut CandleBackend, &images)? {
            Some(LatentDistribution { mean, log_variance }) => {
                let (mean, log_variance) = (mean.to_dtype(DType::F32)?, log_variance.to_dtype(DType::F32)?);
                let (least, most) = LOG_VARIANCE_RANGE;
                let deviation = (log_variance.clamp(least, most)? * 0.5)?.exp()?;
                let noise = noise(&mean, self.seed, samples, "posterior")?;
                (mean + (deviation * noise)?)?
            }
            None => self.encoder.forward(&mut CandleBackend, &images)?.to_dtype(DType::F32)?,
        };
        if self.hold_encoder {
            latent = latent.detach();
        }
        if self.options.latent_noise > 0.0 {
            let noise = noise(&latent, self.seed, samples, "latent_noise")?;
            let deviations = super::channel_deviations(&latent.detach(), &self.processes)?;
            latent = (latent + (noise.broadcast_mul(&deviations)? * self.options.latent_noise)?)?;
        }
        match &mut self.codebook {
            Some(codebook) => {
                let (quantized, loss) = codebook.quantize(&latent, self.options.commitment, &self.processes)?;
                codebook.restart(&latent, self.seed, number, &self.processes)?;
                Ok((quantized, Some(loss)))
            }
            None => Ok((latent, None)),
        }
    }

    /// The gradient of the losses on the reconstructed image. The adversarial parts are scaled to `adversarial` and `projected`
    /// times the norm of the others (VQGAN's adaptive weight, which it takes at the last layer's weights).
    fn image_gradient(&self, fake: &View, real: &View, seen: u64, losses: &mut Losses) -> Result<Tensor> {
        let restored = fake.first(real.images.dim(0)?)?;
        let reconstruction = gradient(&self.reconstruction_loss(&restored, real, losses)?, &fake.images)?;
        let mut sum = reconstruction.clone();
        if self.patches_count(seen) {
            let verdict = self.judge(&fake.images)?.mean_all()?.neg()?;
            losses.adversarial = Some(scalar(&verdict)?);
            let verdict = gradient(&verdict, &fake.images)?;
            sum = (sum + self.balance(verdict, &reconstruction, self.options.adversarial)?)?;
        }
        if let Some(projected) = &self.projected
            && seen >= self.options.projected_from
        {
            let verdict = mean_of(&projected.judge(&fake.features, Learning::No)?, Tensor::neg)?;
            losses.projected = Some(scalar(&verdict)?);
            let verdict = gradient(&verdict, &fake.images)?;
            sum = (sum + self.balance(verdict, &reconstruction, self.options.projected)?)?;
        }
        Ok(sum)
    }

    /// The losses that compare two images.
    fn reconstruction_loss(&self, fake: &View, real: &View, losses: &mut Losses) -> Result<Tensor> {
        let l1 = (&fake.images - &real.images)?.abs()?.mean_all()?;
        losses.l1 = scalar(&l1)?;
        let mut loss = l1;
        let mut add = |part: Tensor, weight: f64| -> Result<Option<f64>> {
            loss = (&loss + (&part * weight)?)?;
            Ok(Some(scalar(&part)?))
        };
        if self.options.structure > 0.0 {
            let structure = structure::dissimilarity(&fake.images, &real.images)?;
            losses.structure = add(structure, self.options.structure)?;
        }
        if let Some(lpips) = &self.given.lpips {
            let distance = lpips.distances(&fake.images, &real.images)?.mean_all()?;
            losses.perceptual = add(distance, self.options.perceptual)?;
        }
        if self.options.features > 0.0 && !fake.features.is_empty() {
            losses.features = add(backbone::distance(&fake.features, &real.features)?, self.options.features)?;
        }
        if let Some(lattice) = &self.lattice {
            losses.lattice = add(lattice.loss(&fake.images, &real.images)?, self.options.lattice)?;
        }
        Ok(loss)
    }

    /// A verdict's gradient scaled to `size` times the norm of that of the reconstruction.
    fn balance(&self, verdict: Tensor, reconstruction: &Tensor, size: f64) -> Result<Tensor> {
        let (mut of_reconstruction, mut of_verdict) = (squared_norm(reconstruction)?, squared_norm(&verdict)?);
        self.processes.average(&mut [&mut of_reconstruction, &mut of_verdict])?;
        let adaptive = (of_reconstruction.sqrt() / (of_verdict.sqrt() + 1e-12)).min(MAX_ADAPTIVE_WEIGHT);
        Ok((verdict * (adaptive * size))?)
    }

    /// Whether the patch discriminator takes part after so many images.
    fn patches_count(&self, seen: u64) -> bool {
        seen >= self.options.adversarial_from
    }

    /// The patch discriminator's logits.
    fn judge(&self, images: &Tensor) -> Result<Tensor> {
        let logits = self.discriminator.forward(&mut CandleBackend, &self.precision.of(images)?)?;
        Ok(logits.to_dtype(DType::F32)?)
    }

    /// The discriminators' part of a step.
    fn discriminator_step(&mut self, real: &View, fake: &View, seen: u64, losses: &mut Losses) -> Result<()> {
        let mut parts = Vec::new();
        if self.patches_count(seen) {
            let loss = hinge(&[self.judge(&real.images)?], &[self.judge(&fake.images)?])?;
            losses.discriminator = Some(scalar(&loss)?);
            parts.push(loss);
        }
        if let Some(projected) = &self.projected {
            let judge = |view: &View| projected.judge(&view.features, Learning::Yes);
            let loss = hinge(&judge(real)?, &judge(fake)?)?;
            losses.projected_discriminator = Some(scalar(&loss)?);
            parts.push(loss);
        }
        let Some(loss) = parts.into_iter().map(Ok).reduce(|sum, part| sum? + part?).transpose()? else {
            return Ok(());
        };
        let gradients = self.processes.backward(&loss, &self.discriminator_parameters)?;
        self.discriminator_optimizer.step(&gradients)?;
        self.projected.as_mut().map_or(Ok(()), ProjectedDiscriminator::follow)
    }

    /// The norms of the last gradients, before they were clipped.
    pub fn gradient_norms(&self) -> Result<[(&'static str, f64); 2]> {
        Ok([
            ("gradient_norm/autoencoder", self.optimizer.gradient_norm()?),
            ("gradient_norm/discriminator", self.discriminator_optimizer.gradient_norm()?),
        ])
    }

    /// Everything that is needed to go on.
    pub fn state(&self) -> Result<TensorMap> {
        let own = named("autoencoder", self.parameters.tensors()).chain(named("adam", self.optimizer.tensors()?));
        let critic = named("critic", self.discriminator_parameters.tensors());
        let critic = critic.chain(named("critic_adam", self.discriminator_optimizer.tensors()?));
        let codebook = self.codebook.as_ref().map(Codebook::state).transpose()?.unwrap_or_default();
        let projected = self.projected.as_ref().map(ProjectedDiscriminator::state).unwrap_or_default();
        Ok(own.chain(critic).chain(named("codebook", codebook)).chain(named("projected", projected)).collect())
    }

    /// Takes up a saved state.
    pub fn load(&mut self, checkpoint: &Checkpoint, file: &str) -> Result<()> {
        self.parameters.load(&checkpoint.part("autoencoder"), file)?;
        self.discriminator_parameters.load(&checkpoint.part("critic"), file)?;
        self.optimizer.load(&checkpoint.part("adam"))?;
        self.discriminator_optimizer.load(&checkpoint.part("critic_adam"))?;
        if let Some(projected) = &mut self.projected {
            projected.load(&checkpoint.part("projected"))?;
        }
        match &mut self.codebook {
            Some(codebook) => codebook.load(&checkpoint.part("codebook")),
            None => Ok(()),
        }
    }
}
