//! exp and log in f64 for row scalars, in code that compilers vectorise: without branches or calls, and without fused
//! multiply-add, so that every backend computes the same bits.
//!
//! A relative error of 2⁻³⁴ is negligible beside the final rounding to f32. Coefficients: `benches/polynomials.py`.

use crate::backend::Backend;
use core::f64::consts::{LN_2, LOG2_E};

/// 1.5 · 2⁵²: adding it rounds to an integer, left in the low bits of the mantissa.
const ROUND: f64 = 6_755_399_441_055_744.0;
const ONE_BITS: u64 = 0x3ff0_0000_0000_0000;
const SQRT_HALF_BITS: u64 = 0x3fe6_a09e_667f_3bcd;

/// Inlines a function where a loop over it may be vectorised; outlines it where f64 is software: there it is many
/// library calls, and inlining makes no loop faster.
#[inline(always)]
fn function<T>(of: impl Fn(f64) -> T, x: f64) -> T {
    #[inline(never)]
    fn called<T>(of: impl Fn(f64) -> T, x: f64) -> T {
        of(x)
    }
    if Backend::ONLY_SCALAR { called(of, x) } else { of(x) }
}

/// eˣ as mantissa · 2^exponent, |x| ≤ 2³⁰: the mantissa in [√½, √2], the exponent an integer.
#[inline(always)]
pub(crate) fn exp_in_parts(x: f64) -> (f64, f64) {
    let exponent = (x * LOG2_E + ROUND) - ROUND;
    let f = x - exponent * LN_2;
    // Estrin's scheme: a shorter dependency chain than Horner's, so that many rows are in flight at once.
    let f2 = f * f;
    let low = (1.0 + f) + (0.500_000_006_765_116_7 + 0.166_666_658_693_763_13 * f) * f2;
    let high = 0.041_666_295_065_556_47 + 0.008_333_497_012_088_123 * f;
    let high = high + (0.001_394_465_066_263_161_7 + 0.000_197_903_544_720_815_33 * f) * f2;
    (low + high * (f2 * f2), exponent)
}

/// 2^exponent for an integer in [−1022, 1023].
#[inline(always)]
pub(crate) fn power_of_two(exponent: f64) -> f64 {
    f64::from_bits((exponent + (ROUND + 1023.0)).to_bits() << 52)
}

/// eˣ, 0 below −700; for x up to 700.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    function(
        #[inline(always)]
        |x| {
            let (mantissa, exponent) = exp_in_parts(if x < -700.0 { -700.0 } else { x });
            if x < -700.0 { 0.0 } else { mantissa * power_of_two(exponent) }
        },
        x,
    )
}

/// log(1 + e) for e ≥ −½, finite.
#[inline(always)]
pub(crate) fn log1p(e: f64) -> f64 {
    let (k, f) = split(1.0 + e);
    // For k = 0, f = e without the rounding of 1 + e.
    log_of_split(k, if k == 0.0 { e } else { f })
}

/// log(1 + e) for e in [0, 1].
#[inline(always)]
pub(crate) fn log1p_to_one(e: f64) -> f64 {
    let z = e / (2.0 + e);
    let z2 = z * z;
    let z4 = z2 * z2;
    let low = 2.0 + 0.666_666_755_028_348_3 * z2;
    let middle = 0.399_988_881_196_817_95 + 0.286_166_035_835_852_17 * z2;
    let high = 0.214_306_634_055_050_95 + 0.242_898_562_227_363_58 * z2;
    z * (low + z4 * (middle + high * z4))
}

/// log u for positive normal u.
#[inline(always)]
pub(crate) fn log(u: f64) -> f64 {
    function(
        #[inline(always)]
        |u| {
            let (k, f) = split(u);
            log_of_split(k, f)
        },
        u,
    )
}

/// u = 2ᵏ·(1 + f) with 1 + f in [√½, √2).
#[inline(always)]
fn split(u: f64) -> (f64, f64) {
    let bits = u.to_bits().wrapping_add(ONE_BITS - SQRT_HALF_BITS);
    // Integer to f64: OR-ed into the bits of 2⁵², an integer n gives 2⁵² + n.
    let k = f64::from_bits((bits >> 52) | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    let mantissa = (bits & 0x000f_ffff_ffff_ffff).wrapping_add(SQRT_HALF_BITS);
    (k, f64::from_bits(mantissa) - 1.0)
}

/// k·ln 2 + log(1 + f), as 2·artanh z with z = f/(2 + f).
#[inline(always)]
fn log_of_split(k: f64, f: f64) -> f64 {
    let z = f / (2.0 + f);
    let z2 = z * z;
    let low = 2.0 + 0.666_666_656_487_473_9 * z2;
    let high = (0.400_003_345_158_087_55 + 0.285_373_477_500_745 * z2) + 0.235_814_636_923_126_99 * (z2 * z2);
    k * LN_2 + z * (low + high * (z2 * z2))
}
