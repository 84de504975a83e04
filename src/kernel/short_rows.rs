//! Rows seen across, one a lane: their exponentials, summed from the label.

use super::exp::{Exp, Factors, Range, Reference};
use super::long_rows::{HEADROOM, accumulate};
use super::pair::{Pair, fast_two_sum, magnitude, product, two_sum};
use super::views::{Across, SHORT_ROW, View};
use crate::backend::vector::Vector;

/// A few rows and their labels.
///
/// With `FEW` there are at most [`SHORT_ROW`] classes.
pub(crate) struct ShortRows<S: Vector, const FEW: bool> {
    pub(crate) view: Across,
    /// The class of the label, or a number that is no class.
    pub(crate) labels: S::U,
}

/// 0, 1, 2, …
const CODES: [u32; SHORT_ROW] = {
    let mut codes = [0; SHORT_ROW];
    let mut i = 0;
    while i < SHORT_ROW {
        codes[i] = i as u32;
        i += 1;
    }
    codes
};

impl<S: Vector, const FEW: bool> ShortRows<S, FEW> {
    /// The logits of the labels, and what the classes of the labels weigh: 0 where the label is no class.
    #[inline(always)]
    pub(crate) fn find_labels(&self, s: S, logits: &[f32], class_weights: Option<&[f32]>) -> (S::F, S::F) {
        let (mut logit, mut weight) = (s.splat(0.0), s.splat(0.0));
        for class in 0..self.view.classes {
            let is_label = self.is_label(s, class);
            let of_class = class_weights.map_or(1.0, |weights| weights.get(class).copied().unwrap_or(0.0));
            logit = s.select(is_label, self.view.load(s, logits, class, 0.0), logit);
            weight = s.select(is_label, s.splat(of_class), weight);
        }
        (logit, weight)
    }

    #[inline(always)]
    pub(crate) fn is_label(&self, s: S, class: usize) -> S::M {
        // From memory, since broadcasting a register costs as much as a multiplication.
        let code = if FEW { CODES.get(class).copied().unwrap_or(0) } else { class as u32 };
        s.equal_bits(self.labels, s.splat_bits(code))
    }

    /// E·2^HEADROOM, where E = Σ_{k≠y} exp(x_k − x_y) and the labels have this reference; not finite where it overflows.
    /// With `KEEP` the tile gets the terms but for the factor `rest`, and 0 for the label.
    #[inline(always)]
    pub(crate) fn sum<const KEEP: bool>(
        &self,
        s: S,
        logits: &[f32],
        reference: &Reference<S::F>,
        terms: &mut [f32],
    ) -> Pair<S::F> {
        let exp = reference.term(s);
        let all_near = !s.any_bit(s.to_bits(reference.shift));
        let (mut sum, mut in_range) = (reference.rest, false);
        if all_near {
            (sum, in_range) = self.pass::<false, KEEP>(s, logits, &exp, terms);
        }
        if !in_range {
            (sum, _) = self.pass::<true, KEEP>(s, logits, &exp, terms);
        }
        product(s, sum, reference.rest)
    }

    /// The sum of the terms, and whether all were in range, which they need not be with `CLAMP`.
    #[inline(always)]
    fn pass<const CLAMP: bool, const KEEP: bool>(
        &self,
        s: S,
        logits: &[f32],
        exp: &Exp<S::F>,
        terms: &mut [f32],
    ) -> (Pair<S::F>, bool) {
        let zero = s.splat(0.0);
        let mut pass = Pass::<S, FEW, CLAMP, KEEP> { rows: self, logits, exp, terms, range: None };
        let mut total = None;
        let mut class = 0;
        while class < self.view.classes {
            let mut sum = pass.first(s, class);
            if class + 4 <= self.view.classes {
                sum = pass.second(s, class + 1, sum);
                let high = pass.first(s, class + 2);
                sum = s.add(sum, pass.second(s, class + 3, high));
            } else {
                if class + 1 < self.view.classes {
                    sum = pass.second(s, class + 1, sum);
                }
                if class + 2 < self.view.classes {
                    sum = s.add(sum, pass.first(s, class + 2));
                }
            }
            total = Some(match total {
                None => Pair { hi: sum, lo: zero },
                Some(before) => accumulate(s, before, sum),
            });
            class += 4;
        }
        let total = total.unwrap_or(Pair { hi: zero, lo: zero });
        let in_range = pass.range.is_none_or(|range| range.all_in_range(s));
        (fast_two_sum(s, total.hi, total.lo), in_range)
    }

    /// E·2^HEADROOM of two classes, from the difference of their logits.
    #[inline(always)]
    pub(crate) fn sum_of_two(&self, s: S, logits: &[f32]) -> Pair<S::F> {
        let (first, second) = (self.view.load(s, logits, 0, 0.0), self.view.load(s, logits, 1, 0.0));
        let is_first = self.is_label(s, 0);
        let (own, other) = (s.select(is_first, first, second), s.select(is_first, second, first));
        let zero = s.splat(0.0);
        let gap = two_sum(s, other, s.sub(zero, own));
        let e = Exp::of_rows(s, zero, s.splat(HEADROOM)).of(s, gap.hi);
        // An infinite gap has no low part; an infinite label has no sum.
        let finite = s.less(magnitude(s, gap.hi), s.splat(f32::INFINITY));
        let low = s.add(s.select(finite, gap.lo, zero), s.sub(own, own));
        fast_two_sum(s, e, s.mul(e, low))
    }
}

/// One way through the classes.
struct Pass<'p, S: Vector, const FEW: bool, const CLAMP: bool, const KEEP: bool> {
    rows: &'p ShortRows<S, FEW>,
    logits: &'p [f32],
    exp: &'p Exp<S::F>,
    terms: &'p mut [f32],
    range: Option<Range<S::U>>,
}

impl<S: Vector, const FEW: bool, const CLAMP: bool, const KEEP: bool> Pass<'_, S, FEW, CLAMP, KEEP> {
    /// The term of a class, 0 for the label.
    #[inline(always)]
    fn first(&mut self, s: S, class: usize) -> S::F {
        let (mantissa, power) = self.factors(s, class);
        let e = s.mul(mantissa, power);
        self.keep(s, class, e);
        e
    }

    /// The same added to that of its neighbour, its product in the multiply-add.
    #[inline(always)]
    fn second(&mut self, s: S, class: usize, first: S::F) -> S::F {
        let (mantissa, power) = self.factors(s, class);
        if KEEP {
            self.keep(s, class, s.mul(mantissa, power));
        }
        s.mul_add(mantissa, power, first)
    }

    #[inline(always)]
    fn keep(&mut self, s: S, class: usize, e: S::F) {
        if KEEP {
            s.store(e, self.terms, class * S::LANES);
        }
    }

    #[inline(always)]
    fn factors(&mut self, s: S, class: usize) -> (S::F, S::F) {
        let mut x = self.rows.view.load(s, self.logits, class, 0.0);
        if CLAMP {
            x = self.exp.clamped(s, x);
        }
        let factors: Factors<S> = self.exp.of_any(s, x);
        if !CLAMP {
            let range = Range::of_one(&factors);
            self.range = Some(match self.range {
                Some(before) => before.and(s, range),
                None => range,
            });
        }
        (factors.mantissa, s.select(self.rows.is_label(s, class), s.splat(0.0), factors.power))
    }
}
