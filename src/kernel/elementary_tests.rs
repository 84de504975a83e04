//! exp and log1p against f64, number by number, on every backend.

use super::exp::{Exp, Scale};
use super::log1p::{log, log1p};
use super::pair::{Pair, two_prod, two_sum};
use crate::Backend;
use crate::backend::vector::{Operation, Vector};
use std::format;
use std::println;
use std::string::String;
use std::vec::Vec;

/// The bound of the contract.
const BOUND: f64 = 1.0;

#[derive(Clone, Copy, Debug)]
enum Function {
    Exp,
    Log1p,
    Log,
}

impl Function {
    /// The bit patterns of the documented domain: results of exp from 2^−126 to 2^127.5; log1p from −½ to the
    /// largest finite number; log of the positive normal numbers. The negative half of exp has its sign bit set.
    fn domain(self) -> Vec<core::ops::RangeInclusive<u32>> {
        match self {
            Self::Exp => [0..=88.376_26f32.to_bits(), (-0f32).to_bits()..=(-87.336_54f32).to_bits()].into(),
            Self::Log1p => [0..=f32::MAX.to_bits(), (-0f32).to_bits()..=(-0.5f32).to_bits()].into(),
            Self::Log => [f32::MIN_POSITIVE.to_bits()..=f32::MAX.to_bits()].into(),
        }
    }

    fn reference(self, x: f32) -> f64 {
        let x = f64::from(x);
        match self {
            Self::Exp => x.exp(),
            Self::Log1p => x.ln_1p(),
            Self::Log => x.ln(),
        }
    }
}

struct Map<'a> {
    function: Function,
    numbers: &'a mut [f32],
}

impl Operation for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        assert!(self.numbers.len().is_multiple_of(S::LANES));
        let exp = Exp::new(s, Scale { shift: 0.0, power: 0.0 });
        let zero = s.splat(0.0);
        for chunk in self.numbers.chunks_exact_mut(S::LANES) {
            let x = s.load(chunk, 0);
            let result = match self.function {
                Function::Exp => exp.times(s, x, s.splat(1.0)),
                Function::Log1p => log1p(s, Pair { hi: x, lo: zero }).hi,
                Function::Log => log(s, Pair { hi: x, lo: zero }).hi,
            };
            s.store(result, chunk, 0);
        }
    }
}

fn ulp(x: f64) -> f64 {
    let exponent = ((x.abs().to_bits() >> 52) as i32 - 1023).max(-126);
    2f64.powi(exponent - 23)
}

/// The largest error in ulps over every `step`th number of the domain, and where it is. Results below the normal range
/// (log1p of subnormal numbers) are left out.
fn worst(backend: Backend, function: Function, step: usize) -> (f64, f32, u64) {
    let mut worst = (0.0, 0.0, 0);
    for range in function.domain() {
        let (mut from, end) = (u64::from(*range.start()), u64::from(*range.end()));
        while from <= end {
            let inputs: Vec<f32> =
                (0..4096).map(|i| f32::from_bits((from + i * step as u64).min(end) as u32)).collect();
            let mut outputs = inputs.clone();
            backend.run(Map { function, numbers: &mut outputs });
            for (&x, &found) in inputs.iter().zip(&outputs) {
                let expected = function.reference(x);
                if expected == 0.0 || expected.abs() < f64::from(f32::MIN_POSITIVE) {
                    assert!(f64::from(found).abs() <= f64::from(f32::MIN_POSITIVE), "{function:?}({x:e}) = {found:e}");
                    continue;
                }
                let error = (f64::from(found) - expected).abs() / ulp(expected);
                assert!(error <= BOUND, "{backend}: {function:?}({x:e}) = {found:e}, expected {expected:e}");
                worst.2 += 1;
                if error > worst.0 {
                    (worst.0, worst.1) = (error, x);
                }
            }
            from += 4096 * step as u64;
        }
    }
    worst
}

