//! The weighted loss −w[y]·log p_y and its gradient w[y]·(p_i − [i = y]), row by row.
//!
//! The reference class is the label: with E = Σ_{k≠y} exp(x_k − x_y) the loss is w·log(1 + E), p_y = 1/(1 + E), and
//! 1 − p_y = E/(1 + E) without a cancellation. Lanes run along the row for the sum; what remains to be done once a
//! row (the reference, the logarithm, the division) is done for as many rows at once as a vector has lanes.

use super::buffers::Buffers;
use super::exp::{Exp, Reference, Scale, refined};
use super::log1p::log1p;
use super::long_rows::{APPLY_HEADROOM, ExcludedSum, HEADROOM, UNDO_HEADROOM};
use super::pair::{self, Pair, fast_two_sum, magnitude, two_prod, two_sum};
use super::rare_rows::{RareRow, Share, TINY_SUM, TinyRow};
use super::views::{Across, View, across};
use super::{VIRTUAL_LANES, part};
use crate::backend::vector::{Operation, Vector};
use crate::problem::Rows;
use crate::reduction::{GradientScale, Tally};

/// Rows longer than this are finished one by one, so that their gradient is computed while they are in cache.
const LONG_ROW: usize = 1024;

/// The loss of every row, and its gradient where `buffers` has one. Everything has been validated.
pub(crate) struct WeightedRows<'a, B> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) buffers: B,
    pub(crate) row_losses: Option<&'a mut [f32]>,
    pub(crate) scale: GradientScale<'a>,
}

impl<B: Buffers> Operation for WeightedRows<'_, B> {
    type Output = Tally;

    #[inline(always)]
    fn run<S: Vector>(mut self, s: S) -> Tally {
        let mut tally = Tally::new();
        let count = self.rows.count();
        let at_once = if B::GRADIENT && self.rows.classes() > LONG_ROW { 1 } else { S::LANES };
        let mut first = 0;
        while first < count {
            let group = Group::new(self.rows, self.buffers.logits(), first, at_once.min(count - first));
            let losses = group.run(s, self.rows, &mut self.buffers, &self.scale);
            tally.add(first, part(&losses, 0, group.count));
            if let Some(out) = self.row_losses.as_deref_mut() {
                for (to, from) in out.iter_mut().skip(first).zip(part(&losses, 0, group.count)) {
                    *to = *from;
                }
            }
            first += at_once;
        }
        tally
    }
}

/// A few rows, one a lane. Rows that do not count have weight 0.
struct Group {
    first: usize,
    count: usize,
    labels: [usize; VIRTUAL_LANES],
    weights: [f32; VIRTUAL_LANES],
    logits_of_labels: [f32; VIRTUAL_LANES],
}

impl Group {
    #[inline(always)]
    fn new(rows: &Rows<'_>, logits: &[f32], first: usize, count: usize) -> Self {
        let mut group = Self {
            first,
            count,
            labels: [0; VIRTUAL_LANES],
            weights: [0.0; VIRTUAL_LANES],
            logits_of_labels: [0.0; VIRTUAL_LANES],
        };
        let lanes = group.labels.iter_mut().zip(&mut group.weights).zip(&mut group.logits_of_labels).take(count);
        for (row, ((label, weight), logit)) in (first..).zip(lanes) {
            let Some(class) = rows.class(row) else { continue };
            let whole = rows.weight(class) * rows.sample_weight(row);
            if whole != 0.0 {
                *label = class;
                *weight = whole;
                *logit = logits.get(rows.start(row) + class).copied().unwrap_or(0.0);
            }
        }
        group
    }

