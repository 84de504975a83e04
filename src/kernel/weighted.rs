//! The weighted loss −w[y]·log p_y and its gradient w[y]·(p_i − [i = y]), row by row.
//!
//! The reference class is the label: with E = Σ_{k≠y} exp(x_k − x_y) the loss is w·log(1 + E), p_y = 1/(1 + E), and
//! 1 − p_y = E/(1 + E) without a cancellation. For the sum lanes run along the row, or across rows that are short or stand
//! side by side; what remains to be done once a row (the reference, the logarithm, the division) is done for as many
//! rows at once as a vector has lanes.

use super::buffers::Buffers;
use super::exp::{Reference, Scale, refined};
use super::log1p::log1p;
use super::long_rows::{
    APPLY_HEADROOM, ExcludedSum, HEADROOM, UNDO_HEADROOM, across_lanes_of_rows, excluded_sum, load_padded,
};
use super::pair::{self, Pair, magnitude, two_prod};
use super::rare_rows::{RareRow, Share, TINY_SUM, TinyRow, rare_loss, tiny_parts, tiny_sum_in_f64};
use super::row_gradient::{LARGEST_FACTOR, RowGradient, write_gradient};
use super::short_rows::ShortRows;
use super::terms::{RowInF64, Terms};
use super::tile::{Place, Tile};
use super::views::{Across, SHORT_ROW, View};
use super::{VIRTUAL_LANES, copy, one_row, part, part_mut};
use crate::backend::vector::{Operation, Vector};
use crate::logits::Logits;
use crate::problem::{NO_CLASS, Rows, WEIGHTS_OF_ROWS};
use crate::reduction::{GradientScale, Tally};

/// Rows longer than this are finished one by one, so that their gradient is computed while they are in cache.
const LONG_ROW: usize = 4096;

/// The loss of every row, and its gradient where `buffers` has one. Everything has been validated, and the terms are the
/// plain ones.
pub(crate) struct WeightedRows<'a, B> {
    pub(crate) terms: &'a Terms<'a>,
    pub(crate) buffers: B,
    pub(crate) row_losses: Option<&'a mut [f32]>,
    pub(crate) scale: GradientScale<'a>,
}

/// So few short rows are faster one by one than in vectors that they do not fill.
const FEW_ROWS: usize = 3;

/// The number of groups that go through each step together: one step after another would leave the processor waiting for
/// the end of a long chain of dependent instructions.
const BATCH: usize = 2;

impl<B: Buffers> Operation for WeightedRows<'_, B> {
    type Output = Tally;

    #[inline(always)]
    fn run<S: Vector>(self, s: S) -> Tally {
        let rows = self.terms.rows;
        let few = rows.count() <= FEW_ROWS && rows.classes() <= SHORT_ROW;
        if !B::GRADIENT && rows.positions() == 1 && (!S::WIDE || few) {
            self.one_by_one(s)
        } else if S::WIDE && few {
            self.run_as::<S::Lane, SideBySide>(s.lane())
        } else if rows.positions() > 1 || !S::WIDE && rows.classes() <= SHORT_ROW {
            self.run_as::<S, SideBySide>(s)
        } else if rows.classes() > SHORT_ROW {
            self.run_as::<S, OneByOne>(s)
        } else if rows.classes() == 2 {
            self.run_as::<S, TurnedPairs>(s)
        } else {
            self.run_as::<S, Turned>(s)
        }
    }
}

/// How the rows of a call are seen, so that each way is compiled without the others.
trait Way {
    /// One by one, lanes along the row.
    const ALONG: bool = false;
    /// Turned on their side first.
    const TURNED: bool = false;
    /// The number of classes, where it is known beforehand.
    const CLASSES: Option<usize> = None;
}

struct OneByOne;
impl Way for OneByOne {
    const ALONG: bool = true;
}

struct SideBySide;
impl Way for SideBySide {}

struct Turned;
impl Way for Turned {
    const TURNED: bool = true;
}

struct TurnedPairs;
impl Way for TurnedPairs {
    const TURNED: bool = true;
    const CLASSES: Option<usize> = Some(2);
}

