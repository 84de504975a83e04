//! exp and logarithms against f64 references, value by value, on every backend.

use super::costs::log_over_p;
use super::exp::{Exp, Reference, exp_of_pair, exponentiate};
use super::f64_math;
use super::limits::{FAR, RAISE};
use crate::Backend;
use crate::backend::vector::{Driver, VIRTUAL_LANES, Vector};
use core::f64::consts::{LN_2, LOG2_E};
use std::format;
use std::println;
use std::string::String;
use std::vec::Vec;

#[derive(Clone, Copy, Debug)]
enum Function {
    /// The exponential of the fast way.
    InRange,
    /// [`Exp`] with a reference.
    With(Reference),
    /// e^(x + x·share)
    OfPair { share: f32 },
    /// −log(1 − p)/p
    LogOverP,
}

/// The expected result of a function.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// This, with an error of at most one ulp.
    Near(f64),
    /// The same, or the limit at which the function overflows (∞) or underflows (0).
    NearOr(f64, f32),
    /// Exactly these bits; any NaN for NaN.
    Exactly(f32),
    /// Unspecified: callers never pass such a value, or replace its result.
    Unstated,
}

/// The fast way takes x for |x·log2 e| below `IN_RANGE` and refuses it from `OUT_OF_RANGE` on; between, it depends on
/// rounding.
const IN_RANGE: f64 = 63.4;
const OUT_OF_RANGE: f64 = 64.6;

impl Function {
    /// The expected result for any bit pattern.
    fn expected(self, x: f32) -> Expected {
        use Expected::{Exactly, Near, NearOr, Unstated};
        let wide = f64::from(x);
        match self {
            Self::InRange if x == 0.0 => Exactly(1.0),
            Self::InRange if (wide * LOG2_E).abs() < IN_RANGE => Near(wide.exp()),
            Self::With(Reference { shift, power }) => {
                let difference = f64::from(x - shift);
                let binary = difference * LOG2_E + f64::from(power);
                let value = difference.exp() * power_of_two(power as i32);
                if x.is_nan() {
                    Exactly(f32::NAN)
                } else if binary >= 128.0 {
                    Exactly(f32::INFINITY)
                } else if binary >= 127.5 {
                    NearOr(value, f32::INFINITY)
                } else if binary < -127.0 {
                    Exactly(0.0)
                } else if binary < -126.0 {
                    NearOr(value, 0.0)
                } else {
                    Near(value)
                }
            }
            Self::OfPair { share } if (-87.0..=87.0).contains(&x) => Near((wide + f64::from(x * share)).exp()),
            Self::LogOverP if (0.0..=0.5).contains(&x) => Near(if x == 0.0 { 1.0 } else { -(-wide).ln_1p() / wide }),
            _ => Unstated,
        }
    }
}

impl Expected {
    /// The error in ulp, if one is measured; `Err` for a wrong result. Below the normal range the ulp is that of the
    /// smallest normal f32.
    fn error_of(self, found: f32, bound: f64) -> Result<Option<f64>, String> {
        let (value, limit) = match self {
            Self::Unstated => return Ok(None),
            Self::Exactly(value) if found.to_bits() == value.to_bits() || found.is_nan() && value.is_nan() => {
                return Ok(None);
            }
            Self::NearOr(_, limit) if found.to_bits() == limit.to_bits() => return Ok(None),
            Self::Exactly(value) => return Err(format!("{found:e} instead of {value:e}")),
            Self::Near(value) => (value, None),
            Self::NearOr(value, limit) => (value, Some(limit)),
        };
        let error = (f64::from(found) - value).abs() / ulp(value);
        if error <= bound {
            Ok(Some(error))
        } else {
            Err(format!("{found:e} instead of {value:e} or {limit:?}: {error} ulp"))
        }
    }
}

fn ulp(x: f64) -> f64 {
    let exponent = ((x.abs().to_bits() >> 52) as i32 - 1023).max(-126);
    power_of_two(exponent - 23)
}

/// 2^exponent, a normal f64.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

