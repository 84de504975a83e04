//! One row, lanes along it.

use super::exp::{Exp, Factors, Range, Reference, Scale, refined};
use super::one_row::{Elements, InOneLane, Order};
use super::pair::{Pair, fast_two_sum, two_sum};
use super::{BLOCK, DEPTH, VIRTUAL_LANES, copy, part};
use crate::backend::vector::{Operation, Vector};

/// The terms of a row are added times 2^`HEADROOM`, so that a sum of 2¹⁷ terms that are each below the smallest normal
/// f32 still counts. Rows that overflow for that (a term above e⁵⁸) are computed from their largest logit.
pub(crate) const HEADROOM: f32 = 44.0;
/// 2^−`HEADROOM`
pub(crate) const UNDO_HEADROOM: f32 = f32::from_bits((127 - 44) << 23);
/// 2^`HEADROOM`
pub(crate) const APPLY_HEADROOM: f32 = f32::from_bits((127 + 44) << 23);

/// Σ exp(xₖ − shift)·2^power over k ≠ `skip`, to be [`refined`]: one sum a virtual lane.
///
/// A function of its own on each backend: inlined wherever a row is summed it would be compiled a dozen times. Not for
/// vectors of one lane, for which there is [`InOneLane`].
pub(crate) struct ExcludedSum<'a> {
    /// The row, and what follows it in memory.
    pub(crate) from: &'a [f32],
    pub(crate) len: usize,
    pub(crate) skip: usize,
    pub(crate) scale: Scale,
}

/// A sum in each virtual lane.
#[derive(Clone, Copy)]
pub(crate) struct Lanes {
    pub(crate) hi: [f32; VIRTUAL_LANES],
    pub(crate) lo: [f32; VIRTUAL_LANES],
}

impl Operation for ExcludedSum<'_> {
    type Output = Lanes;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Lanes {
        let zero = s.splat(0.0);
        let mut total = [Pair { hi: zero, lo: zero }; VIRTUAL_LANES];
        let exp = Exp::new(s, self.scale);
        let missing = s.splat(self.scale.logit_of_zero());
        let term = Exponentials::<_, false> { exp, missing };
        let (blocks, skip_block) = (self.len / BLOCK, self.skip / BLOCK);
        for index in 0..blocks {
            let at = index * BLOCK;
            let Some(block) = self.from.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) else { break };
            // Only the block with the reference pays for the search.
            let piece = Piece { from: block, end: BLOCK, skip: self.skip.wrapping_sub(at) };
            let mut sums = [zero; VIRTUAL_LANES];
            let mut in_range = self.scale.is_near();
            if in_range {
                for (group, sum) in sums.iter_mut().enumerate().take(S::GROUPS) {
                    let (terms, seen) = if index == skip_block {
                        piece.whole::<S, true, false>(s, group * S::LANES, &term)
                    } else {
                        piece.whole::<S, false, false>(s, group * S::LANES, &term)
                    };
                    *sum = terms;
                    in_range &= seen.all_in_range(s);
                }
            }
            if !in_range {
                let lanes = s.run(AnyLogits { piece, vectors: DEPTH, scale: self.scale });
                for (group, sum) in sums.iter_mut().enumerate().take(S::GROUPS) {
                    *sum = s.load(&lanes, group * S::LANES);
                }
            }
            for (total, sum) in total.iter_mut().zip(sums).take(S::GROUPS) {
                *total = accumulate(s, *total, sum);
            }
        }
        // What is shorter than a block is added in quarters of one.
        let mut at = blocks * BLOCK;
        while at < self.len {
            let left = self.len - at;
            let from = self.from.get(at..).unwrap_or(&[]);
            let piece = Piece { from, end: left, skip: self.skip.wrapping_sub(at) };
            let vectors = left.div_ceil(VIRTUAL_LANES).min(QUARTER);
            let is_whole = left >= QUARTER * VIRTUAL_LANES;
            let mut sums = [zero; VIRTUAL_LANES];
            let mut in_range = self.scale.is_near();
            if in_range {
                for (group, sum) in sums.iter_mut().enumerate().take(S::GROUPS) {
                    let lane = group * S::LANES;
                    // Narrow vectors may have less to do than the widest.
                    let left = left.saturating_sub(lane);
                    let (terms, seen) = match left.div_ceil(VIRTUAL_LANES) {
                        0 => continue,
                        1 => piece.quarter::<S, 1, true, true, false>(s, lane, &term),
                        2 => piece.quarter::<S, 2, true, true, false>(s, lane, &term),
                        3 => piece.quarter::<S, 3, true, true, false>(s, lane, &term),
                        _ if is_whole => piece.quarter::<S, 4, true, false, false>(s, lane, &term),
                        _ => piece.quarter::<S, 4, true, true, false>(s, lane, &term),
                    };
                    *sum = terms;
                    in_range &= seen.all_in_range(s);
                }
            }
            if !in_range {
                let lanes = s.run(AnyLogits { piece, vectors, scale: self.scale });
                for (group, sum) in sums.iter_mut().enumerate().take(S::GROUPS) {
                    *sum = s.load(&lanes, group * S::LANES);
                }
            }
            for (total, sum) in total.iter_mut().zip(sums).take(S::GROUPS) {
                *total = if at == 0 { Pair { hi: sum, lo: zero } } else { accumulate(s, *total, sum) };
            }
            at += QUARTER * VIRTUAL_LANES;
        }
        let mut lanes = Lanes { hi: [0.0; VIRTUAL_LANES], lo: [0.0; VIRTUAL_LANES] };
        for (group, pair) in total.iter().enumerate().take(S::GROUPS) {
            s.store(pair.hi, &mut lanes.hi, group * S::LANES);
            s.store(pair.lo, &mut lanes.lo, group * S::LANES);
        }
        lanes
    }
}