impl<B: Buffers> WeightedRows<'_, B> {
    /// The losses of rows of classes side by side, in one lane.
    #[inline(always)]
    fn one_by_one<S: Vector>(mut self, s: S) -> Tally {
        let rows = self.terms.rows;
        let mut tally = Tally::new();
        for row in 0..rows.count() {
            let label = rows.class(row);
            let loss = match label.map_or(Some(0.0), |label| rows.row_weight(row, label)) {
                None => RowInF64::loss_of_row(self.terms, row, Logits::F32(self.buffers.logits())),
                Some(weight) => {
                    let logits = part(self.buffers.logits(), rows.start(row), rows.classes());
                    one_row::loss(s, logits, label.unwrap_or(0), weight)
                }
            };
            tally.add(row, &[loss]);
            if let Some(to) = self.row_losses.as_deref_mut().and_then(|out| out.get_mut(row)) {
                *to = loss;
            }
        }
        tally
    }

    #[inline(always)]
    fn run_as<S: Vector, W: Way>(mut self, s: S) -> Tally {
        let mut tally = Tally::new();
        let mut tiles = Tiles { logits: [Tile::EMPTY; BATCH], terms: [Tile::EMPTY; BATCH] };
        let zero = s.splat(0.0);
        let mut groups = [Group::none(s); BATCH];
        let mut references = [Reference::none(s); BATCH];
        let mut sums = [Pair { hi: zero, lo: zero }; BATCH];
        let mut finished = [Finished { sum: sums[0], losses: zero, special: zero }; BATCH];
        let rows = self.terms.rows.count();
        let mut first = 0;
        while first < rows {
            let mut count = 0;
            for group in &mut groups {
                *group = Group::read::<B, W>(s, &self, first);
                first += group.count;
                count += 1;
                if W::ALONG && B::GRADIENT || first >= rows {
                    break;
                }
            }
            for (group, logits) in groups.iter_mut().zip(&mut tiles.logits).take(count) {
                group.bring::<B, W>(s, &self, logits.numbers_mut());
            }
            if W::CLASSES != Some(2) {
                for (group, reference) in groups.iter().zip(&mut references).take(count) {
                    *reference = Reference::new(s, group.of_labels);
                }
            }
            let Tiles { logits, terms } = &mut tiles;
            let sums_of = groups.iter().zip(&mut sums).zip(&references).zip(logits.iter().zip(terms.iter_mut()));
            for (((group, sum), reference), (logits, terms)) in sums_of.take(count) {
                *sum = group.sum::<B, W>(s, &self, reference, logits.numbers(), terms.numbers_mut());
            }
            for ((group, sum), finished) in groups.iter().zip(&sums).zip(&mut finished).take(count) {
                *finished = group.finish(s, *sum);
            }
            let ends_of = groups.iter().zip(&finished).zip(&references).zip(logits.iter().zip(terms.iter_mut()));
            for (((group, finished), reference), (logits, terms)) in ends_of.take(count) {
                let tiles = (logits.numbers(), terms.numbers_mut());
                let losses = group.complete::<B, W>(s, &mut self, reference, finished, tiles);
                tally.add(group.first, part(&losses, 0, group.count));
                if let Some(out) = self.row_losses.as_deref_mut() {
                    copy(part_mut(out, group.first, group.count), &losses);
                }
            }
        }
        tally
    }
}

/// Room for short rows.
struct Tiles {
    logits: [Tile<SHORT_ROW>; BATCH],
    /// Their exponentials, then their gradients.
    terms: [Tile<SHORT_ROW>; BATCH],
}

/// A few rows, one a lane. Vectors come first and are aligned, so that none lies across two lines of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Group<S: Vector> {
    /// The low bits are enough to tell the classes of rows that are seen across.
    labels: S::U,
    /// 0 for rows that do not count.
    weights: S::F,
    /// 1 where f32 cannot hold the weight, as [`Rows::row_weight`] says, else 0.
    lost: S::F,
    of_labels: S::F,
    first: usize,
    count: usize,
    /// The index of the first element of the first row.
    start: usize,
}

/// What the sums of a few rows come to.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Finished<S: Vector> {
    /// E·2^HEADROOM
    sum: Pair<S::F>,
    losses: S::F,
    /// 1 for rows that vectors cannot finish, else 0.
    special: S::F,
}

