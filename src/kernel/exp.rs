//! exp of logits, in f32.
//!
//! x = k·ln 2 + f with |f| ≤ ln 2 / 2 (a hair more after rounding), so eˣ = 2ᵏ·eᶠ. A reference, which keeps the
//! exponentials of a row in range, is an integer added to k: it changes exponents alone, and a row has the same
//! mantissas with any. Only from [`FAR`] on is it subtracted from the logits.

use super::copy;
use super::limits::{FAR, FAST_BIAS, PREFETCH_DISTANCE};
use crate::backend::vector::{OneLane, Vector};

const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// The first 12 bits of ln 2: its product with an integer of 12 bits is exact.
pub(crate) const LN2_HI: f32 = 0.693_115_25;
/// ln 2 − `LN2_HI`
pub(crate) const LN2_LO: f32 = 3.194_618_5e-5;
/// 1.5 · 2²³: adding it rounds to an integer, left in the low bits of the mantissa.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// Subtracted from the bits of k + [`ROUND`], leaves the integer k + [`FAST_BIAS`].
const BIASED_ROUND: u32 = ROUND.to_bits() - FAST_BIAS;
/// The exponent bias of f32.
const EXPONENT_BIAS: f32 = 127.0;

/// Clamp limits a quarter inside the last values of k that fit the exponent field, −127 (2ᵏ reads as 0) and 128 (as ∞),
/// so that directed rounding cannot step past them.
const LOWEST: f32 = -126.75;
const HIGHEST: f32 = 127.75;

/// (eᶠ − 1 − f)/f². With its coefficients the largest error of exp with all rounding is 0.89 ulp, unfused 0.97
/// (`benches/exp_coefficients.rs`).
#[inline(always)]
pub(crate) fn exp_rest<S: Vector>(s: S, f: S::F) -> S::F {
    let c = |bits| s.splat(f32::from_bits(bits));
    let p = c(0x3ab5_257e);
    let p = s.mul_add(p, f, c(0x3c09_1f03));
    let p = s.mul_add(p, f, c(0x3d2a_abdb));
    let p = s.mul_add(p, f, c(0x3e2a_aa46));
    s.mul_add(p, f, c(0x3f00_0000))
}

/// eᶠ for |f| ≤ 0.3469. Unfused the 1 is added last, so that all earlier rounding is of small values.
#[inline(always)]
fn exp_reduced<S: Vector>(s: S, f: S::F) -> S::F {
    let (rest, one) = (exp_rest(s, f), s.splat(1.0));
    if S::FUSED { s.mul_add(s.mul_add(rest, f, one), f, one) } else { s.add(s.mul_add(s.mul(f, f), rest, f), one) }
}

/// f = x − k·ln 2
#[inline(always)]
fn reduced<S: Vector>(s: S, x: S::F, k: S::F) -> S::F {
    s.mul_add(k, s.splat(-LN2_LO), s.mul_add(k, s.splat(-LN2_HI), x))
}

/// eˣ of a logit in range, and the bits of k + [`FAST_BIAS`]: any from bit 7 up is set exactly where x is out of range.
#[inline(always)]
pub(crate) fn exp_in_range<S: Vector>(s: S, x: S::F) -> (S::F, S::U) {
    let current = reduce_range(s, x);
    (reconstruct(s, current), s.sub_bits(current.1, s.splat_bits(BIASED_ROUND)))
}

/// 1 in each lane whose logit is in range, else 0.
#[inline(always)]
pub(crate) fn lanes_in_range<S: Vector>(s: S, x: S::F) -> S::F {
    let round = s.splat(ROUND);
    let k = s.sub(s.mul_add(x, s.splat(LOG2_E), round), round);
    // Of NaN no comparison is true.
    let below = s.select(s.less(k, s.splat(128.0 - FAST_BIAS as f32)), s.splat(1.0), s.splat(0.0));
    s.select(s.less(s.splat(-1.0 - FAST_BIAS as f32), k), below, s.splat(0.0))
}

