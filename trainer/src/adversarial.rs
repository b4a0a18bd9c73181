//! What adversarial losses have in common.

use candle_core::Tensor;
use lddgan::Result;

/// The gradient of a loss on `x` (a variable), without a graph of its own; zeros where there is none.
pub fn gradient(loss: &Tensor, x: &Tensor) -> Result<Tensor> {
    let gradient = loss.backward()?.remove(x).map(|gradient| gradient.detach());
    Ok(match gradient {
        Some(gradient) => gradient,
        None => x.zeros_like()?,
    })
}

/// The mean of what `f` makes of each tensor, all tensors having the same weight.
pub fn mean_of(tensors: &[Tensor], f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Tensor> {
    let means = tensors.iter().map(|tensor| f(tensor)?.mean_all()).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::stack(&means, 0)?.mean_all()?)
}

/// Hinge loss of a discriminator, of its logits on real images and on generated ones.
pub fn hinge(real: &[Tensor], fake: &[Tensor]) -> Result<Tensor> {
    let (on_real, on_fake) =
        (mean_of(real, |logits| (1.0 - logits)?.relu())?, mean_of(fake, |logits| (logits + 1.0)?.relu())?);
    Ok(((on_real + on_fake)? * 0.5)?)
}
