//! log(1 + e) and log(u), each as a pair, so that what is computed from it is rounded once.

use super::pair::{Pair, fast_two_sum, select, two_sum};
use crate::backend::vector::Vector;

/// The first 15 bits of ln 2.
const LN2_HI: f32 = 0.693_145_75;
/// ln 2 − `LN2_HI`
const LN2_LO: f32 = 1.428_606_8e-6;
const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
const ONE_BITS: u32 = 0x3f80_0000;

/// log(1 + e) for finite e ≥ −½, with a relative error below 2⁻²⁵.
#[inline(always)]
pub(crate) fn log1p<S: Vector>(s: S, e: Pair<S::F>) -> Pair<S::F> {
    let sum = two_sum(s, s.splat(1.0), e.hi);
    let u = Pair { hi: sum.hi, lo: s.add(sum.lo, e.lo) };
    let (k, f) = split(s, u);
    // Where nothing was scaled 1 + e has lost bits that e still has.
    let near = s.equal(k, s.splat(0.0));
    log_of_split(s, k, select(s, near, e, f))
}

/// log(u) for positive normal u, with a relative error below 2⁻²⁵.
#[inline(always)]
pub(crate) fn log<S: Vector>(s: S, u: Pair<S::F>) -> Pair<S::F> {
    let (k, f) = split(s, u);
    log_of_split(s, k, f)
}

/// u = 2ᵏ·(1 + f) with 1 + f in [√½, √2).
#[inline(always)]
fn split<S: Vector>(s: S, u: Pair<S::F>) -> (S::F, Pair<S::F>) {
    let bits = s.add_bits(s.to_bits(u.hi), s.splat_bits(ONE_BITS - SQRT_HALF_BITS));
    let biased = s.shift_right::<23>(bits);
    // An integer in the low bits of 2²³ is that much more than 2²³.
    let k = s.sub(s.of_bits(s.add_bits(biased, s.splat_bits(0x4b00_0000))), s.splat(8_388_608.0 + 127.0));
    let mantissa = s.add_bits(s.and_bits(bits, s.splat_bits(0x007f_ffff)), s.splat_bits(SQRT_HALF_BITS));
    // Twice 2⁻ᵏ: for the largest numbers that is 0, which their low part is too small to notice.
    let twice_inverse = s.of_bits(s.shift_left::<23>(s.sub_bits(s.splat_bits(255), biased)));
    let low = s.mul(s.mul(u.lo, s.splat(0.5)), twice_inverse);
    let f = s.sub(s.of_bits(mantissa), s.splat(1.0));
    (k, two_sum(s, f, low))
}

/// k·ln 2 + log(1 + f): f exactly, −f²/2 + f³·P(f) rounded, where P is minimax in relative error of the whole, 2^−30
/// before rounding.
#[inline(always)]
fn log_of_split<S: Vector>(s: S, k: S::F, f: Pair<S::F>) -> Pair<S::F> {
    let x = f.hi;
    let p = s.splat(f32::from_bits(0x3d8a_3e5f));
    let p = s.mul_add(p, x, s.splat(f32::from_bits(0xbdef_0726)));
    let p = s.mul_add(p, x, s.splat(f32::from_bits(0x3df3_614c)));
    let p = s.mul_add(p, x, s.splat(f32::from_bits(0xbdfe_13a0)));
    let p = s.mul_add(p, x, s.splat(f32::from_bits(0x3e11_9db4)));
    let p = s.mul_add(p, x, s.splat(f32::from_bits(0xbe2a_ae25)));
    let p = s.mul_add(p, x, s.splat(f32::from_bits(0x3e4c_d23c)));
    let p = s.mul_add(p, x, s.splat(f32::from_bits(0xbe80_0003)));
    let p = s.mul_add(p, x, s.splat(f32::from_bits(0x3eaa_aaa4)));
    let p = s.mul_add(p, x, s.splat(-0.5));
    let curved = s.mul(s.mul(x, x), p);
    let sum = fast_two_sum(s, s.mul(k, s.splat(LN2_HI)), x);
    // d log(1 + f) = df / (1 + f)
    let low = s.sub(f.lo, s.mul(f.lo, x));
    let low = s.add(s.mul_add(k, s.splat(LN2_LO), curved), low);
    fast_two_sum(s, sum.hi, s.add(sum.lo, low))
}