/// The number of vectors of a quarter of a block.
pub(crate) const QUARTER: usize = DEPTH / 4;

/// 0, 1, 2, …
const INDEX: [f32; QUARTER * VIRTUAL_LANES] = {
    let mut index = [0.0; QUARTER * VIRTUAL_LANES];
    let mut i = 0;
    while i < index.len() {
        index[i] = i as f32;
        i += 1;
    }
    index
};

/// Up to a block of a row.
#[derive(Clone, Copy)]
struct Piece<'a> {
    /// It, and what follows in memory.
    from: &'a [f32],
    /// Where the row ends.
    end: usize,
    /// The reference class, which may be elsewhere.
    skip: usize,
}

/// The exponentials of a sum: of any logits with `CLAMP`, else of those in range, as [`Range`] tells of many at once.
struct Exponentials<F, const CLAMP: bool> {
    exp: Exp<F>,
    /// A logit whose exponential is 0.
    missing: F,
}

impl<F: Copy, const CLAMP: bool> Exponentials<F, CLAMP> {
    #[inline(always)]
    fn of<S: Vector<F = F>>(&self, s: S, x: F) -> Factors<S> {
        self.exp.term(s, if CLAMP { self.exp.clamped(s, x) } else { x })
    }
}

impl<'a> Piece<'a> {
    #[inline(always)]
    fn quarter_of(&self, index: usize) -> Piece<'a> {
        let at = index * QUARTER * VIRTUAL_LANES;
        let from = self.from.get(at..).unwrap_or(&[]);
        Piece { from, end: self.end, skip: self.skip.wrapping_sub(at) }
    }

    /// The sums of the virtual lanes from `lane` on, over a whole block.
    #[inline(always)]
    fn whole<S: Vector, const SKIP: bool, const CLAMP: bool>(
        &self,
        s: S,
        lane: usize,
        term: &Exponentials<S::F, CLAMP>,
    ) -> (S::F, Range<S::U>) {
        let low = join(
            s,
            self.quarter_of(0).quarter::<S, QUARTER, SKIP, false, CLAMP>(s, lane, term),
            self.quarter_of(1).quarter::<S, QUARTER, SKIP, false, CLAMP>(s, lane, term),
        );
        let high = join(
            s,
            self.quarter_of(2).quarter::<S, QUARTER, SKIP, false, CLAMP>(s, lane, term),
            self.quarter_of(3).quarter::<S, QUARTER, SKIP, false, CLAMP>(s, lane, term),
        );
        join(s, low, high)
    }

    /// The same over `N` vectors of each virtual lane, at most a quarter. With `SKIP` the reference may be among them,
    /// with `END` the row may end in the last of them.
    #[inline(always)]
    fn quarter<S: Vector, const N: usize, const SKIP: bool, const END: bool, const CLAMP: bool>(
        &self,
        s: S,
        lane: usize,
        term: &Exponentials<S::F, CLAMP>,
    ) -> (S::F, Range<S::U>) {
        let low = self.pair::<S, N, SKIP, END, CLAMP>(s, lane, 0, term);
        if N > 2 { join(s, low, self.pair::<S, N, SKIP, END, CLAMP>(s, lane, 2, term)) } else { low }
    }

    /// The sum of vector `j` and its neighbour, one product in the multiply-add of the other, or of the first alone.
    #[inline(always)]
    fn pair<S: Vector, const N: usize, const SKIP: bool, const END: bool, const CLAMP: bool>(
        &self,
        s: S,
        lane: usize,
        j: usize,
        term: &Exponentials<S::F, CLAMP>,
    ) -> (S::F, Range<S::U>) {
        let a = term.of(s, self.vector::<S, N, SKIP, END, CLAMP>(s, lane, j, term));
        let first = s.mul(a.mantissa, a.power);
        if j + 1 == N {
            return (first, Range::of_one(&a));
        }
        let b = term.of(s, self.vector::<S, N, SKIP, END, CLAMP>(s, lane, j + 1, term));
        (s.mul_add(b.mantissa, b.power, first), Range::of_one(&a).and(s, Range::of_one(&b)))
    }

    #[inline(always)]
    fn vector<S: Vector, const N: usize, const SKIP: bool, const END: bool, const CLAMP: bool>(
        &self,
        s: S,
        lane: usize,
        j: usize,
        term: &Exponentials<S::F, CLAMP>,
    ) -> S::F {
        let at = j * VIRTUAL_LANES + lane;
        // As floats: what is not a small number is none that is looked for.
        let index = s.load(&INDEX, at);
        let mut x = if END && j + 1 == N {
            let inside = s.less(index, s.splat(self.end as f32));
            s.select(inside, load_padded(s, self.from, at, 0.0), term.missing)
        } else {
            s.load(self.from, at)
        };
        if SKIP {
            let skipped = s.equal(index, s.splat(self.skip as isize as f32));
            x = s.select(skipped, term.missing, x);
        }
        x
    }
}

