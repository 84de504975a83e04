//! log(1 + f) on [0, 1]: f − f²/2 in f64, and the remainder in f32, too small for its rounding to matter.

use crate::backend::vector::Vector;
use core::f64::consts::LN_2;

/// P in log(1 + f) = f − f²/2 + f³·P(f): minimax on [0, 1], 2^−29.7. Its coefficients from 1 to f⁸.
const P: [u32; 9] = [
    0x3eaa_aa5a,
    0xbe7f_ee78,
    0x3e4c_0bab,
    0xbe26_2d6c,
    0x3e01_d57b,
    0xbdaf_f0d8,
    0x3d35_66c5,
    0xbc70_7353,
    0x3b15_1677,
];

/// P(f) and f², by Estrin's scheme: a short dependency chain, so that more rows are in flight at once.
#[inline(always)]
fn polynomial<S: Vector>(s: S, f: S::F) -> (S::F, S::F) {
    let [a, b, c, d, e, g, h, i, j] = P;
    let k = |bits| s.splat(f32::from_bits(bits));
    let square = s.mul(f, f);
    let low = s.mul_add(s.mul_add(k(d), f, k(c)), square, s.mul_add(k(b), f, k(a)));
    let high = s.mul_add(s.mul_add(k(j), square, s.mul_add(k(i), f, k(h))), square, s.mul_add(k(g), f, k(e)));
    (s.mul_add(high, s.mul(square, square), low), square)
}

/// f³·P(f)
#[inline(always)]
pub(crate) fn rest<S: Vector>(s: S, f: S::F) -> S::F {
    let (p, square) = polynomial(s, f);
    s.mul(s.mul(square, f), p)
}

/// log(1 + f) of an exact f32 f as a sum of two f32: f − f²/2, rounded, and the rest.
#[inline(always)]
pub(crate) fn in_two_parts<S: Vector>(s: S, f: S::F) -> (S::F, S::F) {
    let ((p, square), half) = (polynomial(s, f), s.mul(f, s.splat(-0.5)));
    let high = s.mul_add(half, f, f);
    let low = s.mul_add(half, f, s.sub(f, high));
    (high, s.mul_add(s.mul(square, f), p, low))
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