/// Range reduction: f, and the bits of k + [`ROUND`].
#[inline(always)]
fn reduce_range<S: Vector>(s: S, x: S::F) -> (S::F, S::U) {
    let round = s.splat(ROUND);
    let t = s.mul_add(x, s.splat(LOG2_E), round);
    (reduced(s, x, s.sub(t, round)), s.to_bits(t))
}

/// 2ᵏ·eᶠ from what [`reduce_range`] returns.
#[inline(always)]
fn reconstruct<S: Vector>(s: S, (f, bits): (S::F, S::U)) -> S::F {
    s.of_bits(s.add_bits(s.to_bits(exp_reduced(s, f)), s.shift_left::<23>(bits)))
}

#[cfg(test)]
std::thread_local! {
    /// Makes [`all_in_range`] false, so that all rows go the general way.
    pub(crate) static GENERAL_WAY_ONLY: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// Whether all logits were in range: no bit from 7 up is set in `union`, the OR of their bits of [`exp_in_range`].
#[inline(always)]
pub(crate) fn all_in_range<S: Vector>(s: S, union: S::U) -> bool {
    #[cfg(test)]
    if GENERAL_WAY_ONLY.get() {
        return false;
    }
    !s.any_bit(s.shift_right::<7>(union))
}

/// Exponentials of `count` contiguous logits, across the ends of rows, to `to`; in place if `logits` is `None`. Returns
/// whether all logits were in range.
pub(crate) fn exponentiate<S: Vector>(s: S, logits: Option<&[f32]>, to: &mut [f32], count: usize) -> bool {
    s.run(
        #[inline(always)]
        move || {
            let mut union;
            let (to, _) = to.split_at_mut_checked(count).unwrap_or_default();
            if !S::WIDE {
                union = s.splat_bits(0);
                copy(to, logits.unwrap_or(&[]));
                for x in to.chunks_mut(S::LANES) {
                    let (e, bits) = exp_in_range(s, s.load(x, 0));
                    union = s.or_bits(union, bits);
                    s.store(e, x, 0);
                }
            } else if let Some(logits) = logits {
                let (mut pairs, mut from) =
                    (to.chunks_exact_mut(S::LANES_OF_TWO), logits.chunks_exact(S::LANES_OF_TWO));
                union = exp_of_pairs(
                    s,
                    from.by_ref().zip(pairs.by_ref()),
                    #[inline(always)]
                    |(from, _), at| {
                        s.prefetch(from, at.wrapping_add(PREFETCH_DISTANCE));
                        s.load(from, at)
                    },
                    #[inline(always)]
                    |(_, to), at, e| s.store(e, to, at),
                );
                let rest = pairs.into_remainder().chunks_mut(S::LANES);
                for (to, from) in rest.zip(from.remainder().chunks(S::LANES)) {
                    let (e, bits) = exp_in_range(s, s.load_partial(from, 0.0));
                    union = s.or_bits(union, bits);
                    s.store_partial(e, to);
                }
            } else {
                let mut pairs = to.chunks_exact_mut(S::LANES_OF_TWO);
                union = exp_of_pairs(
                    s,
                    pairs.by_ref(),
                    #[inline(always)]
                    |x, at| s.load(x, at),
                    #[inline(always)]
                    |to, at, e| s.store(e, to, at),
                );
                for to in pairs.into_remainder().chunks_mut(S::LANES) {
                    let (e, bits) = exp_in_range(s, s.load_partial(to, 0.0));
                    union = s.or_bits(union, bits);
                    s.store_partial(e, to);
                }
            }
            all_in_range(s, union)
        },
    )
}

/// Exponentials of pairs of vectors; returns the OR of their bits, as [`all_in_range`] takes it.
#[inline(always)]
fn exp_of_pairs<S: Vector, P>(
    s: S,
    mut pairs: impl Iterator<Item = P>,
    load: impl Fn(&P, usize) -> S::F,
    mut store: impl FnMut(&mut P, usize, S::F),
) -> S::U {
    let mut union = s.splat_bits(0);
    if const { !is_pipelined::<S>() } {
        while let Some(mut pair) = pairs.next() {
            let current = [reduce_range(s, load(&pair, 0)), reduce_range(s, load(&pair, S::LANES))];
            let next = pairs.next();
            if let Some(mut next) = next {
                let ahead = [reduce_range(s, load(&next, 0)), reduce_range(s, load(&next, S::LANES))];
                let ([a, b], [c, d]) =
                    (reconstruct_both(s, current, &mut union), reconstruct_both(s, ahead, &mut union));
                store(&mut pair, 0, a);
                store(&mut pair, S::LANES, b);
                store(&mut next, 0, c);
                store(&mut next, S::LANES, d);
            } else {
                let [a, b] = reconstruct_both(s, current, &mut union);
                store(&mut pair, 0, a);
                store(&mut pair, S::LANES, b);
            }
        }
        return union;
    }
    let Some(mut pair) = pairs.next() else { return union };
    let mut current = [reduce_range(s, load(&pair, 0)), reduce_range(s, load(&pair, S::LANES))];
    for next in pairs {
        let ahead = [reduce_range(s, load(&next, 0)), reduce_range(s, load(&next, S::LANES))];
        let [a, b] = reconstruct_both(s, current, &mut union);
        store(&mut pair, 0, a);
        store(&mut pair, S::LANES, b);
        (pair, current) = (next, ahead);
    }
    let [a, b] = reconstruct_both(s, current, &mut union);
    store(&mut pair, 0, a);
    store(&mut pair, S::LANES, b);
    union
}

/// Whether to pipeline: range reduction of two vectors beside the polynomials of the two before, for dependency chains
/// half as long, twice as many in flight. On NEON, bound by its two pipes, copying registers from one iteration to the
/// next would be a twelfth of all operations; its registers hold four vectors at once instead.
const fn is_pipelined<S: Vector>() -> bool {
    S::LANES > 4 || !S::FUSED
}

#[inline(always)]
fn reconstruct_both<S: Vector>(s: S, [a, b]: [(S::F, S::U); 2], union: &mut S::U) -> [S::F; 2] {
    let bias = s.splat_bits(BIASED_ROUND);
    *union = s.or_bits(*union, s.or_bits(s.sub_bits(a.1, bias), s.sub_bits(b.1, bias)));
    [reconstruct(s, a), reconstruct(s, b)]
}

/// e^(x + low) for a double-float with |x| ≤ 87.
#[inline(always)]
pub(crate) fn exp_of_pair<S: Vector>(s: S, x: S::F, low: S::F) -> S::F {
    let round = s.splat(ROUND);
    let t = s.mul_add(x, s.splat(LOG2_E), round);
    let k = s.sub(t, round);
    let f = s.add(s.mul_add(k, s.splat(-LN2_HI), x), s.mul_add(k, s.splat(-LN2_LO), low));
    s.of_bits(s.add_bits(s.to_bits(exp_reduced(s, f)), s.shift_left::<23>(s.to_bits(t))))
}

/// e^(x + low) = 2ᵏ·(1 + f + rest), for callers that add the parts in f64.
pub(crate) struct ExpInParts<F> {
    pub(crate) f: F,
    pub(crate) rest: F,
    pub(crate) k: F,
    /// 2ᵏ, if that is a normal f32.
    pub(crate) power: F,
}

impl<F: Copy> ExpInParts<F> {
    #[inline(always)]
    pub(crate) fn new<S: Vector<F = F>>(s: S, x: F, low: F) -> Self {
        let round = s.splat(ROUND + EXPONENT_BIAS);
        let t = s.mul_add(x, s.splat(LOG2_E), round);
        let k = s.sub(t, round);
        let (high, low) = (s.mul_add(k, s.splat(-LN2_HI), x), s.mul_add(k, s.splat(-LN2_LO), low));
        let f = s.add(high, low);
        let lost = s.add(s.sub(high, f), low);
        let rest = s.mul_add(s.mul(f, f), exp_rest(s, f), lost);
        Self { f, rest, k, power: s.of_bits(s.shift_left::<23>(s.to_bits(t))) }
    }
}

/// The reference of the exponentials of a row: exp(x − shift)·2^power.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    pub(crate) shift: f32,
    /// An integer, |power| ≤ 855; an odd one rounds ties of x·log2 e as the fast way does, to the same mantissas.
    pub(crate) power: f32,
}