/// The numbers of rows that are finished one by one.
struct Numbers {
    labels: [usize; VIRTUAL_LANES],
    weights: [f32; VIRTUAL_LANES],
    lost: [f32; VIRTUAL_LANES],
    /// E·2^HEADROOM
    sums: Pair<[f32; VIRTUAL_LANES]>,
    /// What remains of the references.
    rests: Pair<[f32; VIRTUAL_LANES]>,
    shifts: [f32; VIRTUAL_LANES],
    exponents: [f32; VIRTUAL_LANES],
}

impl<S: Vector> Group<S> {
    #[inline(always)]
    fn none(s: S) -> Self {
        let zero = s.splat(0.0);
        Self { first: 0, count: 0, start: 0, labels: s.splat_bits(0), weights: zero, lost: zero, of_labels: zero }
    }

    /// Reads what belongs to the rows from `first` on.
    #[inline(always)]
    fn read<B: Buffers, W: Way>(s: S, whole: &WeightedRows<'_, B>, first: usize) -> Self {
        let rows = whole.terms.rows;
        let count = if W::ALONG && B::GRADIENT && rows.classes() > LONG_ROW {
            1
        } else if W::ALONG || W::TURNED {
            S::LANES.min(rows.count() - first)
        } else {
            S::LANES.min(rows.left_in_sample(first))
        };
        let labels = rows.classes_of(first, count, S::LANES);
        let codes = s.to_bits(s.load(&labels.map(|label| f32::from_bits(label as u32)), 0));
        let (mut weights, mut lost) = (s.splat(1.0), s.splat(0.0));
        if let Some(samples) = rows.sample_weights() {
            weights = load_padded(s, part(samples, first, count), 0, 0.0);
        }
        if !W::TURNED {
            (weights, lost) = row_weights(s, rows, rows.weights_of(s, &labels), weights);
        }
        let mut of_labels = [0.0; VIRTUAL_LANES];
        if !W::TURNED {
            let logits = whole.buffers.logits();
            for ((row, logit), &label) in (first..).zip(&mut of_labels).zip(&labels).take(count) {
                if label != NO_CLASS {
                    *logit = logits.get(rows.element(row, label)).copied().unwrap_or(0.0);
                }
            }
        }
        Self { first, count, start: rows.start(first), labels: codes, weights, lost, of_labels: s.load(&of_labels, 0) }
    }

    /// The rows as vectors see them, in a tile if they are turned.
    #[inline(always)]
    fn view<W: Way>(&self, _: S, rows: &Rows<'_>) -> Across {
        let classes = W::CLASSES.unwrap_or(rows.classes());
        if W::TURNED {
            return Across { start: 0, class_stride: S::LANES, classes, rows: self.count };
        }
        Across { start: self.start, class_stride: rows.positions(), classes, rows: self.count }
    }

    /// Where the rows stand that are to be turned.
    #[inline(always)]
    fn place<W: Way>(&self, rows: &Rows<'_>) -> Place {
        let classes = W::CLASSES.unwrap_or(rows.classes());
        Place { start: self.start, row_stride: rows.start(1), classes, rows: self.count }
    }

    /// Turns rows on their side and finds the logits of their labels.
    #[inline(always)]
    fn bring<B: Buffers, W: Way>(&mut self, s: S, whole: &WeightedRows<'_, B>, tile: &mut [f32]) {
        let rows = whole.terms.rows;
        if W::TURNED {
            self.place::<W>(rows).bring(s, whole.buffers.logits(), tile);
            let short = ShortRows::<S, true> { view: self.view::<W>(s, rows), labels: self.labels };
            let (of_labels, weights) = short.find_labels(s, tile, rows.class_weights());
            self.of_labels = of_labels;
            (self.weights, self.lost) = row_weights(s, rows, weights, self.weights);
        }
    }

    /// E·2^HEADROOM
    #[inline(always)]
    fn sum<B: Buffers, W: Way>(
        &self,
        s: S,
        whole: &WeightedRows<'_, B>,
        reference: &Reference<S::F>,
        logits: &[f32],
        terms: &mut [f32],
    ) -> Pair<S::F> {
        if W::ALONG {
            return self.sum_along(s, whole, reference);
        }
        let view = self.view::<W>(s, whole.terms.rows);
        let logits = if W::TURNED { logits } else { whole.buffers.logits() };
        let labels = self.labels;
        if view.classes == 2 {
            ShortRows::<S, true> { view, labels }.sum_of_two(s, logits)
        } else if B::GRADIENT && W::TURNED {
            ShortRows::<S, true> { view, labels }.sum::<true>(s, logits, reference, terms)
        } else if W::TURNED {
            ShortRows::<S, true> { view, labels }.sum::<false>(s, logits, reference, terms)
        } else {
            ShortRows::<S, false> { view, labels }.sum::<false>(s, logits, reference, terms)
        }
    }

