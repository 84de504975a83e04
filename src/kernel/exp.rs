//! exp of logits, in f32.
//!
//! x = k·(ln 2/n) + f with |f| ≤ ln 2/(2·n) (a hair more after rounding), so eˣ = 2^(k/n)·eᶠ. Where multiply-add is fused
//! n is 8: 2^(k/8) is 2^⌊k/8⌋ times one of eight numbers, looked up within a vector, and eᶠ a cubic polynomial. Elsewhere n
//! is 1, and eᶠ a polynomial of degree 6.
//!
//! A reference, which keeps the exponentials of a row in range, is an integer added to k/n: it changes exponents alone,
//! and a row has the same mantissas with any. Only from [`FAR`] on is it subtracted from the logits.

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
/// The exponent bias of f32.
const EXPONENT_BIAS: f32 = 127.0;

/// How logits are reduced to f.
struct Reduction {
    /// n, a power of two.
    steps: u32,
    /// ln 2/n in two parts. Where the product with k is rounded, the first has few bits.
    high: f32,
    low: f32,
    /// Clamp limits of x·log2 e, inside the last values for which the exponent field of 2^⌊k/n⌋ is all zeros (the power
    /// reads as 0), and all ones (as ∞), so that directed rounding cannot step past them.
    lowest: f32,
    highest: f32,
}

const fn reduction<S: Vector>() -> Reduction {
    if S::FUSED {
        const LN2_8: f64 = core::f64::consts::LN_2 / 8.0;
        let low = (LN2_8 - LN2_8 as f32 as f64) as f32;
        Reduction { steps: 8, high: LN2_8 as f32, low, lowest: -126.75, highest: 128.25 }
    } else {
        Reduction { steps: 1, high: LN2_HI, low: LN2_LO, lowest: -126.75, highest: 127.75 }
    }
}

impl Reduction {
    /// n·log2 e
    const fn rate(&self) -> f32 {
        self.steps as f32 * LOG2_E
    }

    /// Subtracted from the bits of k + [`ROUND`], leaves the integer k + n·[`FAST_BIAS`].
    const fn biased_round(&self) -> u32 {
        ROUND.to_bits().wrapping_sub(self.steps.wrapping_mul(FAST_BIAS))
    }
}

/// The bits of c·2^(j/8), less j·2²⁰: k·2²⁰ is ⌊k/8⌋·2²³ + j·2²⁰ for j = k mod 8, so that their sum has the bits of
/// c·2^(k/8). With this c, 0.999827, each number is within 0.08 ulp of an f32 (`benches/exp_coefficients.rs`).
const TABLE: [u32; 8] = {
    let bits =
        [0x3f7f_f4a7, 0x3f8b_8f92, 0x3f98_3131, 0x3fa5_f77b, 0x3fb4_fced, 0x3fc5_5e6a, 0x3fd7_3b72, 0x3fea_b65f_u32];
    let [a, b, c, d, e, f, g, h] = bits;
    const STEP: u32 = 1 << 20;
    [a, b - STEP, c - 2 * STEP, d - 3 * STEP, e - 4 * STEP, f - 5 * STEP, g - 6 * STEP, h - 7 * STEP]
};

/// eᶠ/c − 1 for |f| ≤ 0.0434. With its coefficients the largest error of exp with all rounding is 0.85 ulp, and e⁰ is 1
/// (`benches/exp_coefficients.rs`).
#[inline(always)]
fn cubic<S: Vector>(s: S, f: S::F) -> S::F {
    let c = |bits| s.splat(f32::from_bits(bits));
    let p = s.mul_add(c(0x3e2a_b189), f, c(0x3f00_0aec));
    s.mul_add(s.mul_add(p, f, c(0x3f80_05ad)), f, c(0x3935_927b))
}

/// (eᶠ − 1 − f)/f² for |f| ≤ 0.3469. With its coefficients the largest error of exp, unfused, with all rounding is 0.97
/// ulp (`benches/exp_coefficients.rs`).
#[inline(always)]
pub(crate) fn exp_rest<S: Vector>(s: S, f: S::F) -> S::F {
    let c = |bits| s.splat(f32::from_bits(bits));
    let p = c(0x3ab5_257e);
    let p = s.mul_add(p, f, c(0x3c09_1f03));
    let p = s.mul_add(p, f, c(0x3d2a_abdb));
    let p = s.mul_add(p, f, c(0x3e2a_aa46));
    s.mul_add(p, f, c(0x3f00_0000))
}

/// 2^(k/n)·eᶠ as a mantissa and a power of two, from f and the bits of k; the exponent field of the power is ⌊k/n⌋.
#[inline(always)]
fn reconstruct_in_parts<S: Vector>(s: S, (f, bits): (S::F, S::U)) -> (S::F, S::F) {
    if S::FUSED {
        let bits_of_k = s.shift_left::<20>(bits);
        let power = s.and_bits(bits_of_k, s.splat_bits(f32::INFINITY.to_bits()));
        let of_table = s.of_bits(s.add_bits(s.lookup(&TABLE, bits), s.sub_bits(bits_of_k, power)));
        (s.mul_add(cubic(s, f), of_table, of_table), s.of_bits(power))
    } else {
        // The 1 is added last, so that all earlier rounding is of small values.
        let mantissa = s.add(s.mul_add(s.mul(f, f), exp_rest(s, f), f), s.splat(1.0));
        (mantissa, s.of_bits(s.shift_left::<23>(bits)))
    }
}

