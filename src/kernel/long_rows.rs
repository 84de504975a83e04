//! One row, lanes along it.

use super::exp::{Exp, Factors, Reference, Scale, Seen, refined};
use super::pair::{Pair, fast_two_sum, two_sum};
use super::{BLOCK, DEPTH, VIRTUAL_LANES, part};
use crate::backend::vector::{Operation, Vector};

/// The terms of a row are added times 2^`HEADROOM`, so that a sum of 2¹⁷ terms that are each below the smallest normal
/// f32 still counts. Rows that overflow for that (a term above e⁵⁸) are computed from their largest logit.
pub(crate) const HEADROOM: f32 = 44.0;
/// 2^−`HEADROOM`
pub(crate) const UNDO_HEADROOM: f32 = f32::from_bits((127 - 44) << 23);
/// 2^`HEADROOM`
pub(crate) const APPLY_HEADROOM: f32 = f32::from_bits((127 + 44) << 23);

/// Σ exp(xₖ − shift)·2^power over k ≠ `skip`, to be [`refined`].
///
/// A function of its own on each backend: inlined wherever a row is summed it would be compiled a dozen times.
pub(crate) struct ExcludedSum<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) skip: usize,
    pub(crate) scale: Scale,
}

impl Operation for ExcludedSum<'_> {
    type Output = Pair<f32>;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Pair<f32> {
        let zero = s.splat(0.0);
        let groups = VIRTUAL_LANES / S::LANES;
        let mut total = [Pair { hi: zero, lo: zero }; VIRTUAL_LANES];
        let term = Exp::new(s, self.scale);
        let skip_block = self.skip / BLOCK;
        for (index, block) in self.row.chunks(BLOCK).enumerate() {
            // The block with the reference is one of many, as is the last: only they pay for the search and the end.
            let skip = if index == skip_block { self.skip % BLOCK } else { NONE };
            let whole = if skip == NONE { block.first_chunk::<BLOCK>() } else { None };
            for (group, total) in total.iter_mut().take(groups).enumerate() {
                let column = Column { block, at: group * S::LANES, skip, scale: self.scale, term: &term };
                let sum = match whole {
                    Some(block) => column.sum_of_whole(s, block),
                    None => column.sum(s),
                };
                *total = accumulate(s, *total, sum);
            }
        }
        across_lanes(s, &total)
    }
}

/// No element is skipped.
const NONE: usize = BLOCK;

/// The vectors of a block that belong to the same virtual lanes: `at`, `at + VIRTUAL_LANES`, …
struct Column<'a, F> {
    /// A block, or the end of a row, shorter than one.
    block: &'a [f32],
    at: usize,
    /// The reference class, in the block, or `NONE`.
    skip: usize,
    scale: Scale,
    term: &'a Exp<F>,
}

impl<F: Copy> Column<'_, F> {
    /// The sum of a column of a whole block without the reference: no branch, one straight run of instructions.
    #[inline(always)]
    fn sum_of_whole<S: Vector<F = F>>(&self, s: S, block: &[f32; BLOCK]) -> F {
        if self.scale.is_near() {
            let (sum, in_range) = tree(
                s,
                #[inline(always)]
                |j| Some(self.term.term(s, s.load(block, self.at + j * VIRTUAL_LANES))),
            );
            if in_range {
                return sum;
            }
        }
        self.sum_of_any(s)
    }

    #[inline(always)]
    fn sum<S: Vector<F = F>>(&self, s: S) -> F {
        if self.scale.is_near() {
            // The missing elements get the largest logit whose exponential is 0.
            let (sum, in_range) = tree(
                s,
                #[inline(always)]
                |j| {
                    let at = self.at + j * VIRTUAL_LANES;
                    if at >= self.block.len() {
                        return None;
                    }
                    let x = load_padded(s, self.block, at, self.scale.logit_of_zero());
                    Some(without_reference(s, self.skip, at, self.term.term(s, x)))
                },
            );
            if in_range {
                return sum;
            }
        }
        self.sum_of_any(s)
    }

    #[inline(always)]
    fn sum_of_any<S: Vector<F = F>>(&self, s: S) -> F {
        let Self { block, at, skip, scale, .. } = *self;
        s.load(&s.run(AnyLogits { block, at, skip, scale }), 0)
    }
}

/// The sum of a column whatever its logits: far from zero, −∞, NaN, out of range. A function of its own, since few
/// rows need it.
struct AnyLogits<'a> {
    block: &'a [f32],
    at: usize,
    skip: usize,
    scale: Scale,
}