fn scan(step: usize) {
    for backend in Backend::available() {
        for function in [Function::Exp, Function::Log1p, Function::Log] {
            // Software FMA would take most of an hour for what the AVX2 backend returns bit for bit.
            let step = if backend.name() == "scalar-fma" { step.max(997) } else { step };
            let (error, x, count) = worst(backend, function, step);
            println!("{backend:>10} {function:?}: ≤ {error:.3} ulp (at {x:e}) over {count} numbers");
            assert!(count > 1000);
        }
    }
}

#[test]
fn exp_and_log_are_within_one_ulp() {
    scan(9973);
}

#[test]
#[ignore = "every number of the domain takes minutes: cargo test --release --lib every_number -- --ignored --nocapture"]
fn every_number_is_within_one_ulp() {
    scan(1);
}

#[test]
fn backends_of_a_class_return_the_same_bits() {
    let mut x = 0x1234_5678u32;
    let inputs: Vec<f32> = (0..1 << 14)
        .map(|_| {
            x = x.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            f32::from_bits(x)
        })
        .collect();
    for function in [Function::Exp, Function::Log1p, Function::Log] {
        for fused in [true, false] {
            let mut first: Option<(Backend, Vec<u32>)> = None;
            for backend in Backend::available().filter(|backend| backend.is_fused() == fused) {
                let mut outputs = inputs.clone();
                backend.run(Map { function, numbers: &mut outputs });
                let bits: Vec<u32> = outputs.iter().map(|x| if x.is_nan() { f32::NAN } else { *x }.to_bits()).collect();
                match &first {
                    None => first = Some((backend, bits)),
                    Some((other, expected)) => assert!(bits == *expected, "{function:?}: {backend} ≠ {other}"),
                }
            }
        }
    }
}

struct Pairs<'a>(&'a [(f32, f32)]);

impl Operation for Pairs<'_> {
    type Output = Result<(), String>;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Self::Output {
        for &(a, b) in self.0 {
            let number = |lanes: S::F| super::long_rows::first(s, lanes);
            let sum = two_sum(s, s.splat(a), s.splat(b));
            let (a64, b64) = (f64::from(a), f64::from(b));
            if f64::from(number(sum.hi)) + f64::from(number(sum.lo)) != a64 + b64 {
                return Err(format!("{a:e} + {b:e}"));
            }
            let product = two_prod(s, s.splat(a), s.splat(b));
            if f64::from(number(product.hi)) + f64::from(number(product.lo)) != a64 * b64 {
                return Err(format!("{a:e} · {b:e}"));
            }
        }
        Ok(())
    }
}

#[test]
fn sums_and_products_of_two_are_exact() {
    let mut x = 1u32;
    let mut number = || {
        x = x.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        // Between 2^−10 and 2^10, so that f64 holds the exact sum.
        f32::from_bits(x & 0x807f_ffff | (117 + (x >> 24) % 20) << 23)
    };
    let pairs: Vec<(f32, f32)> = (0..2000).map(|_| (number(), number())).collect();
    for backend in Backend::available() {
        assert_eq!(backend.run(Pairs(&pairs)), Ok(()), "{backend}");
    }
}

#[test]
fn nan_and_infinity_pass_through_exp() {
    for backend in Backend::available() {
        let mut numbers = [f32::NAN; 16];
        numbers[1] = f32::NEG_INFINITY;
        numbers[2] = f32::INFINITY;
        numbers[3] = 0.0;
        numbers[4] = f32::MAX;
        numbers[5] = f32::MIN;
        numbers[6] = -f32::NAN;
        backend.run(Map { function: Function::Exp, numbers: &mut numbers });
        assert!(numbers[0].is_nan() && numbers[6].is_nan() && numbers[15].is_nan(), "{backend}");
        assert_eq!(numbers[1..6], [0.0, f32::INFINITY, 1.0, f32::INFINITY, 0.0], "{backend}");
    }
}
