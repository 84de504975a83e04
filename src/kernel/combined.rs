//! Every loss of logits but the plain weighted one over `[N, C]`: what [`Terms`] has, in vectors.
//!
//! The reference class is the largest logit m. With E = Σ_{k≠m} exp(x_k − x_m), −log p_m = log(1 + E), and every other
//! p_k is at most ½, where 1 − p_k loses nothing. For m itself 1 − p_m = E/(1 + E), so that −log(1 − p_m) = log(1 + 1/E)
//! however confident the prediction. In the gradient, with σ_j = fp[y,j]·p_j/(1 − p_j), σ_m grows without bound while
//! p_i·σ_m stays what it is: fp[y,m]·p_m·(e_i/E). Only such products are computed.

use super::from_largest::{Adjusted, FromLargest, SUMS, adjusted};
use super::log1p::log1p;
use super::long_rows::{APPLY_HEADROOM, UNDO_HEADROOM};
use super::narrow_rows::NarrowRow;
use super::pair::{self, Pair, fast_two_sum, magnitude, scaled, two_sum};
use super::terms::{RowInF64, Terms};
use super::tile::{Place, Tile, bring_rows};
use super::views::{SHORT_ROW_OF_MANY_SUMS, Seen, Sums, View, numbers};
use super::weighted::weighed;
use super::{VIRTUAL_LANES, copy, part, part_mut};
use crate::backend::vector::{Operation, Vector};
use crate::logits::Logits;
use crate::reduction::{GradientScale, Tally};

/// The loss of every row, and its gradient if `GRADIENT`. Everything has been validated.
pub(crate) struct CombinedRows<'a, const GRADIENT: bool> {
    pub(crate) terms: &'a Terms<'a>,
    /// The logits, f32 where there is a gradient, unless it is written over them.
    pub(crate) logits: Option<Logits<'a>>,
    pub(crate) gradient: &'a mut [f32],
    pub(crate) row_losses: Option<&'a mut [f32]>,
    pub(crate) scale: GradientScale<'a>,
}

impl<const GRADIENT: bool> Operation for CombinedRows<'_, GRADIENT> {
    type Output = Tally;

    #[inline(always)]
    fn run<S: Vector>(mut self, s: S) -> Tally {
        let mut tally = Tally::new();
        let rows = self.terms.rows;
        let mut tiles = Tiles { logits: Tile::EMPTY, soft: Tile::EMPTY, costs: Tile::EMPTY };
        let mut first = 0;
        while first < rows.count() {
            let mut group = Group { first, whole: &mut self, tiles: &mut tiles, turned: false };
            let narrow = group.whole.logits.filter(|logits| !GRADIENT && logits.as_f32().is_none());
            let (taken, losses) = match Seen::new(s, rows, first) {
                _ if let Some(logits) = narrow => (1, group.run(s, NarrowRow::new(rows, first, logits), None)),
                Seen::Across(view) => (view.rows, group.run(s, view, None)),
                Seen::Turned(place) => (place.rows, group.run_turned(s, place)),
                Seen::Along(view) => (1, group.run(s, view, None)),
            };
            tally.add(first, part(&losses, 0, taken));
            if let Some(out) = self.row_losses.as_deref_mut() {
                copy(part_mut(out, first, taken), &losses);
            }
            first += taken;
        }
        tally
    }
}

/// The rows of one view.
struct Group<'g, 'a, const GRADIENT: bool> {
    first: usize,
    whole: &'g mut CombinedRows<'a, GRADIENT>,
    tiles: &'g mut Tiles,
    /// Whether what is shaped as the logits stands in the tiles.
    turned: bool,
}

type ManySums = Tile<SHORT_ROW_OF_MANY_SUMS>;

/// Room for short rows.
struct Tiles {
    /// Then the gradient.
    logits: ManySums,
    soft: ManySums,
    /// fp of the label of each row
    costs: ManySums,
}

/// Numbers of the rows that do not depend on the logits, but for the label's.
struct Given {
    labels: [usize; VIRTUAL_LANES],
    /// a
    own: [f32; VIRTUAL_LANES],
    /// s; 0 where the row does not count.
    samples: [f32; VIRTUAL_LANES],
    /// The logit and the u of the label.
    logits: [f32; VIRTUAL_LANES],
    spread: [f32; VIRTUAL_LANES],
    /// What the gradient is multiplied by.
    factors: [f64; VIRTUAL_LANES],
}