impl Operation for AnyLogits<'_> {
    type Output = [f32; VIRTUAL_LANES];

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Self::Output {
        let term = Exp::new(s, self.scale);
        let (sum, _) = tree(
            s,
            #[inline(always)]
            |j| {
                let at = self.at + j * VIRTUAL_LANES;
                if at >= self.block.len() {
                    return None;
                }
                let x = load_padded(s, self.block, at, f32::NEG_INFINITY);
                Some(without_reference(s, self.skip, at, term.term(s, term.clamped(s, x))))
            },
        );
        let mut lanes = [0.0; VIRTUAL_LANES];
        s.store(sum, &mut lanes, 0);
        lanes
    }
}

/// The sum of up to `DEPTH` vectors of terms, in pairs of pairs of pairs, and whether all of them were in range. A
/// product joins its neighbour in a multiply-add.
#[inline(always)]
fn tree<S: Vector>(s: S, term: impl Fn(usize) -> Option<Factors<S>>) -> (S::F, bool) {
    const { assert!(DEPTH == 16) }
    let low = join(s, quarter(s, &term, 0), quarter(s, &term, 4));
    let high = join(s, quarter(s, &term, 8), quarter(s, &term, 12));
    match join(s, low, high) {
        Some((sum, seen)) => (sum, seen.all_in_range(s)),
        None => (s.splat(0.0), true),
    }
}

#[inline(always)]
fn quarter<S: Vector>(s: S, term: &impl Fn(usize) -> Option<Factors<S>>, j: usize) -> Partial<S> {
    join(s, pair(s, term(j), term(j + 1)), pair(s, term(j + 2), term(j + 3)))
}

#[inline(always)]
fn pair<S: Vector>(s: S, a: Option<Factors<S>>, b: Option<Factors<S>>) -> Partial<S> {
    let a = a?;
    let first = s.mul(a.mantissa, a.power);
    Some(match b {
        Some(b) => (s.mul_add(b.mantissa, b.power, first), Seen::in_one(&a).and(s, Seen::in_one(&b))),
        None => (first, Seen::in_one(&a)),
    })
}

type Partial<S> = Option<(<S as Vector>::F, Seen<<S as Vector>::U>)>;

#[inline(always)]
fn join<S: Vector>(s: S, a: Partial<S>, b: Partial<S>) -> Partial<S> {
    match (a, b) {
        (Some(a), Some(b)) => Some((s.add(a.0, b.0), a.1.and(s, b.1))),
        (a, b) => a.or(b),
    }
}

/// `row[at..at + LANES]`, with `missing` past the end.
#[inline(always)]
pub(super) fn load_padded<S: Vector>(s: S, row: &[f32], at: usize, missing: f32) -> S::F {
    if at + S::LANES <= row.len() {
        return s.load(row, at);
    }
    let mut padded = [missing; VIRTUAL_LANES];
    for (to, from) in padded.iter_mut().zip(part(row, at, row.len().saturating_sub(at))) {
        *to = *from;
    }
    s.load(&padded, 0)
}

/// Sets the term of the reference class to 0, where it is among those from `at` on. A branch that nearly all vectors
/// take costs less than a comparison in each.
#[inline(always)]
fn without_reference<S: Vector>(s: S, skip: usize, at: usize, term: Factors<S>) -> Factors<S> {
    let lane = skip.wrapping_sub(at);
    if lane >= S::LANES {
        return term;
    }
    let mut keep = [1.0; VIRTUAL_LANES];
    if let Some(lane) = keep.get_mut(lane) {
        *lane = 0.0;
    }
    let keep = s.equal(s.load(&keep, 0), s.splat(1.0));
    Factors { power: s.select(keep, term.power, s.splat(0.0)), ..term }
}

/// Adds a block to what came before it; only the tree inside the block rounds.
#[inline(always)]
pub(super) fn accumulate<S: Vector>(s: S, total: Pair<S::F>, sum: S::F) -> Pair<S::F> {
    let exact = two_sum(s, total.hi, sum);
    Pair { hi: exact.hi, lo: s.add(total.lo, exact.lo) }
}

/// The sum over the virtual lanes, halving their number until one is left.
#[inline(always)]
pub(super) fn across_lanes<S: Vector>(s: S, total: &[Pair<S::F>; VIRTUAL_LANES]) -> Pair<f32> {
    let mut hi = [0.0; VIRTUAL_LANES];
    let mut lo = [0.0; VIRTUAL_LANES];
    for (group, pair) in total.iter().take(VIRTUAL_LANES / S::LANES).enumerate() {
        s.store(pair.hi, &mut hi, group * S::LANES);
        s.store(pair.lo, &mut lo, group * S::LANES);
    }
    let (hi8, lo8) = halve::<16, 8>(hi, lo);
    let (hi4, lo4) = halve::<8, 4>(hi8, lo8);
    let (hi2, lo2) = halve::<4, 2>(hi4, lo4);
    let ([hi], [lo]) = halve::<2, 1>(hi2, lo2);
    let hi_sum = hi + lo;
    Pair { hi: hi_sum, lo: lo - (hi_sum - hi) }
}