#[inline(always)]
fn join<S: Vector>(s: S, a: (S::F, Range<S::U>), b: (S::F, Range<S::U>)) -> (S::F, Range<S::U>) {
    (s.add(a.0, b.0), a.1.and(s, b.1))
}

/// The sums of all virtual lanes over a piece, whatever its logits. A function of its own, since few rows need it.
struct AnyLogits<'a> {
    piece: Piece<'a>,
    vectors: usize,
    scale: Scale,
}

impl Operation for AnyLogits<'_> {
    type Output = [f32; VIRTUAL_LANES];

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Self::Output {
        let term = Exponentials::<_, true> { exp: Exp::new(s, self.scale), missing: s.splat(f32::NEG_INFINITY) };
        let mut lanes = [0.0; VIRTUAL_LANES];
        for lane in (0..VIRTUAL_LANES).step_by(S::LANES) {
            let (sum, _) = match self.vectors {
                1 => self.piece.quarter::<S, 1, true, true, true>(s, lane, &term),
                2 => self.piece.quarter::<S, 2, true, true, true>(s, lane, &term),
                3 => self.piece.quarter::<S, 3, true, true, true>(s, lane, &term),
                DEPTH => self.piece.whole::<S, true, true>(s, lane, &term),
                _ => self.piece.quarter::<S, 4, true, true, true>(s, lane, &term),
            };
            s.store(sum, &mut lanes, lane);
        }
        lanes
    }
}