impl Reference {
    /// Brings the exponential of the largest logit of a row into [1, 4].
    #[inline(always)]
    pub(crate) fn new(largest: f32) -> Self {
        let is_near = largest.abs() < FAR;
        let half = (largest * (0.5 * LOG2_E) + ROUND) - ROUND;
        let shift = if is_near | (largest == f32::NEG_INFINITY) { 0.0 } else { largest };
        Self { shift, power: if is_near { 1.0 - 2.0 * half } else { 1.0 } }
    }
}

/// exp(x − shift)·2^power for one [`Reference`].
///
/// Results below about 2⁻¹²⁶ become 0, above 2^127.5 they become +∞; −∞ gives 0, NaN gives NaN. Otherwise within 1 ulp.
#[derive(Clone, Copy)]
pub(crate) struct Exp<F> {
    shift: F,
    round: F,
    floor: F,
    ceiling: F,
}

impl<F: Copy> Exp<F> {
    #[inline(always)]
    pub(crate) fn new<S: Vector<F = F>>(s: S, of: Reference) -> Self {
        Self::of_lanes(s, s.splat(of.shift), s.splat(of.power))
    }

    /// A reference for each lane.
    #[inline(always)]
    pub(crate) fn of_lanes<S: Vector<F = F>>(s: S, shift: F, power: F) -> Self {
        // At the floor the exponent field of 2ᵏ is all zeros, at the ceiling all ones: 2ᵏ reads as 0 and as ∞.
        let ln_2 = s.splat(core::f32::consts::LN_2);
        let (floor, ceiling) = (s.sub(s.splat(LOWEST), power), s.sub(s.splat(HIGHEST), power));
        let round = s.add(s.add(power, s.splat(EXPONENT_BIAS)), s.splat(ROUND));
        Self { shift, round, floor: s.mul(floor, ln_2), ceiling: s.mul(ceiling, ln_2) }
    }