/// Adds the upper half of the lanes to the lower. A loop over plain numbers, which the compiler turns into vectors.
#[inline(always)]
fn halve<const N: usize, const HALF: usize>(hi: [f32; N], lo: [f32; N]) -> ([f32; HALF], [f32; HALF]) {
    let mut sum = [0.0; HALF];
    let mut rest = [0.0; HALF];
    for i in 0..HALF {
        let (a, b) = (hi[i], hi[i + HALF]);
        let total = a + b;
        let b_rounded = total - a;
        let a_rounded = total - b_rounded;
        sum[i] = total;
        rest[i] = ((a - a_rounded) + (b - b_rounded)) + (lo[i] + lo[i + HALF]);
    }
    (sum, rest)
}

/// The largest element of a row, and whether any is NaN.
#[inline(always)]
pub(crate) fn maximum(row: &[f32]) -> (f32, bool) {
    // Plain loops over virtual lanes, which the compiler turns into vectors.
    let mut largest = [f32::NEG_INFINITY; VIRTUAL_LANES];
    let mut any_nan = [false; VIRTUAL_LANES];
    let mut take = |values: &[f32]| {
        for ((largest, nan), &x) in largest.iter_mut().zip(&mut any_nan).zip(values) {
            *largest = if x > *largest { x } else { *largest };
            *nan |= x.is_nan();
        }
    };
    let (chunks, tail) = row.as_chunks::<VIRTUAL_LANES>();
    for chunk in chunks {
        take(chunk);
    }
    take(tail);
    let largest = largest.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    (largest, any_nan.iter().any(|&nan| nan))
}

/// The index of the first element that equals `value`.
#[inline(always)]
pub(crate) fn position(row: &[f32], value: f32) -> Option<usize> {
    // Whole blocks are searched without a branch an element.
    let holds = |block: &[f32]| block.iter().fold(false, |found, &x| found | (x == value));
    let block = row.chunks(BLOCK).position(holds)? * BLOCK;
    let rest = part(row, block, row.len().saturating_sub(block));
    rest.iter().position(|&x| x == value).map(|index| block + index)
}

/// Σ_{k≠r} exp(x_k − x_r)·2^`headroom` of a row whose reference r has this logit, and what is needed to compute
/// exp(x − x_r) again.
#[inline(always)]
pub(crate) fn excluded_sum<S: Vector>(
    s: S,
    row: &[f32],
    reference: usize,
    logit: f32,
    headroom: f32,
) -> (Pair<S::F>, Reference<S::F>) {
    let skip = reference;
    let reference = Reference::new(s, s.splat(logit));
    let scale = Scale { shift: first(s, reference.shift), power: headroom - first(s, reference.exponent) };
    let sum = s.run(ExcludedSum { row, skip, scale });
    let sum = refined(s, Pair { hi: s.splat(sum.hi), lo: s.splat(sum.lo) }, reference.exponent, headroom);
    (super::pair::product(s, sum, reference.rest), reference)
}

/// The number in the first lane.
#[inline(always)]
pub(crate) fn first<S: Vector>(s: S, values: S::F) -> f32 {
    let mut lanes = [0.0; VIRTUAL_LANES];
    s.store(values, &mut lanes, 0);
    lanes[0]
}

/// log Σ exp(xₖ) of one row.
pub(crate) struct LogSumExp<'a>(pub(crate) &'a [f32]);

impl Operation for LogSumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> f32 {
        let (largest, any_nan) = maximum(self.0);
        if any_nan {
            return f32::NAN;
        }
        let Some(index) = position(self.0, largest).filter(|_| largest.is_finite()) else {
            // All −∞ (or no element), or some +∞.
            return largest;
        };
        let (sum, _) = excluded_sum(s, self.0, index, largest, HEADROOM);
        let log = super::log1p::log1p(s, super::pair::scaled(s, sum, UNDO_HEADROOM));
        let total = two_sum(s, s.splat(largest), log.hi);
        let total = fast_two_sum(s, total.hi, s.add(total.lo, log.lo));
        first(s, total.hi)
    }
}