struct Map<'a> {
    function: Function,
    numbers: &'a mut [f32],
}

impl Driver for Map<'_> {
    type Output = ();

    fn drive<S: Vector>(self, s: S) {
        s.run(
            #[inline(always)]
            || {
                let Self { function, numbers } = self;
                assert!(numbers.len().is_multiple_of(S::LANES));
                match function {
                    Function::InRange => {
                        let count = numbers.len();
                        exponentiate(s, None, numbers, count);
                    }
                    Function::With(reference) => {
                        let exp = Exp::new(s, reference);
                        for chunk in numbers.chunks_exact_mut(S::LANES) {
                            let e = exp.of(s, s.load(chunk, 0));
                            s.store(e, chunk, 0);
                        }
                    }
                    Function::OfPair { share } => {
                        for chunk in numbers.chunks_exact_mut(S::LANES) {
                            let x = s.load(chunk, 0);
                            let e = exp_of_pair(s, x, s.mul(x, s.splat(share)));
                            s.store(e, chunk, 0);
                        }
                    }
                    Function::LogOverP => {
                        for chunk in numbers.chunks_exact_mut(S::LANES) {
                            let log = log_over_p(s, s.load(chunk, 0));
                            s.store(log, chunk, 0);
                        }
                    }
                }
            },
        )
    }
}

/// Results of a scan for one backend.
struct Seen<T> {
    backend: Backend,
    outputs: Vec<T>,
    /// The largest error, and its argument.
    worst: (f64, T),
    measured: u64,
}

fn all_backends<T>(zero: T) -> Vec<Seen<T>>
where
    T: Copy,
{
    Backend::available().map(|backend| Seen { backend, outputs: Vec::new(), worst: (0.0, zero), measured: 0 }).collect()
}

