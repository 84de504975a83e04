//! One row, lanes along it.

use super::exp::Exp;
use super::pair::{Pair, fast_two_sum, two_sum};
use super::{BLOCK, DEPTH, VIRTUAL_LANES, part};
use crate::backend::vector::Vector;

/// The terms of a row are added times 2^`HEADROOM`, so that a sum of 2¹⁷ terms that are each below the smallest normal
/// f32 still counts. Rows that overflow for that (a term above e⁵⁸) are computed from their largest logit.
pub(crate) const HEADROOM: f32 = 44.0;
/// 2^−`HEADROOM`
pub(crate) const UNDO_HEADROOM: f32 = f32::from_bits((127 - 44) << 23);
/// 2^`HEADROOM`
pub(crate) const APPLY_HEADROOM: f32 = f32::from_bits((127 + 44) << 23);

/// Σ `term(xₖ)` over k ≠ `skip`.
#[inline(always)]
pub(crate) fn excluded_sum<S: Vector>(s: S, row: &[f32], skip: usize, term: &Exp<S::F>) -> Pair<f32> {
    let zero = s.splat(0.0);
    let groups = VIRTUAL_LANES / S::LANES;
    let mut total = [Pair { hi: zero, lo: zero }; VIRTUAL_LANES];
    let (blocks, tail) = row.as_chunks::<BLOCK>();
    let skip_block = skip / BLOCK;
    for (index, block) in blocks.iter().enumerate() {
        // The block with the reference is one of many: only it pays for the comparison.
        if index == skip_block {
            let skipped = Skip::new(s, skip % BLOCK);
            for (group, total) in total.iter_mut().take(groups).enumerate() {
                let sum = tree(
                    s,
                    #[inline(always)]
                    |j| {
                        let at = j * VIRTUAL_LANES + group * S::LANES;
                        skipped.clear(s, at, term.of(s, s.load(block, at)))
                    },
                );
                *total = accumulate(s, *total, sum);
            }
        } else {
            for (group, total) in total.iter_mut().take(groups).enumerate() {
                let sum = tree(
                    s,
                    #[inline(always)]
                    |j| term.of(s, s.load(block, j * VIRTUAL_LANES + group * S::LANES)),
                );
                *total = accumulate(s, *total, sum);
            }
        }
    }
    if !tail.is_empty() {
        let skipped = Skip::new(s, if skip_block == blocks.len() { skip % BLOCK } else { BLOCK });
        for (group, total) in total.iter_mut().take(groups).enumerate() {
            let sum = tree(
                s,
                #[inline(always)]
                |j| {
                    let at = j * VIRTUAL_LANES + group * S::LANES;
                    if at >= tail.len() {
                        return zero;
                    }
                    skipped.clear(s, at, term.of(s, load_padded(s, tail, at)))
                },
            );
            *total = accumulate(s, *total, sum);
        }
    }
    across_lanes(s, &total)
}

/// `row[at..at + LANES]`, with −∞ past the end.
#[inline(always)]
fn load_padded<S: Vector>(s: S, row: &[f32], at: usize) -> S::F {
    if at + S::LANES <= row.len() {
        return s.load(row, at);
    }
    let mut padded = [f32::NEG_INFINITY; VIRTUAL_LANES];
    for (to, from) in padded.iter_mut().zip(part(row, at, row.len().saturating_sub(at))) {
        *to = *from;
    }
    s.load(&padded, 0)
}

/// Sets the term of the reference class to 0.
struct Skip<F> {
    lane: F,
    index: F,
}

impl<F: Copy> Skip<F> {
    #[inline(always)]
    fn new<S: Vector<F = F>>(s: S, index_in_block: usize) -> Self {
        const LANES: [f32; VIRTUAL_LANES] =
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        Self { lane: s.load(&LANES, 0), index: s.splat(index_in_block as f32) }
    }

    #[inline(always)]
    fn clear<S: Vector<F = F>>(&self, s: S, at: usize, term: F) -> F {
        let lane = s.add(self.lane, s.splat(at as f32));
        s.select(s.equal(lane, self.index), s.splat(0.0), term)
    }
}

/// The sum of `DEPTH` vectors, in pairs of pairs of pairs.
#[inline(always)]
fn tree<S: Vector>(s: S, mut term: impl FnMut(usize) -> S::F) -> S::F {
    const { assert!(DEPTH == 8) }
    let a = s.add(term(0), term(1));
    let b = s.add(term(2), term(3));
    let ab = s.add(a, b);
    let c = s.add(term(4), term(5));
    let d = s.add(term(6), term(7));
    s.add(ab, s.add(c, d))
}

/// Adds a block to what came before it; only the tree inside the block rounds.
#[inline(always)]
fn accumulate<S: Vector>(s: S, total: Pair<S::F>, sum: S::F) -> Pair<S::F> {
    let exact = two_sum(s, total.hi, sum);
    Pair { hi: exact.hi, lo: s.add(total.lo, exact.lo) }
}

/// The sum over the virtual lanes, halving their number until one is left.
#[inline(always)]
fn across_lanes<S: Vector>(s: S, total: &[Pair<S::F>; VIRTUAL_LANES]) -> Pair<f32> {
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

/// The excluded sum of a row whose largest logit `row[largest]` is finite: Σ exp(xₖ − x_largest) over the others, which
/// never overflows, and what is needed to compute exp(x − x_largest) again.
#[inline(always)]
pub(crate) fn sum_below_largest<S: Vector>(
    s: S,
    row: &[f32],
    largest: usize,
) -> (Pair<S::F>, super::exp::Reference<S::F>) {
    let logit = row.get(largest).copied().unwrap_or(0.0);
    let reference = super::exp::Reference::new(s, s.splat(logit));
    let (shift, exponent) = (first(s, reference.shift), first(s, reference.exponent));
    let sum = excluded_sum(s, row, largest, &Exp::new(s, shift, HEADROOM - exponent));
    let sum = Pair { hi: s.splat(sum.hi), lo: s.splat(sum.lo) };
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

impl crate::backend::vector::Operation for LogSumExp<'_> {
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
        let (sum, _) = sum_below_largest(s, self.0, index);
        let log = super::log1p::log1p(s, super::pair::scaled(s, sum, UNDO_HEADROOM));
        let total = two_sum(s, s.splat(largest), log.hi);
        let total = fast_two_sum(s, total.hi, s.add(total.lo, log.lo));
        first(s, total.hi)
    }
}
