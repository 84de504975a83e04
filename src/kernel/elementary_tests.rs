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

/// What a function must return for a number.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// This, with an error of at most [`BOUND`] ulps.
    Near(f64),
    /// The same, or the limit to which numbers go that are too large or too small.
    NearOr(f64, f32),
    /// This in its bits; any NaN for NaN.
    Exactly(f32),
    /// Nothing: the callers never have such a number, or replace what comes of it. It only must not depend on the
    /// backend.
    Unstated,
}

impl Function {
    fn reference(self, x: f32) -> f64 {
        let x = f64::from(x);
        match self {
            Self::Exp => x.exp(),
            Self::Log1p => x.ln_1p(),
            Self::Log => x.ln(),
        }
    }

    /// Of every bit pattern there is what is said of it.
    fn expected(self, x: f32) -> Expected {
        use Expected::{Exactly, Near, NearOr, Unstated};
        let value = self.reference(x);
        match self {
            Self::Exp if x.is_nan() => Exactly(f32::NAN),
            Self::Exp if value >= 2f64.powi(128) => Exactly(f32::INFINITY),
            Self::Exp if value >= 2f64.powf(127.5) => NearOr(value, f32::INFINITY),
            Self::Exp if value < 2f64.powi(-127) => Exactly(0.0),
            Self::Exp if value < 2f64.powi(-126) => NearOr(value, 0.0),
            Self::Log1p if x.is_nan() || x.is_infinite() => Exactly(f32::NAN),
            Self::Log1p if x <= -1.0 => Unstated,
            Self::Log if !(f32::MIN_POSITIVE..=f32::MAX).contains(&x) => Unstated,
            _ => Near(value),
        }
    }
}

impl Expected {
    /// The error in ulps where there is one to be measured, or what is wrong. A result below the normal range (log1p
    /// of a subnormal number) counts as right where it is exact to half a unit of what is left there.
    fn error_of(self, found: f32) -> Result<Option<f64>, String> {
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
        if error <= BOUND {
            Ok(Some(error))
        } else {
            Err(format!("{found:e} instead of {value:e} or {limit:?}: {error} ulp"))
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

/// What a scan has seen of one backend.
struct Seen {
    backend: Backend,
    outputs: Vec<f32>,
    /// The largest error, and where it is.
    worst: (f64, f32),
    measured: u64,
    stated: u64,
}

/// Where functions change what they say, zeros and the ends of the numbers: these and their neighbours are always
/// tried.
const EDGES: [f32; 20] = [
    0.0,
    -0.0,
    f32::from_bits(1),
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    -0.5,
    -1.0,
    1.0,
    core::f32::consts::FRAC_1_SQRT_2,
    core::f32::consts::SQRT_2,
    88.376_26,
    88.722_84,
    -87.336_54,
    -88.029_69,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    -f32::NAN,
];

/// All bit patterns.
const ALL: core::ops::Range<u64> = 0..1 << 32;

/// Holds the backends to what is stated, of every `step`th of all bit patterns and of those near the edges.
fn scan(function: Function, numbers: core::ops::Range<u64>, step: u64) {
    const BLOCK: u64 = 4096;
    let edges: Vec<u32> =
        EDGES.iter().flat_map(|x| (0..16).map(|i| x.to_bits().wrapping_add(i).wrapping_sub(8))).collect();
    let mut all: Vec<Seen> = Backend::available()
        .map(|backend| Seen { backend, outputs: Vec::new(), worst: (0.0, 0.0), measured: 0, stated: 0 })
        .collect();
    let mut count = 0u64;
    let mut try_all = |inputs: &[f32]| {
        count += inputs.len() as u64;
        let expected: Vec<Expected> = inputs.iter().map(|&x| function.expected(x)).collect();
        for seen in &mut all {
            seen.outputs.clear();
            seen.outputs.extend(inputs);
            seen.backend.run(Map { function, numbers: &mut seen.outputs });
            for ((&x, &expected), &found) in inputs.iter().zip(&expected).zip(&seen.outputs) {
                match expected.error_of(found) {
                    Ok(Some(error)) => {
                        seen.measured += 1;
                        if error > seen.worst.0 {
                            seen.worst = (error, x);
                        }
                    }
                    Ok(None) => {}
                    Err(wrong) => panic!("{}: {function:?}({x:e}), {:#010x}: {wrong}", seen.backend, x.to_bits()),
                }
                seen.stated += u64::from(!matches!(expected, Expected::Unstated));
            }
        }
        for fused in [true, false] {
            let mut class = all.iter().filter(|seen| seen.backend.is_fused() == fused);
            let Some(first) = class.next() else { continue };
            for other in class {
                let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                if !first.outputs.iter().zip(&other.outputs).all(same) {
                    let at = first.outputs.iter().zip(&other.outputs).position(|pair| !same(pair)).unwrap_or(0);
                    panic!("{function:?}({:e}): {} ≠ {}", inputs[at], first.backend, other.backend);
                }
            }
        }
    };
    try_all(&edges.iter().map(|&bits| f32::from_bits(bits)).collect::<Vec<_>>());
    let mut from = numbers.start;
    while from < numbers.end {
        // The last of them may be tried several times.
        let inputs: Vec<f32> =
            (0..BLOCK).map(|i| f32::from_bits((from + i * step).min(u32::MAX.into()) as u32)).collect();
        try_all(&inputs);
        from += BLOCK * step;
    }
    for Seen { backend, worst: (error, x), measured, stated, .. } in all {
        println!(
            "{:>10} {function:?}: {count} numbers, {stated} stated, {measured} measured: ≤ {error:.4} ulp, at {x:e}",
            backend.name()
        );
        assert!(measured > 1000);
    }
}

#[test]
fn exp_and_log_are_within_one_ulp() {
    for function in [Function::Exp, Function::Log1p, Function::Log] {
        scan(function, ALL, 49_999);
    }
}

// All 2^32 bit patterns: cargo test --lib every_number -- --ignored --nocapture
#[test]
#[ignore = "takes ten minutes"]
fn every_number_of_exp() {
    scan(Function::Exp, ALL, 1);
}

/// Where the powers of two end: beyond, every number becomes the same limit.
#[test]
#[ignore = "takes a second, and minutes where it is emulated"]
fn every_number_near_the_limits_of_exp() {
    for sign in [0, 1 << 31] {
        scan(Function::Exp, sign + u64::from(87f32.to_bits())..sign + u64::from(90f32.to_bits()), 1);
    }
}

#[test]
#[ignore = "takes ten minutes"]
fn every_number_of_log1p() {
    scan(Function::Log1p, ALL, 1);
}

#[test]
#[ignore = "takes ten minutes"]
fn every_number_of_log() {
    scan(Function::Log, ALL, 1);
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