/// `row[at..at + LANES]`, with `missing` past the end.
#[inline(always)]
pub(super) fn load_padded<S: Vector>(s: S, row: &[f32], at: usize, missing: f32) -> S::F {
    if at + S::LANES <= row.len() {
        return s.load(row, at);
    }
    let mut padded = [missing; VIRTUAL_LANES];
    copy(&mut padded, row.get(at..).unwrap_or(&[]));
    s.load(&padded, 0)
}

/// Adds a block to what came before it; only the tree inside the block rounds.
#[inline(always)]
pub(super) fn accumulate<S: Vector>(s: S, total: Pair<S::F>, sum: S::F) -> Pair<S::F> {
    let exact = two_sum(s, total.hi, sum);
    Pair { hi: exact.hi, lo: s.add(total.lo, exact.lo) }
}

/// The sum over the virtual lanes, halving their number until one is left.
#[inline(always)]
pub(super) fn across_lanes(total: &Lanes) -> Pair<f32> {
    let (hi8, lo8) = halve::<16, 8>(total.hi, total.lo);
    let (hi4, lo4) = halve::<8, 4>(hi8, lo8);
    let (hi2, lo2) = halve::<4, 2>(hi4, lo4);
    let ([hi], [lo]) = halve::<2, 1>(hi2, lo2);
    let hi_sum = hi + lo;
    Pair { hi: hi_sum, lo: lo - (hi_sum - hi) }
}

/// The same for as many rows as there are lanes, with the sum of each in its lane. Row `r` has its virtual lanes in
/// `VIRTUAL_LANES / LANES` vectors, one row after the other.
#[inline(always)]
pub(super) fn across_lanes_of_rows<S: Vector>(
    s: S,
    mut hi: [S::F; VIRTUAL_LANES],
    mut lo: [S::F; VIRTUAL_LANES],
) -> Pair<S::F> {
    let mut width = S::GROUPS / 2;
    while width > 0 {
        // Two vectors of the same row, half of the virtual lanes apart.
        for i in 0..S::LANES * width {
            let a = i / width * 2 * width + i % width;
            // Within the array either way; only so can every compiler see it.
            let (a, b, i) = (a % VIRTUAL_LANES, (a + width) % VIRTUAL_LANES, i % VIRTUAL_LANES);
            let sum = two_sum(s, hi[a], hi[b]);
            (hi[i], lo[i]) = (sum.hi, s.add(sum.lo, s.add(lo[a], lo[b])));
        }
        width /= 2;
    }
    let mut rows = S::LANES / 2;
    while rows > 0 {
        // Two rows, whose lanes come to stand in turn.
        for i in 0..rows {
            let (i, other) = (i % VIRTUAL_LANES, (i + rows) % VIRTUAL_LANES);
            let ((a, b), (c, d)) = (s.zip(hi[i], hi[other]), s.zip(lo[i], lo[other]));
            let sum = two_sum(s, a, b);
            (hi[i], lo[i]) = (sum.hi, s.add(sum.lo, s.add(c, d)));
        }
        rows /= 2;
    }
    fast_two_sum(s, hi[0], lo[0])
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

/// The larger of two numbers; the first where the second is NaN.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The largest element of a row, and whether any is NaN.
#[inline(always)]
pub(crate) fn maximum<S: Vector, X: Elements>(_: S, row: X) -> (f32, bool) {
    let Some(row) = row.slice().filter(|_| S::WIDE) else {
        let (mut largest, mut any_nan) = (f32::NEG_INFINITY, false);
        for class in 0..row.len() {
            let x = row.get(class).unwrap_or(f32::NAN);
            largest = larger(largest, x);
            any_nan |= x.is_nan();
        }
        return (largest, any_nan);
    };
    // Plain loops over virtual lanes, which the compiler turns into vectors.
    let mut largest = [f32::NEG_INFINITY; VIRTUAL_LANES];
    let mut any_nan = [false; VIRTUAL_LANES];
    let mut take = |values: &[f32]| {
        for ((largest, nan), &x) in largest.iter_mut().zip(&mut any_nan).zip(values) {
            *largest = larger(*largest, x);
            *nan |= x.is_nan();
        }
    };
    let (chunks, tail) = row.as_chunks::<VIRTUAL_LANES>();
    for chunk in chunks {
        take(chunk);
    }
    take(tail);
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, larger);
    (largest, any_nan.iter().any(|&nan| nan))
}