/// 2^(k/n)·eᶠ, a normal f32, from what [`reduce_range`] returns.
#[inline(always)]
fn reconstruct<S: Vector>(s: S, (f, bits): (S::F, S::U)) -> S::F {
    if S::FUSED {
        let scale = s.of_bits(s.add_bits(s.lookup(&TABLE, bits), s.shift_left::<20>(bits)));
        s.mul_add(cubic(s, f), scale, scale)
    } else {
        let (mantissa, power) = reconstruct_in_parts(s, (f, bits));
        s.of_bits(s.add_bits(s.to_bits(mantissa), s.to_bits(power)))
    }
}

/// Range reduction of x + low: f, and the bits of k + `round`. `round` is [`ROUND`] plus an even multiple of n.
#[inline(always)]
fn reduce<S: Vector>(s: S, x: S::F, round: S::F, low: Option<S::F>) -> (S::F, S::U) {
    let of = const { reduction::<S>() };
    let t = s.mul_add(x, s.splat(of.rate()), round);
    let k = s.sub(t, round);
    let f = s.mul_add(k, s.splat(-of.high), x);
    let f = match low {
        Some(low) => s.add(f, s.mul_add(k, s.splat(-of.low), low)),
        None => s.mul_add(k, s.splat(-of.low), f),
    };
    (f, s.to_bits(t))
}

/// Range reduction: f, and the bits of k + [`ROUND`].
#[inline(always)]
fn reduce_range<S: Vector>(s: S, x: S::F) -> (S::F, S::U) {
    reduce(s, x, s.splat(ROUND), None)
}

/// eˣ of a logit in range, and the bits of k + n·[`FAST_BIAS`], which is in [0, 128·n) exactly where x is in range.
#[inline(always)]
pub(crate) fn exp_in_range<S: Vector>(s: S, x: S::F) -> (S::F, S::U) {
    let current = reduce_range(s, x);
    (reconstruct(s, current), s.sub_bits(current.1, s.splat_bits(const { reduction::<S>().biased_round() })))
}

/// 1 in each lane whose logit is in range, else 0.
#[inline(always)]
pub(crate) fn lanes_in_range<S: Vector>(s: S, x: S::F) -> S::F {
    let (round, of) = (s.splat(ROUND), const { reduction::<S>() });
    let k = s.sub(s.mul_add(x, s.splat(of.rate()), round), round);
    // Of NaN no comparison is true.
    let (least, beyond, steps) = (-(FAST_BIAS as f32), 128.0 - FAST_BIAS as f32, of.steps as f32);
    let below = s.select(s.less(k, s.splat(steps * beyond)), s.splat(1.0), s.splat(0.0));
    s.select(s.less(s.splat(steps * least - 1.0), k), below, s.splat(0.0))
}

#[cfg(test)]
std::thread_local! {
    /// Makes [`all_in_range`] false, so that all rows go the general way.
    pub(crate) static GENERAL_WAY_ONLY: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// Whether all logits were in range, from `union`, the OR of their bits of [`exp_in_range`].
#[inline(always)]
pub(crate) fn all_in_range<S: Vector>(s: S, union: S::U) -> bool {
    #[cfg(test)]
    if GENERAL_WAY_ONLY.get() {
        return false;
    }
    !s.any_bit(s.and_bits(union, s.splat_bits(const { !(128 * reduction::<S>().steps - 1) })))
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
    let bias = s.splat_bits(const { reduction::<S>().biased_round() });
    *union = s.or_bits(*union, s.or_bits(s.sub_bits(a.1, bias), s.sub_bits(b.1, bias)));
    [reconstruct(s, a), reconstruct(s, b)]
}

/// e^(x + low) for a double-float with |x| ≤ 87.
#[inline(always)]
pub(crate) fn exp_of_pair<S: Vector>(s: S, x: S::F, low: S::F) -> S::F {
    reconstruct(s, reduce(s, x, s.splat(ROUND), Some(low)))
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
        let (ln_2, of) = (s.splat(core::f32::consts::LN_2), const { reduction::<S>() });
        let (floor, ceiling) = (s.sub(s.splat(of.lowest), power), s.sub(s.splat(of.highest), power));
        let round = s.mul_add(s.add(power, s.splat(EXPONENT_BIAS)), s.splat(of.steps as f32), s.splat(ROUND));
        Self { shift, round, floor: s.mul(floor, ln_2), ceiling: s.mul(ceiling, ln_2) }
    }

    #[inline(always)]
    pub(crate) fn of<S: Vector<F = F>>(&self, s: S, x: F) -> F {
        let (mantissa, power) = self.in_parts(s, self.clamped(s, x));
        s.mul(mantissa, power)
    }

    /// `mantissa`·exp(x − shift)·2^power, with one more rounding; |`mantissa`| in [½, 1].
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
        reconstruct_in_parts(s, reduce(s, x, self.round, None))
    }
}

impl Exp<f32> {
    /// exp(x − shift)·2^power, if below 2¹²⁷; `None` below 2⁻¹²³, where it may not be a normal f32.
    #[inline(always)]
    pub(crate) fn term<S: OneLane>(&self, s: S, x: f32) -> Option<f32> {
        let x = x - self.shift;
        if x < self.floor + 2.5 {
            return None;
        }
        let (f, bits) = reduce(s, x, self.round, None);
        if S::FUSED {
            let bias = const { reduction::<S>().steps.wrapping_mul(EXPONENT_BIAS as u32) };
            return Some(reconstruct(s, (f, bits.wrapping_sub(bias))));
        }
        // A product keeps NaN, which a sum of bits would not.
        let (mantissa, power) = reconstruct_in_parts(s, (f, bits));
        Some(mantissa * power)
    }
}
