//! The exponential function and sums in forms that compilers turn into vector instructions.

use candle_core::WithDType;

/// f32 or f64.
pub trait Float: WithDType {
    fn exp(self) -> Self;
}

impl Float for f64 {
    fn exp(self) -> Self {
        libm::exp(self)
    }
}

impl Float for f32 {
    /// Relative error below 3e-7 between -87 and 88, outside of which it stays at the last values. Range reduction to
    /// 2^n e^r, then the Taylor polynomial of e^r for |r| <= ln 2 / 2.
    fn exp(self) -> Self {
        /// Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        let x = self.clamp(-87.0, 88.0);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * LN_2_HIGH - n * LN_2_LOW;
        let series = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
        let power = series.iter().fold(0.0, |sum, &coefficient| sum * r + coefficient);
        let exponent = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
        power * exponent
    }
}

/// 1 / (1 + exp(-x))
pub fn sigmoid<T: Float>(x: T) -> T {
    T::one() / (T::one() + (T::zero() - x).exp())
}

/// Sum in eight lanes, which the compiler turns into vector instructions.
pub fn sum<T: Float>(x: &[T], f: impl Fn(T) -> T) -> T {
    const LANES: usize = 8;
    let mut lanes = [T::zero(); LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder().iter().fold(T::zero(), |sum, &x| sum + f(x));
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += f(x));
    }
    lanes.iter().fold(rest, |sum, &lane| sum + lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_double_precision() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(Float::exp(x)) - expected).abs() / expected;
            assert!(error < 3e-7, "exp({x}): relative error {error}");
        }
    }
}
