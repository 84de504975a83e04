//! The weighted loss of one row of classes side by side, in one lane: for rows too few to fill a vector, and for
//! processors without any, whose memory is small as well. What is unrolled for vectors is a loop here, and what is
//! needed in several places is there once.

use core::slice::from_ref;

use super::exp::{Exp, Range, Reference, Scale, refined};
use super::log1p::log1p;
use super::long_rows::{ExcludedSum, HEADROOM, Lanes, UNDO_HEADROOM, accumulate, excluded_sum};
use super::pair::{Pair, fast_two_sum, product, scaled, two_sum};
use super::rare_rows::{RareRow, TINY_SUM, TinyRow, half_loss, tiny_parts};
use super::views::SHORT_ROW;
use super::weighted::{minus_log_p, weighed};
use super::{BLOCK, VIRTUAL_LANES};
use crate::backend::vector::{Operation, Vector};

/// −`weight`·log p of the label.
#[inline(always)]
pub(crate) fn loss<S: Vector, X: Elements>(s: S, row: X, label: usize, weight: f32) -> f32 {
    if weight == 0.0 {
        return 0.0;
    }
    let (lane, sum) = (s.lane(), sum(s, row, label));
    let (value, weight, unit) = if sum.hi < TINY_SUM {
        tiny_parts(lane, by(s, TinyRow { row, label }), weight)
    } else {
        let rare = if sum.hi < f32::INFINITY { None } else { Some(by(s, RareRow { row, label })) };
        let log = log1p(lane, rare.as_ref().map_or(scaled(lane, sum, UNDO_HEADROOM), |rare| rare.sum));
        match rare {
            None => (minus_log_p(lane, sum, log), weight, UNDO_HEADROOM),
            Some(rare) => (half_loss(lane, rare.half_gap, log), weight, 2.0),
        }
    };
    // One NaN for all, whatever a processor makes of one that is multiplied.
    if value.hi.is_nan() { f32::NAN } else { weighed(lane, value, weight, unit) }
}

/// Runs what vectors run as a function of its own. In one lane it is part of the function that calls it, since a small
/// stack has no room for both.
#[inline(always)]
fn by<S: Vector, O: Operation>(s: S, operation: O) -> O::Output {
    if S::WIDE { s.run(operation) } else { operation.run(s) }
}

/// [`loss`] as a function.
pub(crate) struct OneRow<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) label: usize,
    pub(crate) weight: f32,
}

impl Operation for OneRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> f32 {
        loss(s, self.row, self.label, self.weight)
    }
}

/// E·2^HEADROOM, where E = Σ_{k≠label} exp(x_k − x_label).
#[inline(always)]
fn sum<S: Vector, X: Elements>(s: S, row: X, label: usize) -> Pair<f32> {
    let Some(row) = row.slice() else { return excluded_sum(s, row, label, HEADROOM) };
    // Of two classes the exponential of their gap, which then is the only one that is not skipped.
    let gap = if let &[first, second] = row { Some(gap(s.lane(), first, second, label)) } else { None };
    let (row, reference) = gap.as_ref().map_or((row, label), |gap| (from_ref(&gap.hi), usize::MAX));
    let order = if row.len() <= SHORT_ROW { Order::ByClass } else { Order::ByLane };
    let sum = InOneLane { row, reference, headroom: HEADROOM, order };
    let sum = if !S::WIDE {
        s.run(sum)
    } else if order == Order::ByClass {
        // One lane of vectors has their instructions already.
        sum.run(s.lane())
    } else {
        excluded_sum(s, row, reference, HEADROOM)
    };
    gap.map_or(sum, |gap| fast_two_sum(s.lane(), sum.hi, sum.hi * gap.lo))
}

/// The other logit minus that of the label; the low part is NaN where the label has no finite one.
#[inline(always)]
fn gap<S: Vector<F = f32>>(s: S, first: f32, second: f32, label: usize) -> Pair<f32> {
    let (own, other) = if label == 0 { (first, second) } else { (second, first) };
    let gap = two_sum(s, other, -own);
    // An infinite gap has no low part.
    let lo = if gap.hi.is_finite() { gap.lo } else { 0.0 };
    Pair { hi: gap.hi, lo: lo + s.sub(own, own) }
}

/// The logits of a row, one by one.
pub(crate) trait Elements: Copy {
    /// Number of classes.
    fn len(self) -> usize;
    /// The logit of a class, if there is such a class.
    fn get(self, class: usize) -> Option<f32>;
    /// All of them, where they stand side by side in f32.
    fn slice(&self) -> Option<&[f32]>;
    /// Σ exp(x_k − shift)·2^power over k ≠ `skip`, by vectors.
    fn lanes<S: Vector>(self, s: S, skip: usize, scale: Scale) -> Lanes;
}