/// The index of the first element that equals `value`.
#[inline(always)]
pub(crate) fn position<S: Vector, X: Elements>(_: S, row: X, value: f32) -> Option<usize> {
    let Some(row) = row.slice().filter(|_| S::WIDE) else {
        for class in 0..row.len() {
            if row.get(class) == Some(value) {
                return Some(class);
            }
        }
        return None;
    };
    // Whole blocks are searched without a branch an element.
    let holds = |block: &[f32]| block.iter().fold(false, |found, &x| found | (x == value));
    let block = row.chunks(BLOCK).position(holds)? * BLOCK;
    let rest = part(row, block, row.len().saturating_sub(block));
    rest.iter().position(|&x| x == value).map(|index| block + index)
}

/// How many elements equal `value`.
#[inline(always)]
pub(crate) fn count<X: Elements>(row: X, value: f32) -> usize {
    let mut found = 0;
    for class in 0..row.len() {
        found += usize::from(row.get(class) == Some(value));
    }
    found
}

/// Σ_{k≠r} exp(x_k − x_r)·2^`headroom` for the reference r.
#[inline(always)]
pub(crate) fn excluded_sum<S: Vector, X: Elements>(s: S, row: X, reference: usize, headroom: f32) -> Pair<f32> {
    if S::WIDE {
        excluded_sum_of_lanes(s, row, reference, headroom)
    } else {
        s.run(InOneLane { row, reference, headroom, order: Order::ByLane })
    }
}

#[inline(always)]
fn excluded_sum_of_lanes<S: Vector, X: Elements>(s: S, row: X, reference: usize, headroom: f32) -> Pair<f32> {
    let (lane, skip) = (s.lane(), reference);
    let reference = Reference::new(lane, row.get(skip).unwrap_or(0.0));
    let scale = Scale { shift: reference.shift, power: headroom - reference.exponent };
    let sum = across_lanes(&row.lanes(s, skip, scale));
    let sum = refined(lane, sum, reference.exponent, headroom);
    super::pair::product(lane, sum, reference.rest)
}

/// The number in the first lane.
#[inline(always)]
pub(crate) fn first<S: Vector>(s: S, values: S::F) -> f32 {
    let mut lanes = [0.0; VIRTUAL_LANES];
    s.store(values, &mut lanes, 0);
    lanes[0]
}

/// log Σ exp(xₖ) of one row.
pub(crate) struct LogSumExp<X>(pub(crate) X);

impl<X: Elements> Operation for LogSumExp<X> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> f32 {
        let (largest, any_nan) = maximum(s, self.0);
        if any_nan {
            return f32::NAN;
        }
        let Some(index) = position(s, self.0, largest).filter(|_| largest.is_finite()) else {
            // All −∞ (or no element), or some +∞.
            return largest;
        };
        let sum = excluded_sum(s, self.0, index, HEADROOM);
        let lane = s.lane();
        let log = super::log1p::log1p(lane, super::pair::scaled(lane, sum, UNDO_HEADROOM));
        let total = two_sum(lane, largest, log.hi);
        fast_two_sum(lane, total.hi, total.lo + log.lo).hi
    }
}