/// Thresholds of the functions, zeros and extreme values: these and their neighbours are always tried.
const EDGES: [f32; 34] = [
    0.0,
    -0.0,
    f32::from_bits(1),
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    0.5,
    -0.5,
    -1.0,
    1.0,
    0.346_573_6,
    -0.346_573_6,
    0.043_321_7,
    -0.043_321_7,
    43.668_27,
    -43.668_27,
    44.318_1,
    -44.404_7,
    44.0,
    -44.0,
    44.4,
    -44.4,
    44.707_98,
    -44.707_98,
    88.376_26,
    88.722_84,
    -86.0,
    -87.0,
    -87.336_54,
    -88.029_69,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// All bit patterns.
const ALL: core::ops::Range<u64> = 0..1 << 32;
const SUMMED_IN_F32: u64 = 4096;

/// f32 values near [`EDGES`], then of every `step`th bit pattern, in blocks. The last may come several times.
fn numbers(patterns: core::ops::Range<u64>, step: u64) -> impl Iterator<Item = Vec<f32>> {
    let edges = EDGES.iter().flat_map(|x| (0..16).map(|i| f32::from_bits(x.to_bits().wrapping_add(i).wrapping_sub(8))));
    let starts = patterns.step_by((SUMMED_IN_F32 * step) as usize);
    core::iter::once(edges.collect()).chain(starts.map(move |from| {
        (0..SUMMED_IN_F32).map(|i| f32::from_bits((from + i * step).min(u32::MAX.into()) as u32)).collect()
    }))
}

/// Checks every backend against the expected results, and backends of a class for the same bits.
fn scan(function: Function, patterns: core::ops::Range<u64>, step: u64) {
    let mut all = all_backends(0f32);
    let mut count = 0u64;
    for inputs in numbers(patterns, step) {
        count += inputs.len() as u64;
        let expected: Vec<Expected> = inputs.iter().map(|&x| function.expected(x)).collect();
        for seen in &mut all {
            seen.outputs.clear();
            seen.outputs.extend(&inputs);
            seen.backend.drive(Map { function, numbers: &mut seen.outputs });
            for ((&x, &expected), &found) in inputs.iter().zip(&expected).zip(&seen.outputs) {
                match expected.error_of(found, 1.0) {
                    Ok(Some(error)) => {
                        seen.measured += 1;
                        if error > seen.worst.0 {
                            seen.worst = (error, x);
                        }
                    }
                    Ok(None) => {}
                    Err(wrong) => panic!("{}: {function:?}({x:e}), {:#010x}: {wrong}", seen.backend, x.to_bits()),
                }
            }
        }
        for fused in [true, false] {
            let mut class = all.iter().filter(|seen| seen.backend.is_fused() == fused);
            let Some(first) = class.next() else { continue };
            for other in class {
                for (((x, a), b), expected) in inputs.iter().zip(&first.outputs).zip(&other.outputs).zip(&expected) {
                    let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                    assert!(
                        same || matches!(expected, Expected::Unstated),
                        "{function:?}({x:e}): {a:e} by {}, {b:e} by {}",
                        first.backend,
                        other.backend
                    );
                }
            }
        }
    }
    for Seen { backend, worst: (error, x), measured, .. } in all {
        println!(
            "{:>10} {function:?}: {count} numbers, {measured} measured: ≤ {error:.4} ulp, at {x:e}",
            backend.name()
        );
        assert!(measured > 1000 || matches!(function, Function::With(_)));
    }
}

/// References of rows with largest logits of every size, raised and not.
fn references() -> Vec<Reference> {
    let near = f32::from_bits(FAR.to_bits() - 1);
    let largest = [0.0, 1.0, -1.0, 43.0, -80.0, 300.0, -300.0, near, -near, FAR, -FAR, 1e8, -3e38, f32::NEG_INFINITY];
    let mut references = Vec::new();
    for reference in largest.map(Reference::new) {
        references.push(reference);
        references.push(Reference { power: reference.power + RAISE, ..reference });
    }
    references
}

const SHARES: [f32; 3] = [0.0, 2.980_232_2e-8, -5.960_464_5e-8];

#[test]
fn exp_in_range_is_within_one_ulp() {
    scan(Function::InRange, ALL, 49_999);
}

#[test]
fn exp_with_any_reference_is_within_one_ulp() {
    for reference in references() {
        scan(Function::With(reference), ALL, 499_979);
        // Around the reference, where exponentials neither underflow nor overflow.
        let middle = if reference.shift == 0.0 { (1.0 - reference.power) * LN_2 as f32 } else { reference.shift };
        let step = ulp(f64::from(middle)).max(2f64.powi(-20)) as f32;
        let around = |low: f32| (0..1 << 14).map(move |i| middle + low + 0.013 * i as f32 + step * (i % 7) as f32);
        let inputs: Vec<f32> = around(-106.0).collect();
        for backend in Backend::available() {
            let mut outputs = inputs.clone();
            backend.drive(Map { function: Function::With(reference), numbers: &mut outputs });
            let mut worst = 0.0;
            for (&x, &found) in inputs.iter().zip(&outputs) {
                match Function::With(reference).expected(x).error_of(found, 1.0) {
                    Ok(error) => worst = error.unwrap_or(0.0).max(worst),
                    Err(wrong) => panic!("{backend}: {reference:?}, {x:e}: {wrong}"),
                }
            }
            println!("{:>10} {reference:?}: ≤ {worst:.4} ulp", backend.name());
        }
    }
}

#[test]
fn exp_of_pair_is_within_one_ulp() {
    for share in SHARES {
        scan(Function::OfPair { share }, ALL, 49_999);
    }
}

#[test]
fn log_over_p_is_within_its_bound() {
    scan(Function::LogOverP, ALL, 49_999);
}

// All 2^32 bit patterns: cargo test --lib every_number -- --ignored --nocapture
#[test]
#[ignore = "takes minutes"]
fn every_number_of_exp_in_range() {
    scan(Function::InRange, 0..0x4240_0000, 1);
    scan(Function::InRange, 0x8000_0000..0xc240_0000, 1);
}

#[test]
#[ignore = "takes minutes"]
fn every_number_of_exp() {
    scan(Function::With(Reference { shift: 0.0, power: 0.0 }), ALL, 1);
}

#[test]
#[ignore = "takes minutes"]
fn every_number_of_exp_of_pair() {
    for share in SHARES {
        scan(Function::OfPair { share }, 0..0x42b0_0000, 1);
        scan(Function::OfPair { share }, 0x8000_0000..0xc2b0_0000, 1);
    }
}

#[test]
#[ignore = "takes minutes"]
fn every_number_of_log_over_p() {
    // From p = 2^−31 on: below, the result is 1.
    scan(Function::LogOverP, 0x3000_0000..0x3f00_0001, 1);
}

/// Whether the fast way takes each value among others that are in range.
struct AreInRange<'a> {
    numbers: &'a [f32],
    answers: &'a mut Vec<bool>,
}