    /// Rows one by one.
    #[inline(always)]
    fn sum_along<B: Buffers>(&self, s: S, whole: &WeightedRows<'_, B>, reference: &Reference<S::F>) -> Pair<S::F> {
        let rows = whole.terms.rows;
        let (mut shifts, mut exponents, mut weights) =
            ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES]);
        s.store(reference.shift, &mut shifts, 0);
        s.store(reference.exponent, &mut exponents, 0);
        s.store(self.weights, &mut weights, 0);
        let zero = s.splat(0.0);
        let (mut hi, mut lo) = ([zero; VIRTUAL_LANES], [zero; VIRTUAL_LANES]);
        for lane in 0..self.count.min(S::LANES) {
            let Some(skip) = rows.class(self.first + lane).filter(|_| weights[lane] != 0.0) else { continue };
            let from = whole.buffers.logits().get(rows.start(self.first + lane)..).unwrap_or(&[]);
            let scale = Scale { shift: shifts[lane], power: HEADROOM - exponents[lane] };
            if !S::WIDE {
                // There is one row, and a lane has its own way.
                let sum = excluded_sum(s, part(from, 0, rows.classes()), skip, HEADROOM);
                return Pair { hi: s.splat(sum.hi), lo: s.splat(sum.lo) };
            }
            let sums = s.run(ExcludedSum { from, len: rows.classes(), skip, scale });
            for vector in 0..S::GROUPS {
                hi[lane * S::GROUPS + vector] = s.load(&sums.hi, vector * S::LANES);
                lo[lane * S::GROUPS + vector] = s.load(&sums.lo, vector * S::LANES);
            }
        }
        let sum = refined(s, across_lanes_of_rows(s, hi, lo), reference.exponent, HEADROOM);
        pair::product(s, sum, reference.rest)
    }

    /// The losses of rows whose E·2^HEADROOM is known.
    #[inline(always)]
    fn finish(&self, s: S, sum: Pair<S::F>) -> Finished<S> {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        let log = log1p(s, pair::scaled(s, sum, UNDO_HEADROOM));
        let loss = weighed(s, minus_log_p(s, sum, log), self.weights, UNDO_HEADROOM);
        let nothing = s.equal(s.add(magnitude(s, self.weights), self.lost), zero);
        let special = s.select(s.less(sum.hi, s.splat(f32::INFINITY)), self.lost, one);
        let special = s.select(s.less(sum.hi, s.splat(TINY_SUM)), one, special);
        Finished { sum, losses: s.select(nothing, zero, loss), special: s.select(nothing, zero, special) }
    }

    /// Writes the gradient and finishes what vectors cannot.
    #[inline(always)]
    fn complete<B: Buffers, W: Way>(
        &self,
        s: S,
        whole: &mut WeightedRows<'_, B>,
        reference: &Reference<S::F>,
        finished: &Finished<S>,
        tiles: (&[f32], &mut [f32]),
    ) -> [f32; VIRTUAL_LANES] {
        let mut losses = [0.0; VIRTUAL_LANES];
        s.store(finished.losses, &mut losses, 0);
        let one = s.splat(1.0);
        let mut special = finished.special;
        if B::GRADIENT {
            special = if W::ALONG { one } else { self.write_across::<B, W>(s, whole, reference, finished, tiles) };
        }
        if s.any_bit(s.to_bits(special)) {
            let numbers = self.numbers(s, whole, finished, &Reference::new(s, self.of_labels));
            let mut kinds = [0.0; VIRTUAL_LANES];
            s.store(special, &mut kinds, 0);
            for (lane, _) in kinds.into_iter().enumerate().take(self.count).filter(|(_, kind)| *kind == 1.0) {
                // It is below that either way; only so can every compiler see it.
                let lane = lane % VIRTUAL_LANES;
                if whole.terms.rows.positions() == 1 {
                    self.finish_row(s, whole, lane, &numbers, &mut losses[lane]);
                } else {
                    let known = numbers.loss_is_known(lane);
                    self.finish_row_in_f64(whole, lane, (!known).then_some(&mut losses[lane]));
                }
            }
        }
        losses
    }

    /// Writes the gradients of the rows that are nothing special, all at once, and returns which are.
    #[inline(always)]
    fn write_across<B: Buffers, W: Way>(
        &self,
        s: S,
        whole: &mut WeightedRows<'_, B>,
        reference: &Reference<S::F>,
        finished: &Finished<S>,
        (logits, terms): (&[f32], &mut [f32]),
    ) -> S::F {
        let view = self.view::<W>(s, whole.terms.rows);
        let rows = ShortRows::<S, false> { view, labels: self.labels };
        let (zero, one, undo) = (s.splat(0.0), s.splat(1.0), s.splat(UNDO_HEADROOM));
        let (factor, out_of_range) = self.factors(s, whole);
        let special = s.select(s.equal(out_of_range, one), one, finished.special);
        let nothing = s.equal(s.add(magnitude(s, factor.hi), out_of_range), zero);
        let sum = finished.sum;
        let share = pair::over_one_plus(s, factor, pair::scaled(s, sum, UNDO_HEADROOM));
        // Where the sum is large, too little may be left of it.
        let least = s.splat(4.0 * f32::MIN_POSITIVE * APPLY_HEADROOM);
        let special = s.select(s.less(magnitude(s, share.hi), least), one, special);
        // 0·∞ = 0; and without a gradient there still is a loss.
        let infinite = s.select(s.less(sum.hi, s.splat(f32::INFINITY)), finished.special, one);
        let special = s.select(nothing, infinite, special);
        let is_special = s.equal(special, one);
        let miss = s.mul_add(share.hi, sum.hi, s.mul_add(share.lo, sum.hi, s.mul(share.hi, sum.lo)));
        let miss = s.select(nothing, zero, s.mul(miss, undo));
        let at_label = s.select(nothing, zero, s.sub(zero, miss));
        let of_term = s.select(nothing, zero, s.mul(pair::product(s, share, reference.rest).hi, undo));
        let term = reference.term(s);
        for class in 0..view.classes {
            let own = if view.classes == 2 {
                miss
            } else if W::TURNED {
                s.mul(s.load(terms, class * S::LANES), of_term)
            } else {
                s.mul(term.of(s, view.load(s, whole.buffers.logits(), class, 0.0)), of_term)
            };
            let mut value = s.select(rows.is_label(s, class), at_label, own);
            if W::TURNED {
                s.store(value, terms, class * S::LANES);
            } else {
                // Rows that are something special are still needed as they are.
                value = s.select(is_special, view.load(s, whole.buffers.logits(), class, 0.0), value);
                view.store(s, value, whole.buffers.gradients(), class);
            }
        }
        if W::TURNED {
            if s.any_bit(s.to_bits(special)) {
                for class in 0..view.classes {
                    let at = class * S::LANES;
                    s.store(s.select(is_special, s.load(logits, at), s.load(terms, at)), terms, at);
                }
            }
            self.place::<W>(whole.terms.rows).send(s, terms, whole.buffers.gradients());
        }
        special
    }

    /// What the gradient of each row is multiplied by, and 1 where that could leave the range of f32 on the way.
    #[inline(always)]
    fn factors<B: Buffers>(&self, s: S, whole: &WeightedRows<'_, B>) -> (Pair<S::F>, S::F) {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        let mut held = true;
        let scale = match whole.scale {
            GradientScale::Same(scale) => {
                let hi = scale as f32;
                held = HELD_IN_TWO.contains(&hi.abs());
                Pair { hi: s.splat(hi), lo: s.splat((scale - f64::from(hi)) as f32) }
            }
            GradientScale::Rows(factors) => {
                Pair { hi: load_padded(s, part(factors, self.first, self.count), 0, 0.0), lo: zero }
            }
        };
        let product = two_prod(s, self.weights, scale.hi);
        let factor = Pair { hi: product.hi, lo: s.mul_add(self.weights, scale.lo, product.lo) };
        let size = magnitude(s, factor.hi);
        // A term that has become 0 in spite of its headroom is to be nothing times the factor too.
        let outside = s.select(s.less(size, s.splat(1e12)), if held { self.lost } else { one }, one);
        let outside = s.select(s.less(size, s.splat(1e-18)), one, outside);
        // A product that underflows is not 0, nor is a scale that f32 cannot hold.
        let nothing = match whole.scale {
            GradientScale::Same(scale) => s.splat(if scale == 0.0 { 0.0 } else { 1.0 }),
            GradientScale::Rows(_) => scale.hi,
        };
        let at_stake = s.add(magnitude(s, self.weights), self.lost);
        let nothing = s.select(s.equal(at_stake, zero), zero, nothing);
        let nothing = s.equal(nothing, zero);
        (pair::select(s, nothing, Pair { hi: zero, lo: zero }, factor), s.select(nothing, zero, outside))
    }

    #[inline(always)]
    fn numbers<B: Buffers>(
        &self,
        s: S,
        whole: &WeightedRows<'_, B>,
        finished: &Finished<S>,
        reference: &Reference<S::F>,
    ) -> Numbers {
        let zeros = [0.0; VIRTUAL_LANES];
        let mut numbers = Numbers {
            labels: whole.terms.rows.classes_of(self.first, self.count, S::LANES),
            weights: zeros,
            lost: zeros,
            sums: Pair { hi: zeros, lo: zeros },
            rests: Pair { hi: zeros, lo: zeros },
            shifts: zeros,
            exponents: zeros,
        };
        s.store(self.weights, &mut numbers.weights, 0);
        s.store(self.lost, &mut numbers.lost, 0);
        s.store(finished.sum.hi, &mut numbers.sums.hi, 0);
        s.store(finished.sum.lo, &mut numbers.sums.lo, 0);
        s.store(reference.rest.hi, &mut numbers.rests.hi, 0);
        s.store(reference.rest.lo, &mut numbers.rests.lo, 0);
        s.store(reference.shift, &mut numbers.shifts, 0);
        s.store(reference.exponent, &mut numbers.exponents, 0);
        numbers
    }

    /// Finishes a row of classes side by side whose loss vectors have computed where they can.
    #[inline(always)]
    fn finish_row<B: Buffers>(
        &self,
        s: S,
        whole: &mut WeightedRows<'_, B>,
        lane: usize,
        numbers: &Numbers,
        loss: &mut f32,
    ) {
        let (start, classes) = (whole.terms.rows.start(self.first + lane), whole.terms.rows.classes());
        let (label, weight, sum) = (numbers.labels[lane], numbers.weights[lane], numbers.sums.hi[lane]);
        let mut gradient = RowGradient { share: Share::Undefined, label, factor: 0.0, miss: 0.0 };
        if B::GRADIENT && weight != 0.0 {
            gradient.factor = whole.scale.of_row(self.first + lane) * f64::from(weight);
        }
        if numbers.lost[lane] == 1.0 {
            return self.finish_row_in_f64(whole, lane, Some(loss));
        }
        if weight != 0.0 {
            if B::GRADIENT {
                let in_f64 = |of: &Pair<[f32; VIRTUAL_LANES]>| f64::from(of.hi[lane]) + f64::from(of.lo[lane]);
                let plain = in_f64(&numbers.sums) * f64::from(UNDO_HEADROOM);
                gradient.share = Share::Spread {
                    shift: numbers.shifts[lane],
                    exponent: numbers.exponents[lane],
                    share: in_f64(&numbers.rests) / (1.0 + plain),
                };
                gradient.miss = plain / (1.0 + plain);
            }
            let row = part(whole.buffers.logits(), start, classes);
            if sum < TINY_SUM {
                let tiny = s.run(TinyRow { row, label });
                let (value, weight, unit) = tiny_parts(s.lane(), tiny, weight);
                *loss = weighed(s.lane(), value, weight, unit);
                gradient.miss = tiny_sum_in_f64(tiny);
            } else if !sum.is_finite() {
                let rare = s.run(RareRow { row, label });
                *loss = rare_loss(s.lane(), &rare, weight);
                if B::GRADIENT {
                    gradient.share = rare.share(s, row);
                }
                gradient.miss = 1.0;
            }
        }
        if B::GRADIENT && gradient.factor.abs() > LARGEST_FACTOR {
            self.finish_row_in_f64(whole, lane, None);
        } else if B::GRADIENT {
            write_gradient(s, &mut whole.buffers, start, classes, &gradient);
        }
    }

    /// The same for a row whose classes do not stand side by side, its loss where vectors have none.
    fn finish_row_in_f64<B: Buffers>(&self, whole: &mut WeightedRows<'_, B>, lane: usize, loss: Option<&mut f32>) {
        let (terms, row) = (whole.terms, self.first + lane);
        let sample = f64::from(terms.rows.sample_weight(row));
        if f64::from(terms.own(terms.rows.class(row))) * sample == 0.0 {
            for class in 0..terms.rows.classes() {
                if let Some(to) = whole.buffers.gradients().get_mut(terms.rows.element(row, class)) {
                    *to = 0.0;
                }
            }
            return;
        }
        let logits = Logits::F32(whole.buffers.logits());
        if let Some(loss) = loss {
            *loss = RowInF64::loss_of_row(terms, row, logits);
        }
        if B::GRADIENT {
            let in_f64 = RowInF64::new(terms, row, logits);
            let (logits, gradient) = whole.buffers.split();
            in_f64.write_gradient(logits, gradient, whole.scale.of_row(row) * sample);
        }
    }
}

