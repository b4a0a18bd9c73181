//! Augmentation of what the discriminator sees, which keeps it from learning a small data set by heart (DiffAugment, arXiv
//! 2006.10738, whose translation this is).

use candle_core::Tensor;
use lddgan::Result;
use lddgan::noise::Stream;

/// Moves each of the maps `x` (N, C, H, W) down and to the right by its shift, or up and to the left where that is negative;
/// zeros come in at the edges. Without shifts, `x` itself. Can be differentiated twice.
pub fn translate(x: &Tensor, shifts: &[[i64; 2]]) -> Result<Tensor> {
    let margin = shifts.iter().flatten().map(|shift| shift.unsigned_abs() as usize).max().unwrap_or(0);
    if margin == 0 {
        return Ok(x.clone());
    }
    let (_, _, height, width) = x.dims4()?;
    let padded = x.pad_with_zeros(2, margin, margin)?.pad_with_zeros(3, margin, margin)?;
    let from = |shift: i64| (margin as i64 - shift) as usize;
    let moved = shifts.iter().enumerate().map(|(sample, &[down, right])| {
        Ok(padded.narrow(0, sample, 1)?.narrow(2, from(down), height)?.narrow(3, from(right), width)?)
    });
    Ok(Tensor::cat(&moved.collect::<Result<Vec<_>>>()?, 0)?)
}

/// Draws a shift of up to `translation` in both directions; none if that is 0.
pub fn draw_shift(stream: &mut Stream, translation: u32) -> [i64; 2] {
    [(); 2].map(|()| i64::from(stream.below(2 * translation + 1)) - i64::from(translation))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::gan::gradient_penalty;

    fn maps() -> Tensor {
        Tensor::arange(1f32, 19.0, &Device::Cpu).unwrap().reshape((2, 1, 3, 3)).unwrap()
    }

    #[test]
    fn maps_move_and_zeros_come_in() {
        let moved = translate(&maps(), &[[1, 0], [-1, 2]]).unwrap().flatten_all().unwrap();
        let first = [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let second = [0.0, 0.0, 13.0, 0.0, 0.0, 16.0, 0.0, 0.0, 0.0];
        assert_eq!(moved.to_vec1::<f32>().unwrap(), [first, second].concat());
    }

    /// What was moved out of sight has no gradient; what stays has that of where it went.
    #[test]
    fn gradients_move_back() {
        let x = Var::from_tensor(&maps()).unwrap();
        let loss = (translate(&x, &[[0, 1], [0, 0]]).unwrap() * maps()).unwrap().sum_all().unwrap();
        let gradient = loss.backward().unwrap().get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (first, second) = gradient.split_at(9);
        assert_eq!(first, [2.0, 3.0, 0.0, 5.0, 6.0, 0.0, 8.0, 9.0, 0.0]);
        assert_eq!(second, [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0]);
    }

    /// R1 of sum(w y²) of the moved maps y is mean(4 y² w²) over samples, whose derivative in w is 8 y² w / 2. Needs
    /// CANDLE_GRAD_DO_NOT_DETACH=1, which `.cargo/config.toml` sets.
    #[test]
    fn the_penalty_of_what_was_moved_has_gradients() {
        let x = Var::from_tensor(&maps()).unwrap();
        let w = Var::from_tensor(&(maps().ones_like().unwrap() * 0.5).unwrap()).unwrap();
        let moved = translate(&x, &[[0, 1], [-1, 0]]).unwrap();
        let logits = (moved.sqr().unwrap() * w.as_tensor()).unwrap().flatten_from(1).unwrap().sum(1).unwrap();
        let penalty = gradient_penalty(&logits, &x, 2.0).unwrap();
        let gradient = penalty.backward().unwrap().get(&w).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let seen = [0, 1, 2, 0, 4, 5, 0, 7, 8, 13, 14, 15, 16, 17, 18, 0, 0, 0];
        assert_eq!(gradient, seen.map(|y| (2 * y * y) as f32));
    }

    #[test]
    fn shifts_go_as_far_as_they_may() {
        let shifts: Vec<_> = (0..200).flat_map(|i| draw_shift(&mut Stream::new(0, i, "shift"), 2)).collect();
        assert_eq!((shifts.iter().min(), shifts.iter().max()), (Some(&-2), Some(&2)));
        assert_eq!(draw_shift(&mut Stream::new(0, 0, "shift"), 0), [0, 0]);
    }
}