impl Driver for AreInRange<'_> {
    type Output = ();

    fn drive<S: Vector>(self, s: S) {
        s.run(
            #[inline(always)]
            || {
                for (place, &x) in self.numbers.iter().enumerate() {
                    let mut logits = [0.5; VIRTUAL_LANES];
                    logits[0] = -3.0;
                    logits[place % VIRTUAL_LANES] = x;
                    let count = VIRTUAL_LANES;
                    self.answers.push(exponentiate(s, None, &mut logits, count));
                }
            },
        )
    }
}

/// Checks the range of the fast way for every `step`th bit pattern; where rounding decides, it may take only values
/// whose result is within 1 ulp.
fn scan_range(patterns: core::ops::Range<u64>, step: u64) {
    for inputs in numbers(patterns, step) {
        for backend in Backend::available() {
            let (mut answers, mut outputs) = (Vec::new(), inputs.clone());
            backend.drive(AreInRange { numbers: &inputs, answers: &mut answers });
            backend.drive(Map { function: Function::InRange, numbers: &mut outputs });
            for ((&x, &answer), &found) in inputs.iter().zip(&answers).zip(&outputs) {
                let binary = (f64::from(x) * LOG2_E).abs();
                if binary < IN_RANGE {
                    assert!(answer, "{backend}: {x:e} is in range");
                } else if binary >= OUT_OF_RANGE || x.is_nan() {
                    assert!(!answer, "{backend}: {x:e}, {:#010x}, is not in range", x.to_bits());
                } else if answer {
                    let near = Expected::Near(f64::from(x).exp());
                    assert!(near.error_of(found, 1.0).is_ok(), "{backend}: exp({x:e}) = {found:e}");
                }
            }
        }
    }
}

#[test]
fn range_of_the_fast_way() {
    scan_range(ALL, 49_999);
    // Large negative logits, for which the bits of x·log2 e + ROUND go through all patterns.
    scan_range(0xca00_0000..0xcb20_0000, 61);
    let out_of_range = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 45.0, -45.0, 1e8, -1e8, -2_907_300.0];
    for backend in Backend::available() {
        let mut answers = Vec::new();
        backend.drive(AreInRange { numbers: &out_of_range, answers: &mut answers });
        assert_eq!(answers, [false; 9], "{backend}");
    }
}

#[test]
#[ignore = "takes ten minutes"]
fn every_number_of_the_range_of_the_fast_way() {
    scan_range(ALL, 1);
}

struct Exponentiate<'a>(Option<&'a [f32]>, &'a mut [f32], usize);

impl Driver for Exponentiate<'_> {
    type Output = bool;

    fn drive<S: Vector>(self, s: S) -> bool {
        exponentiate(s, self.0, self.1, self.2)
    }
}