impl Numbers {
    /// Whether vectors have the loss of a row, which may still lack its gradient.
    #[inline(always)]
    fn loss_is_known(&self, lane: usize) -> bool {
        self.lost[lane] == 0.0 && (TINY_SUM..f32::INFINITY).contains(&self.sums.hi[lane])
    }
}

/// What a pair of f32 holds, with room for what the second lacks.
const HELD_IN_TWO: core::ops::Range<f32> = 1e-30..f32::INFINITY;

/// The whole weights of rows from those of class and sample, and 1 where f32 cannot hold them, as [`Rows::row_weight`] has
/// them one by one.
#[inline(always)]
fn row_weights<S: Vector>(s: S, rows: &Rows<'_>, of_class: S::F, of_sample: S::F) -> (S::F, S::F) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    if rows.sample_weights().is_none() {
        return (of_class, zero);
    }
    let product = s.mul(of_class, of_sample);
    let size = magnitude(s, product);
    let lost = s.select(s.less(size, s.splat(WEIGHTS_OF_ROWS.end)), zero, one);
    let lost = s.select(s.less(size, s.splat(WEIGHTS_OF_ROWS.start)), one, lost);
    let lost = s.select(s.equal(of_class, zero), zero, lost);
    (product, s.select(s.equal(of_sample, zero), zero, lost))
}

