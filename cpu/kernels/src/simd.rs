//! Vectors within blocks, and functions of them.

use crate::activation::{Activation, LEAKY_SLOPE};
pub use pulp::NullaryFnOnce;
use pulp::{Arch, Simd, WithSimd};

use crate::layout::{BLOCK, Block};

/// Vectors of a block.
#[inline(always)]
pub fn vectors<S: Simd>() -> usize {
    BLOCK / S::F32_LANES
}

/// The vectors of a block.
#[inline(always)]
pub fn of<S: Simd>(block: &Block) -> &[S::f32s] {
    S::as_simd_f32s(&block.0).0
}

/// The vectors of a block, to be written.
#[inline(always)]
pub fn of_mut<S: Simd>(block: &mut Block) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(&mut block.0).0
}

/// e^x, within 2e-7 of it relatively, for x from -87 to 88; what lies beyond is taken for these.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value: f32| simd.splat_f32s(value);
    let given = x;
    let x = simd.min_f32s(simd.max_f32s(x, splat(-87.0)), splat(88.0));
    // Adding this leaves a whole number in the lowest bits.
    let magic = splat(12_582_912.0);
    let shifted = simd.mul_add_e_f32s(x, splat(std::f32::consts::LOG2_E), magic);
    let whole = simd.sub_f32s(shifted, magic);
    // x = whole ln 2 + rest; ln 2 in two parts, of which the first has few digits.
    let rest = simd.mul_add_e_f32s(whole, splat(-0.693_359_4), x);
    let rest = simd.mul_add_e_f32s(whole, splat(2.121_944_4e-4), rest);
    // Cephes' polynomial.
    let mut sum = splat(1.987_569_1e-4);
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        sum = simd.mul_add_e_f32s(sum, rest, splat(factor));
    }
    let sum = simd.mul_add_e_f32s(sum, simd.mul_f32s(rest, rest), simd.add_f32s(rest, splat(1.0)));
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.add_u32s(bits, simd.splat_u32s(1.0f32.to_bits()));
    let result = simd.mul_f32s(sum, simd.transmute_f32s_u32s(power));
    // What is no number remains none.
    simd.select_f32s(simd.equal_f32s(given, given), result, given)
}

/// The function of an activation.
#[inline(always)]
pub fn activate<S: Simd>(simd: S, activation: Activation, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    match activation {
        Activation::Identity => x,
        Activation::Silu => {
            // What is less comes to nothing, but not when it is divided by the largest power that there is.
            let dividend = simd.max_f32s(x, simd.splat_f32s(-104.0));
            simd.div_f32s(dividend, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
        }
        Activation::Tanh => {
            let two = simd.splat_f32s(2.0);
            let power = exp(simd, simd.mul_f32s(two, x));
            simd.sub_f32s(one, simd.div_f32s(two, simd.add_f32s(power, one)))
        }
        Activation::LeakyRelu => simd.max_f32s(x, simd.mul_f32s(x, simd.splat_f32s(LEAKY_SLOPE as f32))),
    }
}

/// Computes with the vectors of an instruction set. In WebAssembly there is one, known when the program is built (with the
/// feature `relaxed-simd`, it has fused multiply-adds), so that it holds no code for others.
#[inline(always)]
pub fn dispatch<Op: WithSimd>(arch: Arch, op: Op) -> Op::Output {
    #[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
    if let Some(simd) = pulp::wasm::RelaxedSimd::try_new() {
        return Simd::vectorize(simd, op);
    }
    #[cfg(all(target_family = "wasm", not(feature = "relaxed-simd")))]
    if let Some(simd) = pulp::wasm::Simd128::try_new() {
        return Simd::vectorize(simd, op);
    }
    arch.dispatch(op)
}

/// Calls a function compiled for the widest vectors of this machine. Its `call`, and what that calls, must be inlined always
/// (closures cannot be made to). No result depends on the machine, as long as sums are in lanes of a fixed number.
pub fn vectorized<F: NullaryFnOnce>(f: F) -> F::Output {
    // A WebAssembly module is compiled for its vectors as a whole.
    if cfg!(target_family = "wasm") { f.call() } else { dispatch(Arch::new(), f) }
}

/// The instruction sets that this machine has vectors of, the widest first, and numbers one by one, which is the last.
pub fn instruction_sets() -> Vec<Arch> {
    let mut sets = Vec::new();
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        sets.extend(pulp::x86::V4::try_new().map(Arch::V4));
        sets.extend(pulp::x86::V3::try_new().map(Arch::V3));
    }
    #[cfg(target_arch = "aarch64")]
    sets.extend(pulp::aarch64::Neon::try_new().map(Arch::Neon));
    #[cfg(target_family = "wasm")]
    sets.extend(pulp::wasm::Simd128::try_new().map(Arch::Simd128));
    sets.push(Arch::Scalar);
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function of blocks.
    struct Map<'a> {
        activation: Option<Activation>,
        values: &'a mut [Block],
    }

    impl WithSimd for Map<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for value in self.values.iter_mut().flat_map(of_mut::<S>) {
                *value = match self.activation {
                    Some(activation) => activate(simd, activation, *value),
                    None => exp(simd, *value),
                };
            }
        }
    }

    /// From -87 to 88.
    fn arguments() -> Vec<Block> {
        let argument = |i: usize| i as f32 * (175.0 / 16384.0) - 87.0;
        (0..1024).map(|i| Block(std::array::from_fn(|lane| argument(i * BLOCK + lane)))).collect()
    }

    fn each(arch: Arch, activation: Option<Activation>, check: impl Fn(f32, f32)) {
        let arguments = arguments();
        let mut values = arguments.clone();
        dispatch(arch, Map { activation, values: &mut values });
        let numbers = |blocks: Vec<Block>| blocks.into_iter().flat_map(|block| block.0);
        numbers(arguments).zip(numbers(values)).for_each(|(x, y)| check(x, y));
    }

    #[test]
    fn functions_are_accurate() {
        for arch in instruction_sets() {
            each(arch, None, |x, y| {
                let exact = f64::from(x).exp();
                assert!(((f64::from(y) - exact) / exact).abs() < 2e-7, "exp({x}) = {y}, {arch:?}");
            });
            each(arch, Some(Activation::Silu), |x, y| {
                let exact = f64::from(x) / (1.0 + f64::from(-x).exp());
                assert!((f64::from(y) - exact).abs() < 3e-7 * exact.abs().max(1e-30), "silu({x}) = {y}, {arch:?}");
            });
            each(arch, Some(Activation::Tanh), |x, y| {
                assert!((f64::from(y) - f64::from(x).tanh()).abs() < 2e-7, "tanh({x}) = {y}, {arch:?}");
            });
        }
    }

    #[test]
    fn very_negative_numbers_come_to_nothing() {
        for arch in instruction_sets() {
            let mut values = [Block([-1e30; BLOCK]), Block([f32::MIN; BLOCK])];
            dispatch(arch, Map { activation: Some(Activation::Silu), values: &mut values });
            assert!(values.iter().all(|block| block.0.iter().all(|value| value.abs() < 1e-30)), "{arch:?}");
        }
    }

    #[test]
    fn no_number_remains_none() {
        for arch in instruction_sets() {
            for activation in [Activation::Silu, Activation::Tanh] {
                let mut values = [Block([f32::NAN; BLOCK])];
                dispatch(arch, Map { activation: Some(activation), values: &mut values });
                assert!(values[0].0.iter().all(|value| value.is_nan()), "{activation:?}, {arch:?}");
            }
        }
    }
}