/// Exponentials out of place equal those in place, for any number of logits.
#[test]
fn exponentials_beside_and_over_the_logits() {
    let logits: Vec<f32> = (0..100u16).map(|i| f32::from(i) * 0.87 - 43.0).collect();
    for backend in Backend::available() {
        for count in 0..=logits.len() {
            let (mut over, mut beside) = (logits.clone(), std::vec![9.0; logits.len()]);
            assert!(backend.drive(Exponentiate(None, &mut over, count)));
            let from = Some(&logits[..count]);
            assert!(backend.drive(Exponentiate(from, &mut beside, count)));
            assert_eq!(over[..count], beside[..count], "{backend}, {count}");
            assert!(
                over[count..] == logits[count..] && beside[count..].iter().all(|&x| x == 9.0),
                "{backend}, {count}"
            );
            // A logit out of range is found at any index.
            for at in 0..count {
                let mut other = logits.clone();
                other[at] = 50.0;
                let from = Some(&other[..count]);
                assert!(!backend.drive(Exponentiate(from, &mut beside, count)), "{backend}, {at}");
                assert!(!backend.drive(Exponentiate(None, &mut other, count)), "{backend}, {at}");
            }
        }
    }
}

#[test]
fn nan_and_infinity_pass_through_exp() {
    for backend in Backend::available() {
        for reference in references() {
            let mut numbers = [f32::NAN; 16];
            numbers[1] = f32::NEG_INFINITY;
            numbers[2] = f32::INFINITY;
            numbers[3] = -f32::NAN;
            backend.drive(Map { function: Function::With(reference), numbers: &mut numbers });
            assert!(numbers[0].is_nan() && numbers[3].is_nan() && numbers[15].is_nan(), "{backend}, {reference:?}");
            assert_eq!(numbers[1..3], [0.0, f32::INFINITY], "{backend}, {reference:?}");
        }
    }
}

/// The exponential of the largest logit of a row is in [1, 4]; checked with a margin.
#[test]
fn references_bring_the_largest_logit_near_one() {
    for largest in [0.0, -0.0, 1.0, -1.0, 87.3, 383.99, -383.99, 384.0, 1e8, -1e38, f32::MAX, f32::MIN] {
        let reference = Reference::new(largest);
        assert_eq!(reference.power.rem_euclid(2.0), 1.0, "{largest}");
        for backend in Backend::available() {
            let mut numbers = [largest; 16];
            backend.drive(Map { function: Function::With(reference), numbers: &mut numbers });
            assert!((0.5..=4.0).contains(&numbers[0]), "{backend}: {largest}: {}", numbers[0]);
        }
    }
}

/// The functions of f64.
#[derive(Clone, Copy, Debug)]
enum Double {
    /// mantissa·2^exponent, divided by 2^(4·[`quarter`]) to stay in range.
    ExpInParts,
    Exp,
    Log1p,
    Log1pToOne,
    Log,
}

const DOUBLES: [Double; 5] = [Double::ExpInParts, Double::Exp, Double::Log1p, Double::Log1pToOne, Double::Log];

/// The bound of the relative error.
const DOUBLE_BOUND: f64 = 1.0 / (1u64 << 33) as f64;

/// A quarter of log2 eˣ, rounded: e^(x/4)·2^−quarter is near 1.
fn quarter(x: f64) -> f64 {
    (x * LOG2_E / 4.0).round()
}

impl Double {
    fn is_stated(self, x: f64) -> bool {
        match self {
            Self::ExpInParts => x.abs() <= 2000.0,
            Self::Exp => (-700.0..=700.0).contains(&x),
            Self::Log1p => x >= -0.5 && x.is_finite(),
            Self::Log1pToOne => (0.0..=1.0).contains(&x),
            Self::Log => x.is_normal() && x > 0.0,
        }
    }

    fn reference(self, x: f64) -> f64 {
        match self {
            Self::ExpInParts => (((x / 4.0).exp()) * power_of_two(-quarter(x) as i32)).powi(4),
            Self::Exp => x.exp(),
            Self::Log1p | Self::Log1pToOne => x.ln_1p(),
            Self::Log => x.ln(),
        }
    }

    #[inline(always)]
    fn of(self, x: f64) -> f64 {
        match self {
            Self::ExpInParts => {
                let (mantissa, exponent) = f64_math::exp_in_parts(x);
                mantissa * f64_math::power_of_two(exponent - 4.0 * quarter(x))
            }
            Self::Exp => f64_math::exp(x),
            Self::Log1p => f64_math::log1p(x),
            Self::Log1pToOne => f64_math::log1p_to_one(x),
            Self::Log => f64_math::log(x),
        }
    }
}

