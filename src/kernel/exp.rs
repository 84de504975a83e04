//! exp, without the subtraction that loses what matters.
//!
//! x = k·ln 2 + f with |f| ≤ ln 2 / 2 (a hair more after rounding), so eˣ = 2ᵏ·eᶠ. A row needs exp(xₖ − xᵣ) for its
//! reference class r. Subtracting in f32 first would lose up to half an ulp of the larger logit, which for (17, 0, 0)
//! is already 10⁻⁶ of the result. Instead the reference is reduced as well, its integer joins the integers of the row,
//! and its factor e^(−fᵣ) is applied once, to the sum.

use super::long_rows::HEADROOM;
use super::pair::{Pair, fast_two_sum};
use crate::backend::vector::Vector;

const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// The first 15 bits of ln 2: its product with an integer below 738 is exact.
const LN2_HI: f32 = 0.693_145_75;
/// ln 2 − `LN2_HI`
const LN2_LO: f32 = 1.428_606_8e-6;
/// ln 2 − the nearest f32
const LN2_REST: f32 = -1.904_654_3e-9;
/// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
/// The exponent bias of f32.
const EXPONENT_BIAS: f32 = 127.0;

/// What is rounded to −127 and to 128, the powers 0 and ∞. Not these integers: where the host program has the processor
/// round up or down, a hair beside them would become −128 or 129, whose fields are those of other numbers.
const LOWEST: f32 = -126.75;
const HIGHEST: f32 = 127.75;

/// Where the reference is at least this far from zero, subtracting first is exact for every difference that matters:
/// f32 subtraction is exact within a factor of 2, and exp(−192) is below the range of the results, weights included.
const FAR: f32 = 384.0;

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

/// What an [`Exp`] is made from.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// 0 unless the reference is far from zero.
    pub(crate) shift: f32,
    /// An integer with |power| ≤ 800.
    pub(crate) power: f32,
}

impl Scale {
    /// Whether there is no shift, so that terms may be tried without a clamp.
    #[inline(always)]
    pub(crate) fn is_near(self) -> bool {
        self.shift == 0.0
    }

    /// A logit whose exponential is 0, in range.
    #[inline(always)]
    pub(crate) fn logit_of_zero(self) -> f32 {
        (LOWEST - self.power) * core::f32::consts::LN_2 + self.shift
    }
}

/// An exponential in two factors: eᶠ, and 2ᵏ.
pub(crate) struct Factors<S: Vector> {
    pub(crate) mantissa: S::F,
    pub(crate) power: S::F,
    /// The exponent field of the power, and above it bits that are set where it does not fit.
    pub(crate) field: S::U,
}

impl<F: Copy> Exp<F> {
    #[inline(always)]
    pub(crate) fn new<S: Vector<F = F>>(s: S, scale: Scale) -> Self {
        Self::of_rows(s, s.splat(scale.shift), s.splat(scale.power))
    }

    /// One [`Scale`] a lane.
    #[inline(always)]
    pub(crate) fn of_rows<S: Vector<F = F>>(s: S, shift: F, power: F) -> Self {
        // At the floor the exponent field of 2ᵏ is 0, at the ceiling all ones: the powers 0 and ∞.
        let ln_2 = s.splat(core::f32::consts::LN_2);
        Self {
            shift,
            round: s.add(s.add(power, s.splat(EXPONENT_BIAS)), s.splat(ROUND)),
            floor: s.mul(s.sub(s.splat(LOWEST), power), ln_2),
            ceiling: s.mul(s.sub(s.splat(HIGHEST), power), ln_2),
        }
    }

    /// `factor`·exp(x − shift)·2^power, with one more rounding; |`factor`| in [√½, 2).
    #[inline(always)]
    pub(crate) fn times<S: Vector<F = F>>(&self, s: S, x: F, factor: F) -> F {
        let e = self.factors(s, self.clamped(s, x));
        s.mul(s.mul(e.mantissa, factor), e.power)
    }

    /// x − shift, kept where its exponential is in range.
    #[inline(always)]
    pub(crate) fn clamped<S: Vector<F = F>>(&self, s: S, x: F) -> F {
        s.at_most(s.at_least(s.sub(x, self.shift), self.floor), self.ceiling)
    }

    /// The factors of exp(x − shift)·2^power, where x − shift is clamped, or in range as [`Range`] tells of many at once.
    #[inline(always)]
    pub(crate) fn of_any<S: Vector<F = F>>(&self, s: S, x: F) -> Factors<S> {
        self.factors(s, x)
    }

    /// [`Exp::of_any`], or [`Exp::term`], which then is the same but for the constants.
    #[inline(always)]
    pub(crate) fn of_either<S: Vector<F = F>>(&self, s: S, x: F, is_term: bool) -> Factors<S> {
        let (hi, lo) = if S::FUSED && is_term { (core::f32::consts::LN_2, 0.0) } else { (LN2_HI, LN2_LO) };
        let (t, k) = self.rounded(s, x);
        let f = s.mul_add(k, s.splat(-hi), x);
        factors(s, t, s.mul_add(k, s.splat(-lo), f))
    }