    #[inline(always)]
    pub(crate) fn of<S: Vector<F = F>>(&self, s: S, x: F) -> F {
        let (mantissa, power) = self.in_parts(s, self.clamped(s, x));
        s.mul(mantissa, power)
    }

    /// `mantissa`·exp(x − shift)·2^power, with one more rounding; |`mantissa`| in [√½, 4·√2].
    #[inline(always)]
    pub(crate) fn times<S: Vector<F = F>>(&self, s: S, x: F, mantissa: F) -> F {
        let (of_x, power) = self.in_parts(s, self.clamped(s, x));
        s.mul(s.mul(of_x, mantissa), power)
    }

    #[inline(always)]
    fn clamped<S: Vector<F = F>>(&self, s: S, x: F) -> F {
        s.at_most(s.at_least(s.sub(x, self.shift), self.floor), self.ceiling)
    }

    #[inline(always)]
    fn in_parts<S: Vector<F = F>>(&self, s: S, x: F) -> (F, F) {
        let t = s.mul_add(x, s.splat(LOG2_E), self.round);
        let k = s.sub(t, self.round);
        let power = s.of_bits(s.shift_left::<23>(s.to_bits(t)));
        (exp_reduced(s, reduced(s, x, k)), power)
    }
}

impl Exp<f32> {
    /// exp(x − shift)·2^power below 2¹²⁷ as mantissa and power of two; `None` where it underflows to 0.
    #[inline(always)]
    pub(crate) fn term<S: OneLane>(&self, s: S, x: f32) -> Option<(f32, f32)> {
        let x = x - self.shift;
        if x < self.floor { None } else { Some(self.in_parts(s, x)) }
    }
}