/// log(1 + E)·2^HEADROOM, from E·2^HEADROOM and log(1 + E).
#[inline(always)]
pub(crate) fn minus_log_p<S: Vector>(s: S, sum: Pair<S::F>, log1p: Pair<S::F>) -> Pair<S::F> {
    // Where E is small the logarithm is E itself, which may be too small to be held without the headroom.
    let small = s.less(s.mul(sum.hi, s.splat(UNDO_HEADROOM)), s.splat(1e-12));
    pair::select(s, small, sum, pair::scaled(s, log1p, APPLY_HEADROOM))
}

/// weight·value·`unit` for a value that is held in units of the power of two `unit`, rounded once unless it
/// leaves the normal range on the way out.
#[inline(always)]
pub(crate) fn weighed<S: Vector>(s: S, value: Pair<S::F>, weight: S::F, unit: f32) -> S::F {
    // The unit goes to the factor that has room for it: where it is above 1 that is the product.
    let one = s.splat(1.0);
    let light = s.less(magnitude(s, weight), s.splat(if unit > 1.0 { f32::INFINITY } else { 1.0 }));
    let unit = s.splat(unit);
    let weight = s.mul(weight, s.select(light, one, unit));
    let p = two_prod(s, weight, value.hi);
    let rounded = s.add(p.hi, s.mul_add(weight, value.lo, p.lo));
    // An overflow has no error term.
    let finite = s.less(magnitude(s, p.hi), s.splat(f32::INFINITY));
    s.mul(s.select(finite, rounded, p.hi), s.select(light, unit, one))
}
