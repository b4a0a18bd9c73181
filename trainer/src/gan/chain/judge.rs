//! The projected discriminator of the pictures of latents.

use candle_core::{DType, Tensor, Var};
use lddgan::Result;
use lddgan::parameters::{Parameters, TensorMap};

use super::augment::Augmentations;
use super::picture::LinearPicture;
use crate::adam::{Adam, LearningRate};
use crate::adversarial::{gradient, hinge, mean_of};
use crate::autoencoder::{Backbone, Learning, ProjectedDiscriminator};
use crate::checkpoint::named;
use crate::distributed::Processes;
use crate::gan::numbers::Numbers;
use crate::preset::ChainTraining;

/// The finest strides are left out: they see the edges of the squares of which pictures are made.
const FINE_STRIDES: usize = 1;
/// How much the ratio of gradients remembers from one iteration to the next.
const RATIO_DECAY: f64 = 0.95;

/// What judges pictures, and learns to.
pub struct PictureJudge {
    backbone: Backbone,
    picture: LinearPicture,
    discriminator: ProjectedDiscriminator,
    parameters: Parameters,
    pub optimizer: Adam,
    /// Size of its gradient on x_0, relative to that of the discriminator of pairs.
    size: f64,
    /// Running sums (2) of the ratio of the norms of both gradients, and of what it was weighted by.
    ratio: Tensor,
}

impl PictureJudge {
    /// Judges pictures by features of `backbone`.
    pub fn new(options: &ChainTraining, seed: u64, backbone: Backbone, picture: LinearPicture) -> Result<Self> {
        let parameters = Parameters::new(seed, picture.device());
        let channels: Vec<usize> = backbone.channels().skip(FINE_STRIDES).collect();
        let discriminator = ProjectedDiscriminator::new(&parameters, seed, &channels)?;
        let rate = LearningRate { first: options.projected_learning_rate, last: None };
        Ok(Self {
            optimizer: Adam::new(&parameters, rate, options.betas.into())?,
            ratio: Tensor::zeros(2, DType::F32, picture.device())?,
            size: options.projected,
            backbone,
            picture,
            discriminator,
            parameters,
        })
    }

    /// Learns to tell real from generated latents. Then the gradient on the generated ones of what it says, scaled to `size` times
    /// the norm of `other`; and what came of it.
    pub fn judge(
        &mut self,
        (real, of_real): (&Tensor, &Augmentations),
        (fake, of_fake): (&Var, &Augmentations),
        other: &Tensor,
        processes: &Processes,
    ) -> Result<(Tensor, Numbers)> {
        let real: Vec<Tensor> = self.features(real, of_real)?.iter().map(Tensor::detach).collect();
        let fake_features = self.features(fake, of_fake)?;
        let detached: Vec<Tensor> = fake_features.iter().map(Tensor::detach).collect();
        let on_real = self.discriminator.judge(&real, Learning::Yes)?;
        let on_fake = self.discriminator.judge(&detached, Learning::Yes)?;
        let loss = hinge(&on_real, &on_fake)?;
        self.optimizer.apply(&processes.backward(&loss, &self.parameters)?)?;
        self.discriminator.follow()?;

        let verdict = mean_of(&self.discriminator.judge(&fake_features, Learning::No)?, Tensor::neg)?;
        let gradient = gradient(&verdict, fake)?;
        let ratio = self.follow_ratio(other, &gradient, processes)?;
        let said = Numbers::of(&[
            ("projected", &verdict),
            ("projected_discriminator", &loss),
            ("projected_norm", self.optimizer.gradient_norm_tensor()),
            ("gradient_ratio", &ratio),
            ("pictures_real", &of_each(&on_real)?),
            ("pictures_fake", &of_each(&on_fake)?),
        ])?;
        Ok(((gradient.broadcast_mul(&ratio)? * self.size)?, said))
    }

    /// Features of the changed pictures of latents.
    fn features(&self, latents: &Tensor, augmentations: &Augmentations) -> Result<Vec<Tensor>> {
        let features = self.backbone.features(&augmentations.apply(&self.picture.of(latents)?)?)?;
        Ok(features.into_iter().skip(FINE_STRIDES).collect())
    }

    /// The running mean of the ratio of the norms of two gradients, (1).
    fn follow_ratio(&mut self, other: &Tensor, own: &Tensor, processes: &Processes) -> Result<Tensor> {
        let norm = |gradient: &Tensor| -> Result<Tensor> {
            Ok(processes.mean(&gradient.sqr()?.sum_all()?.reshape(1)?)?.sqrt()?)
        };
        let now = (norm(other)? / (norm(own)? + 1e-12)?)?;
        let now = Tensor::cat(&[&now, &now.ones_like()?], 0)?;
        let ratio = ((&self.ratio * RATIO_DECAY)? + (now * (1.0 - RATIO_DECAY))?)?;
        // In place: a GPU's recording finds it there.
        self.ratio.slice_set(&ratio, 0, 0)?;
        Ok((ratio.narrow(0, 0, 1)? / ratio.narrow(0, 1, 1)?)?)
    }

    /// What is needed to go on.
    pub fn state(&self) -> Result<TensorMap> {
        let chain = TensorMap::from([("ratio".to_string(), self.ratio.copy()?)]);
        Ok(named("heads", self.parameters.tensors())
            .chain(named("heads_adam", self.optimizer.tensors()?))
            .chain(named("projected", self.discriminator.state()))
            .chain(named("picture", self.picture.tensors()))
            .chain(named("chain", chain))
            .collect())
    }

    /// Takes up a saved state, but for the picture, which it was made with; `part` gives the tensors of each of its parts.
    pub fn load(&mut self, part: impl Fn(&str) -> TensorMap, file: &str) -> Result<()> {
        self.parameters.load(&part("heads"), file)?;
        self.optimizer.load(&part("heads_adam"))?;
        self.discriminator.load(&part("projected"))?;
        if let Some(ratio) = part("chain").get("ratio").filter(|ratio| ratio.dims() == [2]) {
            self.ratio = ratio.to_device(self.picture.device())?;
        }
        Ok(())
    }
}

/// One number for each sample: the mean of its logits over places and strides, (N).
fn of_each(logits: &[Tensor]) -> Result<Tensor> {
    let means = logits.iter().map(|logits| logits.mean((1, 2, 3))).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::stack(&means, 0)?.mean(0)?)
}
