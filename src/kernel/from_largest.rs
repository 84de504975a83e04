//! Rows seen from their largest logit m: E = Σ_{k≠m} exp(x_k − x_m).
//!
//! Classes that share the largest logit are all treated as m: E counts all of them but one.

use super::exp::{Exp, Reference};
use super::long_rows::{APPLY_HEADROOM, HEADROOM, UNDO_HEADROOM};
use super::pair::{Pair, fast_two_sum, product, scaled, two_sum};
use super::terms::Adjustment;
use super::views::{Sums, View};
use crate::backend::vector::Vector;

/// Logits and what is done to them before anything else.
#[derive(Clone, Copy)]
pub(crate) struct Adjusted<'a> {
    /// Where they are f32.
    pub(crate) numbers: &'a [f32],
    pub(crate) adjustment: &'a Adjustment<'a>,
}

impl Adjusted<'_> {
    /// Vector `i`, −∞ where there is no element.
    #[inline(always)]
    pub(crate) fn load<S: Vector, V: View<S>>(&self, s: S, view: V, i: usize) -> S::F {
        adjusted(s, view, self.adjustment, view.logits(s, self.numbers, i), i)
    }
}

/// x/T + b for vector `i` of the logits.
#[inline(always)]
pub(crate) fn adjusted<S: Vector, V: View<S>>(s: S, view: V, by: &Adjustment<'_>, raw: S::F, i: usize) -> S::F {
    let scaled = if by.temperature == 1.0 { raw } else { s.div(raw, s.splat(by.temperature)) };
    match by.bias {
        Some(bias) => s.add(scaled, view.of_classes(s, Some(bias), i)),
        None => scaled,
    }
}

/// The exponentials of the rows of a view, with what is needed to compute them again.
pub(crate) struct FromLargest<S: Vector> {
    pub(crate) largest: S::F,
    /// exp(x − x_m)·2^HEADROOM, but for the factor `rest`.
    pub(crate) term: Exp<S::F>,
    pub(crate) rest: Pair<S::F>,
    shift: S::F,
    /// `term` has this power of two
    power: S::F,
    /// E·2^HEADROOM
    pub(crate) excluded: Pair<S::F>,
}

/// Where E·2^HEADROOM is in this range the row can be finished in f32: E is a normal number with room to be multiplied
/// and divided by. Not so where the row has a NaN or no finite largest logit.
pub(crate) const SUMS: core::ops::Range<f32> = f32::from_bits((127 - 39) << 23)..f32::INFINITY;

impl<S: Vector> FromLargest<S> {
    #[inline(always)]
    pub(crate) fn new<V: View<S>>(s: S, view: V, logits: Adjusted<'_>) -> Self {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        let mut largest = s.splat(f32::NEG_INFINITY);
        for i in 0..view.vectors() {
            // A NaN may get lost here, but not in the sum.
            largest = s.at_least(logits.load(s, view, i), largest);
        }
        let largest = view.largest(s, largest);
        let reference = Reference::new(s, largest);
        let power = s.sub(s.splat(HEADROOM), reference.exponent);
        let term = Exp::of_rows(s, reference.shift, power);
        let (mut excluded, mut tied) = (Sums::new(s), Sums::new(s));
        for i in 0..view.vectors() {
            let x = logits.load(s, view, i);
            let is_largest = s.equal(x, largest);
            excluded.add(s, view.group(i), s.select(is_largest, zero, term.of(s, x)));
            tied.add(s, view.group(i), s.select(is_largest, one, zero));
        }
        let sum = product(s, view.total(s, &excluded), reference.rest);
        let ties = s.mul(s.sub(view.total(s, &tied).hi, one), s.splat(APPLY_HEADROOM));
        let with_ties = two_sum(s, ties, sum.hi);
        let excluded = fast_two_sum(s, with_ties.hi, s.add(with_ties.lo, sum.lo));
        Self { largest, term, rest: reference.rest, shift: reference.shift, power, excluded }
    }

    /// E
    #[inline(always)]
    pub(crate) fn plain(&self, s: S) -> Pair<S::F> {
        scaled(s, self.excluded, UNDO_HEADROOM)
    }

    /// `term` times 2^k.
    #[inline(always)]
    pub(crate) fn raised(&self, s: S, k: S::F) -> Exp<S::F> {
        Exp::of_rows(s, self.shift, s.add(self.power, k))
    }
}