    #[inline(always)]
    fn run<S: Vector, B: Buffers>(
        &self,
        s: S,
        rows: &Rows<'_>,
        buffers: &mut B,
        scale: &GradientScale<'_>,
    ) -> [f32; VIRTUAL_LANES] {
        let reference = Reference::new(s, s.load(&self.logits_of_labels, 0));
        let (mut shifts, mut exponents) = ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES]);
        s.store(reference.shift, &mut shifts, 0);
        s.store(reference.exponent, &mut exponents, 0);

        // E·2^HEADROOM; not finite where the row needs the other path.
        let short = across(s, rows, self.first);
        let sum = match short {
            Some(view) => self.sums_across(s, view, buffers.logits(), &reference),
            None => {
                let (mut hi, mut lo) = ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES]);
                for lane in self.lanes() {
                    if self.weights[lane] == 0.0 {
                        continue;
                    }
                    let row = part(buffers.logits(), rows.start(self.first + lane), rows.classes());
                    let scale = Scale { shift: shifts[lane], power: HEADROOM - exponents[lane] };
                    let sum = s.run(ExcludedSum { row, skip: self.labels[lane], scale });
                    (hi[lane], lo[lane]) = (sum.hi, sum.lo);
                }
                let sum = Pair { hi: s.load(&hi, 0), lo: s.load(&lo, 0) };
                refined(s, sum, reference.exponent, HEADROOM)
            }
        };
        let sum = pair::product(s, sum, reference.rest);
        let plain_sum = pair::scaled(s, sum, UNDO_HEADROOM);
        let log = pair::scaled(s, log1p(s, plain_sum), APPLY_HEADROOM);
        // Where E is small the logarithm is E itself, which may be too small to be held without the headroom.
        let small = s.less(plain_sum.hi, s.splat(1e-12));
        let loss = weighed(s, pair::select(s, small, sum, log), s.load(&self.weights, 0), UNDO_HEADROOM);
        let mut losses = [0.0; VIRTUAL_LANES];
        s.store(loss, &mut losses, 0);
        let mut sums = [0.0; VIRTUAL_LANES];
        s.store(sum.hi, &mut sums, 0);

        // p_i = exp(x_i − shift)·2^(−exponent)·share; 1 − p_y = miss·2^(−HEADROOM).
        let (mut shares, mut misses) = ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES]);
        if B::GRADIENT {
            let all = s.add(s.splat(1.0), plain_sum.hi);
            s.store(s.div(reference.rest.hi, all), &mut shares, 0);
            s.store(s.div(sum.hi, all), &mut misses, 0);
        }

        let mut later = [None; VIRTUAL_LANES];
        for lane in self.lanes() {
            let start = rows.start(self.first + lane);
            let (label, weight) = (self.labels[lane], self.weights[lane]);
            if weight == 0.0 {
                losses[lane] = 0.0;
                later[lane] = Some(RowGradient { share: Share::Undefined, label, factor: 0.0, miss: 0.0 });
                continue;
            }
            let mut share = Share::Spread { shift: shifts[lane], exponent: exponents[lane], share: shares[lane] };
            let mut miss = f64::from(misses[lane]) * f64::from(UNDO_HEADROOM);
            let factor = if B::GRADIENT { scale.of_row(self.first + lane) * f64::from(weight) } else { 0.0 };
            let row = part(buffers.logits(), start, rows.classes());
            if sums[lane] < TINY_SUM {
                miss = s.run(TinyRow { row, label });
                losses[lane] = (miss * f64::from(weight)) as f32;
            } else if !sums[lane].is_finite() {
                let rare = s.run(RareRow { row, label, weight });
                losses[lane] = rare.loss;
                share = rare.share;
                miss = 1.0;
            }
            later[lane] = Some(RowGradient { share, label, factor, miss });
        }
        if B::GRADIENT {
            if let Some(view) = short {
                self.gradients_across(s, view, buffers, &reference, &mut later);
            }
            for (lane, row) in later.iter().enumerate() {
                if let Some(row) = row {
                    write_gradient(s, buffers, rows.start(self.first + lane), rows.classes(), row);
                }
            }
        }
        losses
    }

    /// E·2^HEADROOM of short rows, without what remains of the reference.
    #[inline(always)]
    fn sums_across<S: Vector>(&self, s: S, view: Across, logits: &[f32], reference: &Reference<S::F>) -> Pair<S::F> {
        let zero = s.splat(0.0);
        let term = Exp::of_rows(s, reference.shift, s.sub(s.splat(HEADROOM), reference.exponent));
        let labels = s.load(&self.labels.map(|label| label as f32), 0);
        let terms = TermsAcross::<S> { view, logits, labels, term };
        let mut total = Pair { hi: zero, lo: zero };
        for class in (0..view.classes).step_by(4) {
            let four = s.add(
                s.add(terms.of(s, class), terms.of(s, class + 1)),
                s.add(terms.of(s, class + 2), terms.of(s, class + 3)),
            );
            let exact = two_sum(s, total.hi, four);
            total = Pair { hi: exact.hi, lo: s.add(total.lo, exact.lo) };
        }
        fast_two_sum(s, total.hi, total.lo)
    }

    /// Writes the gradients of the rows that are nothing special, all at once, and takes them from `later`.
    #[inline(always)]
    fn gradients_across<S: Vector, B: Buffers>(
        &self,
        s: S,
        view: Across,
        buffers: &mut B,
        reference: &Reference<S::F>,
        later: &mut [Option<RowGradient>; VIRTUAL_LANES],
    ) {
        let zeros = [0.0; VIRTUAL_LANES];
        let (mut mantissas, mut powers, mut raw) = (zeros, zeros, [1.0; VIRTUAL_LANES]);
        let mut at_labels = [None; VIRTUAL_LANES];
        for lane in self.lanes() {
            let Some(RowGradient { share: Share::Spread { share, .. }, factor, miss, label }) = later[lane] else {
                continue;
            };
            // A row whose reference is not its label, or whose factor is special, is left.
            if miss >= 1.0 || factor == 0.0 || factor.is_nan() {
                continue;
            }
            (mantissas[lane], powers[lane]) = mantissa_and_power(f64::from(share) * factor);
            at_labels[lane] = Some((label, 0.0 - (factor * miss) as f32));
            raw[lane] = 0.0;
            later[lane] = None;
        }
        let term = Exp::of_rows(s, reference.shift, s.sub(s.load(&powers, 0), reference.exponent));
        let (mantissas, special) = (s.load(&mantissas, 0), s.equal(s.load(&raw, 0), s.splat(1.0)));
        for class in 0..view.classes {
            let x = view.load(s, buffers.logits(), class, 0.0);
            // The others are still needed as they are.
            let value = s.select(special, x, term.times(s, x, mantissas));
            view.store(s, value, buffers.gradients(), class);
        }
        for (lane, at_label) in at_labels.iter().enumerate() {
            let Some((label, value)) = *at_label else { continue };
            let index = view.start + lane * view.row_stride + label * view.class_stride;
            if let Some(to) = buffers.gradients().get_mut(index) {
                *to = value;
            }
        }
    }

    #[inline(always)]
    fn lanes(&self) -> core::ops::Range<usize> {
        0..self.count.min(VIRTUAL_LANES)
    }
}