/// What the u of a row add up to.
struct Spread<S: Vector> {
    /// Σ u·(x_m − x)/2
    gaps: Pair<S::F>,
    /// U
    sum: Pair<S::F>,
    /// Σ |u|
    size: S::F,
}

impl<S: Vector> Spread<S> {
    /// U·p − u of the largest is (U − u) − U·(1 − p) where p is near 1. Here is what does not depend on u.
    #[inline(always)]
    fn base(&self, s: S, p: S::F, q: S::F) -> S::F {
        let zero = s.splat(0.0);
        s.mul(self.sum.hi, s.select(s.less(q, p), s.sub(zero, q), p))
    }

    /// And what does.
    #[inline(always)]
    fn rest(&self, s: S, u: S::F, p: S::F, q: S::F) -> S::F {
        let others = s.add(s.sub(self.sum.hi, u), self.sum.lo);
        s.select(s.less(q, p), others, s.sub(s.splat(0.0), u))
    }
}

/// What the mislabel costs of a row add up to.
struct Costs<S: Vector> {
    /// Σ −fp·log(1 − p)·2^HEADROOM over the others
    others: Pair<S::F>,
    /// Σ fp·p/(1 − p) over the others
    odds: S::F,
    /// Σ fp of the largest
    of_largest: S::F,
    size: S::F,
}

/// Beyond these a factor of the gradient could leave the range of f32 on the way.
const FACTORS: core::ops::RangeInclusive<f64> = 1e-18..=1e12;
/// The same for the weight of a row.
const WEIGHTS: core::ops::RangeInclusive<f32> = 1e-18..=1e18;

