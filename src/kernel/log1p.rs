//! log(1 + f) on [0, 1]: f − f²/2 in f64, and the remainder in f32, too small for its rounding to matter.

use crate::backend::vector::Vector;
use core::f64::consts::LN_2;

/// P in log(1 + f) = f − f²/2 + f³·P(f): minimax on [0, 1], 2^−29.7. Its coefficients of f³, f², f and 1.
const LOW: [u32; 4] = [0xbe26_2d6c, 0x3e4c_0bab, 0xbe7f_ee78, 0x3eaa_aa5a];
/// Coefficients of f⁸, f⁷, f⁶, f⁵ and f⁴ in P.
const HIGH: [u32; 5] = [0x3b15_1677, 0xbc70_7353, 0x3d35_66c5, 0xbdaf_f0d8, 0x3e01_d57b];

/// P(f) and f². High and low powers are evaluated in parallel; even and odd ones, of opposite signs, would cancel more.
#[inline(always)]
fn polynomial<S: Vector>(s: S, f: S::F) -> (S::F, S::F) {
    let square = s.mul(f, f);
    (s.mul_add(horner(s, f, &HIGH), s.mul(square, square), horner(s, f, &LOW)), square)
}

#[inline(always)]
fn horner<S: Vector, const N: usize>(s: S, x: S::F, coefficients: &[u32; N]) -> S::F {
    let mut p = s.splat(f32::from_bits(coefficients[0]));
    for &coefficient in &coefficients[1..] {
        p = s.mul_add(p, x, s.splat(f32::from_bits(coefficient)));
    }
    p
}

/// f³·P(f)
#[inline(always)]
pub(crate) fn rest<S: Vector>(s: S, f: S::F) -> S::F {
    let (p, square) = polynomial(s, f);
    s.mul(s.mul(square, f), p)
}

/// −f²/2 + f³·P(f) in f32: less exact, and enough where f is exactly an f32.
#[inline(always)]
pub(crate) fn without_linear_term<S: Vector>(s: S, f: S::F) -> S::F {
    let (p, square) = polynomial(s, f);
    s.mul(square, s.mul_add(p, f, s.splat(-0.5)))
}

/// f − f²/2
#[inline(always)]
pub(crate) fn start(f: f64) -> f64 {
    f * (1.0 - 0.5 * f)
}

/// k·ln 2 and f of 1 + e = 2ᵏ·(1 + f) with f in [0, 1), up to rounding, for e ≥ 0 and 1 + e < 2¹⁰²³.
#[inline(always)]
pub(crate) fn split(e: f64) -> (f64, f64) {
    let exponent = (1.0 + e).to_bits() & 0x7ff0_0000_0000_0000;
    let unit = f64::from_bits(0x7fe0_0000_0000_0000_u64.wrapping_sub(exponent));
    // Integer to f64: OR-ed into the bits of 2⁵², an integer n gives 2⁵² + n.
    let k = f64::from_bits((exponent >> 52) | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    (k * LN_2, e * unit + (unit - 1.0))
}
