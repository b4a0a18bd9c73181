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
    #[inline(always)]
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
#[inline(always)]
pub fn sigmoid<T: Float>(x: T) -> T {
    T::one() / (T::one() + (T::zero() - x).exp())
}

/// Lanes of sums, which the compiler turns into vector instructions.
const LANES: usize = 16;

/// The largest number of some, in lanes.
#[inline(always)]
pub fn largest<T: Float>(x: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [x[0]; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for x in chunks {
        for i in 0..LANES {
            lanes[i] = larger(lanes[i], x[i]);
        }
    }
    lanes.iter().chain(rest).fold(x[0], |largest, &x| larger(largest, x))
}

/// The sum of f(x), in lanes.
#[inline(always)]
pub fn sum<T: Float>(x: &[T], f: impl Fn(T) -> T) -> T {
    sum_of_pairs(x, x, |x, _| f(x))
}

/// The sum of f(x, y) over pairs, in lanes.
#[inline(always)]
pub fn sum_of_pairs<T: Float>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::zero(); LANES];
    let (xs, ys) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.0.iter().zip(ys.0) {
        for i in 0..LANES {
            lanes[i] += f(x[i], y[i]);
        }
    }
    let rest = xs.1.iter().zip(ys.1).fold(T::zero(), |sum, (&x, &y)| sum + f(x, y));
    lanes.iter().fold(rest, |sum, &lane| sum + lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_the_rest_count() {
        let x: Vec<f64> = (0..37).map(f64::from).collect();
        assert_eq!(sum(&x, |x| 2.0 * x), 36.0 * 37.0);
        assert_eq!(sum_of_pairs(&x, &x, |a, b| a * b), 36.0 * 37.0 * 73.0 / 6.0);
        for place in [0, 5, 31, 32, 36] {
            let mut x = vec![-3.0f32; 37];
            x[place] = -1.0;
            assert_eq!(largest(&x), -1.0);
        }
    }

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