    /// exp(x − shift)·2^power.
    #[inline(always)]
    pub(crate) fn of<S: Vector<F = F>>(&self, s: S, x: F) -> F {
        let e = self.factors(s, self.clamped(s, x));
        s.mul(e.mantissa, e.power)
    }

    #[inline(always)]
    fn factors<S: Vector<F = F>>(&self, s: S, x: F) -> Factors<S> {
        let (t, k) = self.rounded(s, x);
        let f = s.mul_add(k, s.splat(-LN2_HI), x);
        factors(s, t, s.mul_add(k, s.splat(-LN2_LO), f))
    }

    /// The factors of a term of a sum: exp(x)·2^power, where x is clamped, or in range as [`Range`] tells of many at once.
    ///
    /// With a fused multiply-add one constant for ln 2 serves: what it lacks is a factor that hardly varies among the
    /// terms that count, and [`refined`] applies it to their sum.
    #[inline(always)]
    pub(crate) fn term<S: Vector<F = F>>(&self, s: S, x: F) -> Factors<S> {
        if !S::FUSED {
            return self.factors(s, x);
        }
        let (t, k) = self.rounded(s, x);
        factors(s, t, s.mul_add(k, s.splat(-core::f32::consts::LN_2), x))
    }

    /// x·log2 e rounded to an integer k, in the low bits of t.
    #[inline(always)]
    fn rounded<S: Vector<F = F>>(&self, s: S, x: F) -> (F, F) {
        let t = s.mul_add(x, s.splat(LOG2_E), self.round);
        (t, s.sub(t, self.round))
    }
}

/// eᶠ and 2ᵏ, where t holds k in its low bits.
#[inline(always)]
fn factors<S: Vector>(s: S, t: S::F, f: S::F) -> Factors<S> {
    let field = s.to_bits(t);
    Factors { mantissa: exp_reduced(s, f), power: s.of_bits(s.shift_left::<23>(field)), field }
}

/// A sum of [`Exp::term`]s with what the single constant for ln 2 lacks: the terms lack e^(−k·(ln 2 − its f32)), and k is
/// near log2 of the sum for those that count. The sum is 2^`headroom` too large and lacks 2^−`exponent`, the power of its
/// reference.
#[inline(always)]
pub(crate) fn refined<S: Vector>(s: S, sum: Pair<S::F>, exponent: S::F, headroom: f32) -> Pair<S::F> {
    if !S::FUSED {
        return sum;
    }
    // An integer in the low bits of 2²³ is that much more than 2²³.
    let field = s.add_bits(s.shift_right::<23>(s.to_bits(sum.hi)), s.splat_bits(0x4b00_0000));
    let log2 = s.sub(s.of_bits(field), s.splat(8_388_608.0 + EXPONENT_BIAS + headroom));
    let lacking = s.mul(s.add(log2, exponent), s.splat(-LN2_REST));
    Pair { hi: sum.hi, lo: s.mul_add(sum.hi, lacking, sum.lo) }
}

/// What a NaN, an infinity or an exponent out of range leaves behind in a union of fields.
#[derive(Clone, Copy)]
pub(crate) struct Range<U>(U);

impl Range<u32> {
    /// That of no field.
    pub(crate) const EMPTY: Self = Self(ROUND.to_bits());
}

impl<U: Copy> Range<U> {
    #[inline(always)]
    pub(crate) fn of_one<S: Vector<U = U>>(e: &Factors<S>) -> Self {
        Self(e.field)
    }

    #[inline(always)]
    pub(crate) fn and<S: Vector<U = U>>(self, s: S, other: Self) -> Self {
        Self(s.or_bits(self.0, other.0))
    }

    /// Whether every field was in [0, 255]: as long as they are, the bits above are those of [`ROUND`].
    #[inline(always)]
    pub(crate) fn all_in_range<S: Vector<U = U>>(self, s: S) -> bool {
        !s.any_bit(s.shift_right::<8>(s.sub_bits(self.0, s.splat_bits(ROUND.to_bits()))))
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
    /// That of a logit of 0.
    #[inline(always)]
    pub(crate) fn none<S: Vector<F = F>>(s: S) -> Self {
        let zero = s.splat(0.0);
        Self { shift: zero, exponent: zero, rest: Pair { hi: s.splat(1.0), lo: zero } }
    }

    /// exp(x − xᵣ)·2^[`HEADROOM`], but for the factor `rest`.
    #[inline(always)]
    pub(crate) fn term<S: Vector<F = F>>(&self, s: S) -> Exp<F> {
        Exp::of_rows(s, self.shift, s.sub(s.splat(HEADROOM), self.exponent))
    }

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