struct DoubleMap<'a> {
    function: Double,
    numbers: &'a mut [f64],
}

impl Driver for DoubleMap<'_> {
    type Output = ();

    fn drive<S: Vector>(self, s: S) {
        s.run(
            #[inline(always)]
            || {
                for x in self.numbers {
                    *x = self.function.of(*x);
                }
            },
        )
    }
}

/// Checks a function of f64 against its bound, and all backends for the same bits; updates their largest errors.
fn try_double(function: Double, inputs: &[f64], all: &mut [Seen<f64>]) {
    let inputs: Vec<f64> = inputs.iter().copied().filter(|&x| function.is_stated(x)).collect();
    let expected: Vec<f64> = inputs.iter().map(|&x| function.reference(x)).collect();
    let mut before: Option<Vec<f64>> = None;
    for seen in all {
        seen.outputs.clear();
        seen.outputs.extend(&inputs);
        seen.backend.drive(DoubleMap { function, numbers: &mut seen.outputs });
        for ((&x, &expected), &found) in inputs.iter().zip(&expected).zip(&seen.outputs) {
            let error = if found == expected { 0.0 } else { ((found - expected) / expected).abs() };
            assert!(error < DOUBLE_BOUND, "{}: {function:?}({x:e}) = {found:e}, not {expected:e}", seen.backend);
            seen.measured += 1;
            if error > seen.worst.0 {
                seen.worst = (error, x);
            }
        }
        if let Some(before) = &before {
            let same = before.iter().zip(&seen.outputs).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{function:?}: {}", seen.backend);
        }
        before = Some(seen.outputs.clone());
    }
}

fn scan_double(function: Double, patterns: core::ops::Range<u64>, step: u64) {
    let mut all = all_backends(0f64);
    for inputs in numbers(patterns, step) {
        let inputs: Vec<f64> = inputs.iter().map(|&x| f64::from(x)).collect();
        try_double(function, &inputs, &mut all);
    }
    // Random f64 bit patterns of any exponent, and of 2^−28 to 2^12.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..50 {
        let inputs: Vec<f64> = (0..SUMMED_IN_F32)
            .map(|i| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let near = (state & 0x800f_ffff_ffff_ffff) | ((1023 + 11 - (state >> 52) % 40) << 52);
                f64::from_bits(if i % 2 == 0 { state } else { near })
            })
            .collect();
        try_double(function, &inputs, &mut all);
    }
    for Seen { backend, worst: (error, x), measured, .. } in all {
        println!("{:>10} {function:?}: {measured} measured: ≤ 2^{:.2}, at {x:e}", backend.name(), error.log2());
        assert!(measured > 1000);
    }
}

#[test]
fn functions_of_f64_are_within_their_bound() {
    for function in DOUBLES {
        scan_double(function, ALL, 49_999);
    }
}

#[test]
#[ignore = "takes ten minutes"]
fn every_number_of_the_functions_of_f64() {
    for function in DOUBLES {
        scan_double(function, ALL, 1);
    }
}

#[test]
fn ends_of_the_functions_of_f64() {
    assert_eq!(f64_math::exp(0.0), 1.0);
    for x in [-700.1, -1e300, f64::NEG_INFINITY] {
        assert_eq!(f64_math::exp(x), 0.0);
    }
    assert!(f64_math::exp(f64::NAN).is_nan());
    assert_eq!((f64_math::log1p(0.0), f64_math::log1p_to_one(0.0), f64_math::log(1.0)), (0.0, 0.0, 0.0));
    for exponent in -1022..=1023 {
        assert_eq!(f64_math::power_of_two(f64::from(exponent)), 2f64.powi(exponent));
    }
    // Mantissas in the stated range, integer exponents.
    for i in -200_000..=200_000 {
        let (mantissa, exponent) = f64_math::exp_in_parts(f64::from(i) * 5_000.3);
        assert!((0.707..=1.414_3).contains(&mantissa) && exponent == exponent.round(), "{i}");
    }
}
