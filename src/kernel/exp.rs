//! exp, without the subtraction that loses what matters.
//!
//! x = k·ln 2 + f with |f| ≤ ln 2 / 2 (a hair more after rounding), so eˣ = 2ᵏ·eᶠ. A row needs exp(xₖ − xᵣ) for its
//! reference class r. Subtracting in f32 first would lose up to half an ulp of the larger logit, which for (17, 0, 0)
//! is already 10⁻⁶ of the result. Instead the reference is reduced as well, its integer joins the integers of the row,
//! and its factor e^(−fᵣ) is applied once, to the sum.

use super::pair::{Pair, fast_two_sum};
use crate::backend::vector::Vector;

const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// The first 15 bits of ln 2: its product with an integer below 738 is exact.
const LN2_HI: f32 = 0.693_145_75;
/// ln 2 − `LN2_HI`
const LN2_LO: f32 = 1.428_606_8e-6;
/// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
/// The exponent bias of f32.
const EXPONENT_BIAS: f32 = 127.0;

/// Where the reference is at least this far from zero, subtracting first is exact for every difference that matters:
/// f32 subtraction is exact within a factor of 2, and exp(−128) is below the range of the results.
const FAR: f32 = 256.0;

/// eᶠ for |f| ≤ 0.3469: minimax in relative error with f32 coefficients, 2^−28.2 before rounding.
#[inline(always)]
fn exp_reduced<S: Vector>(s: S, f: S::F) -> S::F {
    let one = s.splat(1.0);
    let q = exp_tail(s, f);
    if S::FUSED {
        s.mul_add(s.mul_add(q, f, one), f, one)
    } else {
        // As many operations, but the products are small when they are rounded.
        s.add(s.add(s.mul(s.mul(f, f), q), f), one)
    }
}

/// (eᶠ − 1 − f) / f²
#[inline(always)]
fn exp_tail<S: Vector>(s: S, f: S::F) -> S::F {
    let p = s.splat(f32::from_bits(0x3ab5_24ae));
    let p = s.mul_add(p, f, s.splat(f32::from_bits(0x3c09_1cd0)));
    let p = s.mul_add(p, f, s.splat(f32::from_bits(0x3d2a_ac5a)));
    let p = s.mul_add(p, f, s.splat(f32::from_bits(0x3e2a_aa49)));
    s.mul_add(p, f, s.splat(f32::from_bits(0x3eff_fffe)))
}

/// exp(x − `shift`)·2^`power` for the elements x of a row.
///
/// Results below about 2⁻¹²⁶ become 0, those above 2^127.5 become +∞; −∞ gives 0, NaN gives NaN. Otherwise within 1 ulp.
#[derive(Clone, Copy)]
pub(crate) struct Exp<F> {
    shift: F,
    round: F,
    floor: F,
    ceiling: F,
}

impl<F: Copy> Exp<F> {
    /// `power` is an integer with |power| ≤ 600.
    #[inline(always)]
    pub(crate) fn new<S: Vector<F = F>>(s: S, shift: f32, power: f32) -> Self {
        // Below the floor the exponent field of 2ᵏ is 0, at the ceiling all ones: the powers 0 and ∞.
        Self {
            shift: s.splat(shift),
            round: s.splat(ROUND + (EXPONENT_BIAS + power)),
            floor: s.splat((-127.0 - power) * core::f32::consts::LN_2),
            ceiling: s.splat((128.0 - power) * core::f32::consts::LN_2),
        }
    }

    /// `factor`·exp(x − shift)·2^power, with one more rounding; |`factor`| in [√½, 2).
    #[inline(always)]
    pub(crate) fn times<S: Vector<F = F>>(&self, s: S, x: F, factor: F) -> F {
        let (p, power) = self.parts(s, x);
        s.mul(s.mul(p, factor), power)
    }

    /// exp(x − shift)·2^power
    #[inline(always)]
    pub(crate) fn of<S: Vector<F = F>>(&self, s: S, x: F) -> F {
        let (p, power) = self.parts(s, x);
        s.mul(p, power)
    }

    #[inline(always)]
    fn parts<S: Vector<F = F>>(&self, s: S, x: F) -> (F, F) {
        let x = s.sub(x, self.shift);
        let x = s.at_most(s.at_least(x, self.floor), self.ceiling);
        let t = s.mul_add(x, s.splat(LOG2_E), self.round);
        let k = s.sub(t, self.round);
        let f = s.mul_add(k, s.splat(-LN2_HI), x);
        let f = s.mul_add(k, s.splat(-LN2_LO), f);
        (exp_reduced(s, f), s.of_bits(s.shift_left::<23>(s.to_bits(t))))
    }
}

/// The reference class of a row, reduced: exp(x − xᵣ) = exp(x − `shift`)·2^(−`exponent`)·`rest`.
#[derive(Clone, Copy)]
pub(crate) struct Reference<F> {
    pub(crate) shift: F,
    pub(crate) exponent: F,
    pub(crate) rest: Pair<F>,
}

impl<F: Copy> Reference<F> {
    /// The references of several rows at once. `rest` is NaN where the logit is not finite.
    #[inline(always)]
    pub(crate) fn new<S: Vector<F = F>>(s: S, logit: F) -> Self {
        let zero = s.splat(0.0);
        let near = s.less(super::pair::magnitude(s, logit), s.splat(FAR));
        let x = s.select(near, logit, zero);
        let round = s.splat(ROUND);
        let exponent = s.sub(s.mul_add(x, s.splat(LOG2_E), round), round);
        // −f, with what its rounding loses.
        let high = s.mul_add(exponent, s.splat(-LN2_HI), x);
        let f = s.mul_add(exponent, s.splat(-LN2_LO), high);
        let lost = s.mul_add(exponent, s.splat(-LN2_LO), s.sub(high, f));
        let f = s.sub(zero, f);
        // 1 − f is exact as a pair, the rest is below 0.07.
        let sum = fast_two_sum(s, s.splat(1.0), f);
        let rest = s.mul_add(s.mul(exp_tail(s, f), f), f, sum.lo);
        let rest = s.sub(rest, s.mul(lost, sum.hi));
        let rest = fast_two_sum(s, sum.hi, rest);
        // 0 for a finite logit.
        let poison = s.sub(logit, logit);
        Self { shift: s.select(near, zero, logit), exponent, rest: Pair { hi: s.add(rest.hi, poison), lo: rest.lo } }
    }
}