impl<const GRADIENT: bool> Group<'_, '_, GRADIENT> {
    /// The logits as they are given.
    #[inline(always)]
    fn raw(&self) -> Logits<'_> {
        self.whole.logits.unwrap_or(Logits::F32(self.whole.gradient))
    }

    /// The same as the view sees them, where they are f32.
    #[inline(always)]
    fn seen(&self) -> &[f32] {
        if self.turned { self.tiles.logits.numbers() } else { self.raw().as_f32().unwrap_or(&[]) }
    }

    #[inline(always)]
    fn logits(&self) -> Adjusted<'_> {
        Adjusted { numbers: self.seen(), adjustment: &self.whole.terms.adjustment }
    }

    /// Rows that are turned on their side first.
    #[inline(always)]
    fn run_turned<S: Vector>(&mut self, s: S, place: Place) -> [f32; VIRTUAL_LANES] {
        self.turned = true;
        let logits = self.whole.logits.unwrap_or(Logits::F32(self.whole.gradient));
        place.bring(s, logits.as_f32().unwrap_or(&[]), self.tiles.logits.numbers_mut());
        if let Some(soft) = self.whole.terms.soft {
            place.bring(s, soft, self.tiles.soft.numbers_mut());
        }
        self.run(s, place.view(s), Some(place))
    }

    /// What the classes of vector `i` cost the rows.
    #[inline(always)]
    fn cost_of<S: Vector, V: View<S>>(&self, s: S, view: V, matrix: &[f32], given: &Given, i: usize) -> S::F {
        if costs_in_tile(s, view) {
            s.load(self.tiles.costs.numbers(), i * S::LANES)
        } else {
            view.of_labels(s, matrix, &given.labels, i)
        }
    }

    #[inline(always)]
    fn run<S: Vector, V: View<S>>(&mut self, s: S, view: V, place: Option<Place>) -> [f32; VIRTUAL_LANES] {
        let terms = self.whole.terms;
        let (zero, half, one) = (s.splat(0.0), s.splat(0.5), s.splat(1.0));
        let given = self.given(view.rows());
        if let Some(matrix) = terms.costs.filter(|_| costs_in_tile(s, view)) {
            let classes = terms.rows.classes();
            bring_rows(
                s,
                matrix,
                view.rows(),
                #[inline(always)]
                |row| given.labels.get(row).map_or(0, |label| label * classes),
                classes,
                self.tiles.costs.numbers_mut(),
            );
        }
        let found = FromLargest::new(s, view, self.logits());
        let spread = self.spread(s, view, found.largest);

        // log(1 + E), and the share of each exponential in the whole.
        let plain = found.plain(s);
        let log = log1p(s, plain);
        let all = s.add(one, plain.hi);
        let of_all = s.div(s.mul(found.rest.hi, s.splat(UNDO_HEADROOM)), all);

        // −log p_y in halves, which cannot overflow, and p_y, 1 − p_y.
        let (own, of_label) = (view.of_rows(s, &given.own), view.of_rows(s, &given.logits));
        let gap = two_sum(s, s.mul(found.largest, half), s.sub(zero, s.mul(of_label, half)));
        let half_log = scaled(s, log, 0.5);
        let label_loss = sum(s, gap, half_log);
        let e_label = found.term.of(s, of_label);
        let label_is_largest = s.equal(of_label, found.largest);
        let p_largest = s.div(one, all);
        let q_largest = s.div(plain.hi, all);
        let p_label = s.select(label_is_largest, p_largest, s.mul(e_label, of_all));
        let q_label = s.select(label_is_largest, q_largest, s.sub(one, p_label));

        // The weights of the label in loss and gradient.
        let (mut of_loss, mut of_gradient) = (own, own);
        if terms.focal != 0.0 {
            (of_loss, of_gradient) = self.focal(s, view, &given, label_loss);
        }
        let mut loss = pair::product(s, label_loss, Pair { hi: of_loss, lo: zero });
        loss = pair::select(s, s.equal(of_loss, zero), Pair { hi: zero, lo: zero }, loss);
        if terms.spread() {
            let evenly = pair::product(s, spread.sum, half_log);
            loss = sum(s, loss, sum(s, spread.gaps, evenly));
        }
        let whole = s.add(own, spread.sum.hi);
        let mut of_p = zero;
        if terms.z_loss != 0.0 {
            let lse = s.add(found.largest, log.hi);
            let weight = s.mul(whole, s.splat(terms.z_loss));
            let z = s.mul(s.mul(weight, lse), s.mul(lse, half));
            loss = sum(s, loss, Pair { hi: s.select(s.equal(weight, zero), zero, z), lo: zero });
            of_p = s.mul(s.add(weight, weight), lse);
        }
        let mut size = s.add(magnitude(s, own), spread.size);
        let mut costs = Costs { others: loss, odds: zero, of_largest: zero, size: zero };
        if let Some(matrix) = terms.costs {
            costs = self.costs(s, view, &given, matrix, &found, of_all);
            size = s.add(size, costs.size);
            let inverse = s.div(s.splat(APPLY_HEADROOM), found.excluded.hi);
            let certainty = log1p(s, Pair { hi: inverse, lo: zero });
            let of_largest = s.mul(s.mul(costs.of_largest, half), certainty.hi);
            let of_largest = s.select(s.equal(costs.of_largest, zero), zero, of_largest);
            loss = sum(s, loss, Pair { hi: of_largest, lo: zero });
            loss = sum(s, loss, scaled(s, costs.others, UNDO_HEADROOM * 0.5));
            of_p = s.sub(of_p, costs.odds);
        }
        let loss = weighed(s, loss, view.of_rows(s, &given.samples), 2.0);

        // Which rows the vectors have finished.
        let mut losses = numbers(s, view, loss);
        let (sizes, sums) = (numbers(s, view, size), numbers(s, view, found.excluded.hi));
        let mut kinds = [Kind::Finished; VIRTUAL_LANES];
        let mut all_finished = true;
        for lane in 0..view.rows().min(VIRTUAL_LANES) {
            let factor = given.factors[lane];
            kinds[lane] = if given.samples[lane] == 0.0 || sizes[lane] == 0.0 {
                losses[lane] = 0.0;
                Kind::Zero
            } else if !SUMS.contains(&sums[lane])
                || !losses[lane].is_finite()
                || !WEIGHTS.contains(&(sizes[lane] * given.samples[lane]))
                || GRADIENT && factor != 0.0 && !FACTORS.contains(&factor.abs())
            {
                Kind::InF64
            } else {
                Kind::Finished
            };
            all_finished &= kinds[lane] == Kind::Finished && factor != 0.0;
        }

        if GRADIENT {
            let mut factors = [0.0; VIRTUAL_LANES];
            for (to, from) in factors.iter_mut().zip(&given.factors) {
                *to = *from as f32;
            }
            let factor = view.of_rows(s, &factors);
            let inverse = s.div(s.splat(APPLY_HEADROOM), found.excluded.hi);
            let of_others = s.mul(costs.of_largest, p_largest);
            let (term, undo) = found.enlarged(s, costs.of_largest);
            let of_all = s.mul(of_all, undo);
            let e_label = term.of(s, of_label);
            // Every element but those of the label and the largest: exp(x)·this − u·factor + fp·p/(1 − p)·factor.
            let of_row = OfTerm { found: &found, undo, spread: &spread, of_gradient, of_p, costs: &costs };
            let (of_term, without_own, share) = of_row.times(s, view, &given.factors);
            // That of the largest, which the label may be: this + (… + p·(fp − (Σ fp of the largest − fp)/E))·factor.
            let base = s.mul_add(p_largest, of_p, spread.base(s, p_largest, q_largest));
            let of_largest = s.mul(s.mul_add(p_largest, of_gradient, base), factor);
            let u = view.of_rows(s, &given.spread);
            let rest = s.sub(spread.rest(s, u, p_largest, q_largest), s.mul(of_others, inverse));
            let label_largest = s.mul(s.add(s.sub(base, s.mul(of_gradient, q_label)), rest), factor);
            let direct = s.mul(s.add(s.mul(of_gradient, q_label), u), factor);
            let label_other = s.sub(s.mul(e_label, without_own), direct);
            let of_label = numbers(s, view, s.select(label_is_largest, label_largest, label_other));

            let keep = if all_finished { None } else { Some(kinds.map(|kind| f32::from(kind == Kind::InF64))) };
            let keep = keep.map(|keep| s.equal(view.of_rows(s, &keep), one));
            for i in 0..view.vectors() {
                let raw = view.load(s, self.seen(), i, f32::NEG_INFINITY);
                let x = adjusted(s, view, &terms.adjustment, raw, i);
                let e = term.of(s, x);
                let is_largest = s.equal(x, found.largest);
                let mut value = s.mul(e, of_term);
                let mut at_largest = of_largest;
                if terms.spread() {
                    let u = self.spread_of(s, view, i);
                    value = s.sub(value, s.mul(u, factor));
                    at_largest = s.mul_add(spread.rest(s, u, p_largest, q_largest), factor, at_largest);
                }
                if let Some(matrix) = terms.costs {
                    let cost = self.cost_of(s, view, matrix, &given, i);
                    let own = s.mul(e, s.mul(cost, share));
                    value = s.add(value, s.div(own, s.sub(one, s.mul(e, of_all))));
                    let of_tied = s.mul(s.sub(costs.of_largest, cost), inverse);
                    let beyond = s.mul(s.sub(cost, of_tied), p_largest);
                    at_largest = s.mul_add(beyond, factor, at_largest);
                }
                let value = s.select(is_largest, at_largest, value);
                let value = keep.map_or(value, |keep| s.select(keep, raw, value));
                let to = if self.turned { self.tiles.logits.numbers_mut() } else { &mut *self.whole.gradient };
                view.store(s, value, to, i);
            }
            if let Some(place) = place {
                place.send(s, self.tiles.logits.numbers(), self.whole.gradient);
            }
            for lane in 0..view.rows().min(VIRTUAL_LANES) {
                if kinds[lane] != Kind::Finished || given.factors[lane] == 0.0 {
                    continue;
                }
                let row = self.first + lane;
                if let Some(label) = terms.rows.class(row)
                    && let Some(to) = self.whole.gradient.get_mut(terms.rows.element(row, label))
                {
                    *to = of_label[lane];
                }
            }
        }
        if !all_finished {
            self.finish_in_f64(&given, &kinds, &mut losses, view.rows());
        }
        losses
    }

    /// The rows that the vectors have not finished.
    fn finish_in_f64(
        &mut self,
        given: &Given,
        kinds: &[Kind; VIRTUAL_LANES],
        losses: &mut [f32; VIRTUAL_LANES],
        count: usize,
    ) {
        let terms = self.whole.terms;
        for lane in 0..count.min(VIRTUAL_LANES) {
            let (row, factor) = (self.first + lane, given.factors[lane]);
            let in_f64 = kinds[lane] == Kind::InF64;
            if in_f64 {
                let this = RowInF64::new(terms, row, self.raw());
                losses[lane] = (this.loss(self.raw()) * f64::from(given.samples[lane])) as f32;
                if GRADIENT && factor != 0.0 {
                    let logits = self.whole.logits.and_then(|logits| logits.as_f32());
                    this.write_gradient(logits, self.whole.gradient, factor);
                }
            }
            if GRADIENT && (kinds[lane] == Kind::Zero || factor == 0.0) {
                for class in 0..terms.rows.classes() {
                    if let Some(to) = self.whole.gradient.get_mut(terms.rows.element(row, class)) {
                        *to = 0.0;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn given(&self, count: usize) -> Given {
        let terms = self.whole.terms;
        let mut given = Given {
            labels: [0; VIRTUAL_LANES],
            own: [0.0; VIRTUAL_LANES],
            samples: [0.0; VIRTUAL_LANES],
            logits: [0.0; VIRTUAL_LANES],
            spread: [0.0; VIRTUAL_LANES],
            factors: [0.0; VIRTUAL_LANES],
        };
        for lane in 0..count.min(VIRTUAL_LANES) {
            let row = self.first + lane;
            if !terms.rows.counts(row) {
                continue;
            }
            given.samples[lane] = terms.rows.sample_weight(row);
            if GRADIENT {
                let factor = self.whole.scale.of_row(row) * f64::from(given.samples[lane]);
                given.factors[lane] = factor / f64::from(terms.adjustment.temperature);
            }
            let label = terms.rows.class(row);
            given.own[lane] = terms.own(label);
            if let Some(label) = label {
                let logit = self.raw().number(terms.rows.element(row, label)).unwrap_or(0.0);
                given.labels[lane] = label;
                given.logits[lane] = terms.adjustment.apply(logit, label);
                given.spread[lane] = if terms.spread() { terms.rows.weight(label) * terms.evenly() } else { 0.0 };
            }
        }
        given
    }

    /// u
    #[inline(always)]
    fn spread_of<S: Vector, V: View<S>>(&self, s: S, view: V, i: usize) -> S::F {
        let terms = self.whole.terms;
        let weight = view.of_classes(s, terms.rows.class_weights(), i);
        let evenly = s.splat(terms.evenly());
        match terms.soft {
            Some(soft) => s.mul(
                weight,
                s.mul_add(
                    view.load(s, if self.turned { self.tiles.soft.numbers() } else { soft }, i, 0.0),
                    s.splat(terms.kept() as f32),
                    evenly,
                ),
            ),
            None => s.mul(weight, evenly),
        }
    }

    #[inline(always)]
    fn spread<S: Vector, V: View<S>>(&self, s: S, view: V, largest: S::F) -> Spread<S> {
        let (mut gaps, mut sum, mut size) = (Sums::new(s), Sums::new(s), Sums::new(s));
        if self.whole.terms.spread() {
            let (zero, half) = (s.splat(0.0), s.splat(0.5));
            let half_largest = s.mul(largest, half);
            for i in 0..view.vectors() {
                let u = self.spread_of(s, view, i);
                let gap = s.mul(u, s.sub(half_largest, s.mul(self.logits().load(s, view, i), half)));
                gaps.add(s, view.group(i), s.select(s.equal(u, zero), zero, gap));
                sum.add(s, view.group(i), u);
                size.add(s, view.group(i), magnitude(s, u));
            }
        }
        Spread { gaps: view.total(s, &gaps), sum: view.total(s, &sum), size: view.total(s, &size).hi }
    }

    #[inline(always)]
    fn costs<S: Vector, V: View<S>>(
        &self,
        s: S,
        view: V,
        given: &Given,
        matrix: &[f32],
        found: &FromLargest<S>,
        of_all: S::F,
    ) -> Costs<S> {
        let (zero, one, up) = (s.splat(0.0), s.splat(1.0), s.splat(APPLY_HEADROOM));
        let (mut others, mut odds, mut of_largest, mut size) = (Sums::new(s), Sums::new(s), Sums::new(s), Sums::new(s));
        let scaled_share = s.mul(of_all, up);
        for i in 0..view.vectors() {
            let x = self.logits().load(s, view, i);
            let cost = self.cost_of(s, view, matrix, given, i);
            let is_largest = s.equal(x, found.largest);
            let e = s.select(is_largest, zero, found.term.of(s, x));
            let p = s.mul(e, of_all);
            let log = s.mul(s.sub(zero, log1p(s, Pair { hi: s.sub(zero, p), lo: zero }).hi), up);
            // Where p is small the logarithm is p itself, which may be too small to be held without the headroom.
            let log = s.select(s.less(p, s.splat(1e-12)), s.mul(e, scaled_share), log);
            let group = view.group(i);
            others.add(s, group, s.mul(cost, log));
            odds.add(s, group, s.mul(cost, s.div(p, s.sub(one, p))));
            of_largest.add(s, group, s.select(is_largest, cost, zero));
            size.add(s, group, cost);
        }
        Costs {
            others: view.total(s, &others),
            odds: view.total(s, &odds).hi,
            of_largest: view.total(s, &of_largest).hi,
            size: view.total(s, &size).hi,
        }
    }

    /// The weights of −log p_y in the loss and of p_i − [i = y] in the gradient, by the focal factor.
    #[inline(always)]
    fn focal<S: Vector, V: View<S>>(&self, s: S, view: V, given: &Given, half_loss: Pair<S::F>) -> (S::F, S::F) {
        let (hi, lo) = (numbers(s, view, half_loss.hi), numbers(s, view, half_loss.lo));
        let (mut of_loss, mut of_gradient) = ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES]);
        for lane in 0..view.rows().min(VIRTUAL_LANES) {
            // As −log p_y has it the hit and the miss are more exact than f32 could hold them.
            let loss = 2.0 * (f64::from(hi[lane]) + f64::from(lo[lane]));
            let (hit, miss) = (libm::exp(-loss), -libm::expm1(-loss));
            let (a, b) = self.whole.terms.focal_factors(miss, hit, loss);
            of_loss[lane] = (a * f64::from(given.own[lane])) as f32;
            of_gradient[lane] = (b * f64::from(given.own[lane])) as f32;
        }
        (view.of_rows(s, &of_loss), view.of_rows(s, &of_gradient))
    }
}

/// What the exponential of a class is multiplied by in the gradient, made of these.
struct OfTerm<'f, S: Vector> {
    found: &'f FromLargest<S>,
    undo: S::F,
    spread: &'f Spread<S>,
    of_gradient: S::F,
    of_p: S::F,
    costs: &'f Costs<S>,
}

impl<S: Vector> OfTerm<'_, S> {
    /// The whole, the whole without the label's own weight, and what makes the exponential a probability, all times the
    /// factor of the row. In f64, so that each is rounded once.
    #[inline(always)]
    fn times<V: View<S>>(&self, s: S, view: V, factors: &[f64; VIRTUAL_LANES]) -> (S::F, S::F, S::F) {
        let lanes = |vector| numbers(s, view, vector);
        let (sum, sum_low) = (lanes(self.found.excluded.hi), lanes(self.found.excluded.lo));
        let (rest, rest_low) = (lanes(self.found.rest.hi), lanes(self.found.rest.lo));
        let (spread, spread_low) = (lanes(self.spread.sum.hi), lanes(self.spread.sum.lo));
        let (undo, own, of_p) = (lanes(self.undo), lanes(self.of_gradient), lanes(self.of_p));
        let of_largest = lanes(self.costs.of_largest);
        let mut all = [[0.0; VIRTUAL_LANES]; 3];
        for lane in 0..VIRTUAL_LANES {
            let excluded = (f64::from(sum[lane]) + f64::from(sum_low[lane])) * f64::from(UNDO_HEADROOM);
            let rest = (f64::from(rest[lane]) + f64::from(rest_low[lane])) * f64::from(UNDO_HEADROOM);
            let share = rest / (1.0 + excluded) * f64::from(undo[lane]) * factors[lane];
            let spread = f64::from(spread[lane]) + f64::from(spread_low[lane]);
            let without_own = spread + f64::from(of_p[lane]) - f64::from(of_largest[lane]) / excluded;
            all[0][lane] = ((f64::from(own[lane]) + without_own) * share) as f32;
            all[1][lane] = (without_own * share) as f32;
            all[2][lane] = share as f32;
        }
        (view.of_rows(s, &all[0]), view.of_rows(s, &all[1]), view.of_rows(s, &all[2]))
    }
}

/// Whether the costs of the rows of a view are turned on their side.
#[inline(always)]
fn costs_in_tile<S: Vector, V: View<S>>(_: S, view: V) -> bool {
    S::LANES > 1 && view.rows() == S::LANES && view.vectors() <= SHORT_ROW_OF_MANY_SUMS
}

/// How far the vectors have come with a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Finished,
    /// It does not count or weighs nothing.
    Zero,
    /// To be computed in f64.
    InF64,
}

#[inline(always)]
fn sum<S: Vector>(s: S, a: Pair<S::F>, b: Pair<S::F>) -> Pair<S::F> {
    let total = two_sum(s, a.hi, b.hi);
    fast_two_sum(s, total.hi, s.add(total.lo, s.add(a.lo, b.lo)))
}
