//! log u and log(1 + e) as double-floats, so that their product with a weight is rounded once.

use super::pair::{Pair, fast_two_sum, select, two_sum};
use crate::backend::vector::Vector;

/// The first 15 bits of ln 2: its product with an integer below 738 is exact.
const LN2_HI: f32 = 0.693_145_75;
/// ln 2 − `LN2_HI`
const LN2_LO: f32 = 1.428_606_8e-6;
const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
const ONE_BITS: u32 = 0x3f80_0000;

/// The argument of a logarithm after range reduction: 2ᵏ·(1 + f) with 1 + f in [√½, √2).
#[derive(Clone, Copy)]
pub(crate) struct Reduced<F> {
    pub(crate) k: F,
    pub(crate) f: Pair<F>,
}

impl<F: Copy> Reduced<F> {
    /// Of a positive normal u.
    #[inline(always)]
    pub(crate) fn new<S: Vector<F = F>>(s: S, u: Pair<F>) -> Self {
        let bits = s.add_bits(s.to_bits(u.hi), s.splat_bits(ONE_BITS - SQRT_HALF_BITS));
        let biased = s.shift_right::<23>(bits);
        // Integer to f32: added to the bits of 2²³, an integer n gives 2²³ + n.
        let k = s.sub(s.of_bits(s.add_bits(biased, s.splat_bits(0x4b00_0000))), s.splat(8_388_608.0 + 127.0));
        let mantissa = s.add_bits(s.and_bits(bits, s.splat_bits(0x007f_ffff)), s.splat_bits(SQRT_HALF_BITS));
        // 2^(1 − k), which is 0 for k = 128: there the low part is negligible beside log u.
        let twice_inverse = s.of_bits(s.shift_left::<23>(s.sub_bits(s.splat_bits(255), biased)));
        let low = s.mul(s.mul(u.lo, s.splat(0.5)), twice_inverse);
        let f = s.sub(s.of_bits(mantissa), s.splat(1.0));
        Self { k, f: two_sum(s, f, low) }
    }

    /// Of 1 + e for finite e ≥ −½.
    #[inline(always)]
    pub(crate) fn one_plus<S: Vector<F = F>>(s: S, e: Pair<F>) -> Self {
        let sum = two_sum(s, s.splat(1.0), e.hi);
        let Self { k, f } = Self::new(s, Pair { hi: sum.hi, lo: s.add(sum.lo, e.lo) });
        // For k = 0, f = e without the rounding of 1 + e.
        Self { k, f: select(s, s.equal(k, s.splat(0.0)), e, f) }
    }

    /// k·ln 2 + log(1 + f), with a relative error below 2⁻²⁵, for |k| < 738.
    ///
    /// f is added exactly, −f²/2 + f³·P(f) in f32. P is minimax for the relative error of log(1 + f): 2^−30 unrounded.
    #[inline(always)]
    pub(crate) fn log<S: Vector<F = F>>(self, s: S) -> Pair<F> {
        let Self { k, f } = self;
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
}