impl Elements for &[f32] {
    #[inline(always)]
    fn len(self) -> usize {
        <[f32]>::len(self)
    }
    #[inline(always)]
    fn get(self, class: usize) -> Option<f32> {
        <[f32]>::get(self, class).copied()
    }
    #[inline(always)]
    fn slice(&self) -> Option<&[f32]> {
        Some(self)
    }
    #[inline(always)]
    fn lanes<S: Vector>(self, s: S, skip: usize, scale: Scale) -> Lanes {
        s.run(ExcludedSum { from: self, len: <[f32]>::len(self), skip, scale })
    }
}

/// In which order the terms of a row are added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As those of rows that stand across.
    ByClass,
    /// As those of a row that vectors run along.
    ByLane,
}

/// Σ_{k≠r} exp(x_k − x_r)·2^`headroom` for the reference r, whose logit is 0 if it is none of the row.
pub(super) struct InOneLane<X> {
    pub(super) row: X,
    pub(super) reference: usize,
    pub(super) headroom: f32,
    pub(super) order: Order,
}

impl<X: Elements> Operation for InOneLane<X> {
    type Output = Pair<f32>;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Pair<f32> {
        let s = s.lane();
        let reference = Reference::new(s, self.row.get(self.reference).unwrap_or(0.0));
        let scale = Scale { shift: reference.shift, power: self.headroom - reference.exponent };
        let by_lane = self.order == Order::ByLane;
        let exp = Exp::new(s, scale);
        let mut terms = Terms { of: self, exp, clamp: reference.shift != 0.0, range: Range::EMPTY };
        let mut sum = loop {
            let sum = terms.sum(s);
            if terms.clamp || terms.range.all_in_range(s) {
                break sum;
            }
            terms.clamp = true;
        };
        if by_lane {
            sum = refined(s, sum, reference.exponent, terms.of.headroom);
        }
        product(s, sum, reference.rest)
    }
}

/// One way through the terms of a row.
struct Terms<X> {
    of: InOneLane<X>,
    exp: Exp<f32>,
    /// Any logits, and not only those in range.
    clamp: bool,
    range: Range<u32>,
}

impl<X: Elements> Terms<X> {
    #[inline(always)]
    fn sum<S: Vector<F = f32, U = u32>>(&mut self, s: S) -> Pair<f32> {
        // The tree that halves the number of lanes, lane by lane: a sum waits at its level for the one that it is added to.
        const LEVELS: usize = VIRTUAL_LANES.ilog2() as usize;
        let levels = if self.of.order == Order::ByClass { 0 } else { LEVELS };
        // Read before it is written, a level would show.
        let mut waiting = [Pair { hi: f32::NAN, lo: f32::NAN }; LEVELS];
        let mut sum = Pair { hi: 0.0, lo: 0.0 };
        for number in 0..1usize << levels {
            sum = self.of_lane(s, number.reverse_bits().wrapping_shr(usize::BITS - levels as u32));
            let mut rest = number;
            for level in &mut waiting {
                if rest & 1 == 0 {
                    *level = sum;
                    break;
                }
                let exact = two_sum(s, level.hi, sum.hi);
                sum = Pair { hi: exact.hi, lo: exact.lo + (level.lo + sum.lo) };
                rest >>= 1;
            }
        }
        fast_two_sum(s, sum.hi, sum.lo)
    }

    /// The sum of a virtual lane; by class there is only the first.
    #[inline(always)]
    fn of_lane<S: Vector<F = f32, U = u32>>(&mut self, s: S, lane: usize) -> Pair<f32> {
        let by_lane = self.of.order == Order::ByLane;
        let stride = if by_lane { VIRTUAL_LANES } else { 1 };
        let len = self.of.row.len();
        let mut total = Pair { hi: 0.0, lo: 0.0 };
        let mut at = lane;
        while at - lane < len {
            // A whole block by lane, unless less is left; else four terms.
            let quarters = if by_lane && len - (at - lane) >= BLOCK { 4 } else { 1 };
            let (mut sum, mut half) = (0.0, 0.0);
            for quarter in 0..quarters {
                half += self.quarter(s, at, stride);
                at += 4 * stride;
                if quarter % 2 == 1 {
                    sum += half;
                    half = 0.0;
                }
            }
            total = accumulate(s, total, sum + half);
        }
        total
    }

    /// (a + b) + (c + d) of four terms, where b and d are added by a multiply-add. Those that are missing are 0, and adding
    /// them changes nothing.
    #[inline(always)]
    fn quarter<S: Vector<F = f32, U = u32>>(&mut self, s: S, first: usize, stride: usize) -> f32 {
        let mut sum = 0.0;
        let mut index = first;
        for _ in 0..2 {
            let mut pair = 0.0;
            for _ in 0..2 {
                if let Some(x) = self.of.row.get(index).filter(|_| index != self.of.reference) {
                    let x = if self.clamp { self.exp.clamped(s, x) } else { x };
                    let e = self.exp.of_either(s, x, self.of.order == Order::ByLane);
                    self.range = self.range.and(s, Range::of_one(&e));
                    pair = s.mul_add(e.mantissa, e.power, pair);
                }
                index += stride;
            }
            sum += pair;
        }
        sum
    }
}