/// The terms of short rows, one row a lane.
struct TermsAcross<'a, S: Vector> {
    view: Across,
    logits: &'a [f32],
    labels: S::F,
    term: Exp<S::F>,
}

impl<S: Vector> TermsAcross<'_, S> {
    /// Those of a class, 0 for the label and for a class that there is not.
    #[inline(always)]
    fn of(&self, s: S, class: usize) -> S::F {
        let zero = s.splat(0.0);
        if class >= self.view.classes {
            return zero;
        }
        let e = self.term.of(s, self.view.load(s, self.logits, class, f32::NEG_INFINITY));
        s.select(s.equal(self.labels, s.splat(class as f32)), zero, e)
    }
}

/// weight·value·`unit` for a value that is held in units of the power of two `unit`, rounded once unless it
/// leaves the normal range on the way out.
#[inline(always)]
pub(crate) fn weighed<S: Vector>(s: S, value: Pair<S::F>, weight: S::F, unit: f32) -> S::F {
    // The unit goes to the factor that has room for it.
    let one = s.splat(1.0);
    let unit = s.splat(unit);
    let light = s.less(magnitude(s, weight), one);
    let weight = s.mul(weight, s.select(light, one, unit));
    let p = two_prod(s, weight, value.hi);
    let rounded = s.add(p.hi, s.mul_add(weight, value.lo, p.lo));
    // An overflow has no error term.
    let finite = s.less(magnitude(s, p.hi), s.splat(f32::INFINITY));
    s.mul(s.select(finite, rounded, p.hi), s.select(light, unit, one))
}

#[derive(Clone, Copy)]
struct RowGradient {
    share: Share,
    label: usize,
    /// Weight, upstream factor and denominator of the mean.
    factor: f64,
    /// 1 − p_y
    miss: f64,
}

#[inline(always)]
fn write_gradient<S: Vector, B: Buffers>(s: S, buffers: &mut B, start: usize, classes: usize, row: &RowGradient) {
    if row.factor == 0.0 {
        buffers.gradient(start, classes).fill(0.0);
        return;
    }
    let at_label = 0.0 - (row.factor * row.miss) as f32;
    // The mean over a zero denominator.
    let share = if row.factor.is_nan() { Share::Undefined } else { row.share };
    match share {
        Share::Spread { shift, exponent, share } => {
            let (mantissa, power) = mantissa_and_power(f64::from(share) * row.factor);
            let term = Exp::new(s, Scale { shift, power: power - exponent });
            let mantissa = s.splat(mantissa);
            buffers.map(
                s,
                start,
                classes,
                #[inline(always)]
                |x| term.times(s, x, mantissa),
            );
        }
        Share::Certain(class) if class == row.label => {
            buffers.gradient(start, classes).fill(0.0);
            return;
        }
        Share::Certain(class) => {
            let gradient = buffers.gradient(start, classes);
            gradient.fill(0.0);
            if let Some(certain) = gradient.get_mut(class) {
                *certain = row.factor as f32;
            }
        }
        Share::Undefined => {
            buffers.gradient(start, classes).fill(f32::NAN);
            return;
        }
    }
    if let Some(gradient) = buffers.gradient(start, classes).get_mut(row.label) {
        *gradient = at_label;
    }
}

/// factor = mantissa·2^power with |mantissa| in [√½, √2) where the power allows, and |power| at most 300: beyond, every
/// product with a probability is 0 or ±∞ either way.
#[inline(always)]
fn mantissa_and_power(factor: f64) -> (f32, f32) {
    if factor == 0.0 {
        return (0.0, 0.0);
    }
    let bits = factor.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = f64::from_bits(bits & 0x800f_ffff_ffff_ffff | 1023 << 52);
    // 2^127 is the largest power that an f32 holds.
    let halve = mantissa.abs() >= core::f64::consts::SQRT_2 && exponent != 127;
    let (mantissa, exponent) = if halve { (mantissa * 0.5, exponent + 1) } else { (mantissa, exponent) };
    (mantissa as f32, exponent.clamp(-300, 300) as f32)
}
