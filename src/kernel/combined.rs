//! Every loss of logits but the plain weighted one over `[N, C]`: what [`Terms`] has, in vectors.
//!
//! The reference class is the largest logit m. With E = Σ_{k≠m} exp(x_k − x_m), −log p_m = log(1 + E), and every other
//! p_k is at most ½, where 1 − p_k loses nothing. For m itself 1 − p_m = E/(1 + E), so that −log(1 − p_m) = log(1 + 1/E)
//! however confident the prediction. In the gradient, with σ_j = fp[y,j]·p_j/(1 − p_j), σ_m grows without bound while
//! p_i·σ_m stays what it is: fp[y,m]·p_m·(e_i/E). Only such products are computed.

use super::from_largest::{Adjusted, FromLargest, SUMS, adjusted};
use super::log1p::log1p;
use super::long_rows::{APPLY_HEADROOM, HEADROOM, UNDO_HEADROOM};
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
    /// U·p − u of the largest is (U − u) − U·(1 − p) where p is near 1. Here is what depends on u.
    #[inline(always)]
    fn rest(&self, s: S, u: S::F, p: S::F) -> S::F {
        let others = s.add(s.sub(self.sum.hi, u), self.sum.lo);
        s.select(s.less(s.splat(NEAR_ONE), p), others, s.sub(s.splat(0.0), u))
    }
}

/// A p above is near 1.
const NEAR_ONE: f32 = 0.5;

/// What the mislabel costs of a row add up to.
struct Costs<S: Vector> {
    /// Σ −fp·log(1 − p)·2^HEADROOM over the others
    others: Pair<S::F>,
    /// Σ fp·p/(1 − p) over the others
    odds: Pair<S::F>,
    /// Σ fp of the largest
    of_largest: S::F,
    size: S::F,
    /// What makes an exponential a probability.
    of_all: S::F,
}

/// Beyond these a factor of the gradient could leave the range of f32 on the way.
const FACTORS: core::ops::RangeInclusive<f64> = 1e-18..=1e12;
/// The same for the weight of a row.
const WEIGHTS: core::ops::RangeInclusive<f32> = 1e-12..=1e18;
/// The same for what an exponential is multiplied by in the gradient.
const MULTIPLIERS: core::ops::RangeInclusive<f64> = f64::from_bits((1023 - 124) << 52)..=1.0;
/// What the focal factor leaves of a weight, and a loss before it is weighted, may have lost digits below this.
const SMALL: f32 = f32::from_bits((127 - 100) << 23);

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
        let (zero, half) = (s.splat(0.0), s.splat(0.5));
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

        let plain = found.plain(s);
        let log = log1p(s, plain);

        // −log p_y in halves, which cannot overflow.
        let (own, of_label) = (view.of_rows(s, &given.own), view.of_rows(s, &given.logits));
        let gap = two_sum(s, s.mul(found.largest, half), s.sub(zero, s.mul(of_label, half)));
        let half_log = scaled(s, log, 0.5);
        let label_loss = sum(s, gap, half_log);

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
        let mut of_z = zero;
        if terms.z_loss != 0.0 {
            let lse = s.add(found.largest, log.hi);
            let weight = s.mul(s.add(own, spread.sum.hi), s.splat(terms.z_loss));
            let z = s.mul(s.mul(weight, lse), s.mul(lse, half));
            loss = sum(s, loss, Pair { hi: s.select(s.equal(weight, zero), zero, z), lo: zero });
            of_z = s.mul(s.add(weight, weight), lse);
        }
        let mut size = s.add(magnitude(s, own), spread.size);
        let nothing = Pair { hi: zero, lo: zero };
        let mut costs = Costs { others: nothing, odds: nothing, of_largest: zero, size: zero, of_all: zero };
        if let Some(matrix) = terms.costs {
            costs = self.costs(s, view, &given, matrix, &found);
            size = s.add(size, costs.size);
            let inverse = s.div(s.splat(APPLY_HEADROOM), found.excluded.hi);
            let certainty = log1p(s, Pair { hi: inverse, lo: zero });
            let of_largest = s.mul(s.mul(costs.of_largest, half), certainty.hi);
            let of_largest = s.select(s.equal(costs.of_largest, zero), zero, of_largest);
            loss = sum(s, loss, Pair { hi: of_largest, lo: zero });
            loss = sum(s, loss, scaled(s, costs.others, UNDO_HEADROOM * 0.5));
        }
        let small = numbers(s, view, loss.hi);
        let loss = weighed(s, loss, view.of_rows(s, &given.samples), 2.0);

        // Which rows the vectors have finished.
        let mut losses = numbers(s, view, loss);
        let (sizes, sums) = (numbers(s, view, size), numbers(s, view, found.excluded.hi));
        let mut kinds = [Kind::Finished; VIRTUAL_LANES];
        let mut all_finished = true;
        for lane in 0..view.rows().min(VIRTUAL_LANES) {
            kinds[lane] = if given.samples[lane] == 0.0 {
                losses[lane] = 0.0;
                Kind::Zero
            } else if !SUMS.contains(&sums[lane])
                || !losses[lane].is_finite()
                || small[lane].abs() < SMALL
                || !WEIGHTS.contains(&(sizes[lane] * given.samples[lane]))
            {
                Kind::InF64
            } else {
                Kind::Finished
            };
            all_finished &= kinds[lane] == Kind::Finished;
        }
        if GRADIENT {
            let of_row = OfRow { found: &found, spread: &spread, of_gradient, of_z, costs: &costs };
            all_finished &= self.write_gradient(s, view, &given, &of_row, &mut kinds, place);
        }
        if !all_finished {
            self.finish_in_f64(&given, &mut kinds, &mut losses, view.rows());
        }
        losses
    }

    /// Writes the gradient of the rows that the vectors can finish, and returns whether these are all.
    #[inline(always)]
    fn write_gradient<S: Vector, V: View<S>>(
        &mut self,
        s: S,
        view: V,
        given: &Given,
        of_row: &OfRow<'_, S>,
        kinds: &mut [Kind; VIRTUAL_LANES],
        place: Option<Place>,
    ) -> bool {
        let terms = self.whole.terms;
        let one = s.splat(1.0);
        let OfRow { found, spread, costs, .. } = *of_row;
        let multipliers = of_row.multipliers(s, view, &given.factors, terms.costs.is_some());
        let own = numbers(s, view, of_row.of_gradient);
        let mut all_finished = true;
        for lane in 0..view.rows().min(VIRTUAL_LANES) {
            let factor = given.factors[lane];
            let beyond = !FACTORS.contains(&factor.abs()) || own[lane] != 0.0 && own[lane].abs() < SMALL;
            if factor != 0.0 && kinds[lane] == Kind::Finished && (beyond || !multipliers.are_in_range(lane)) {
                kinds[lane] = Kind::GradientInF64;
            }
            all_finished &= kinds[lane] == Kind::Finished && factor != 0.0;
        }

        let rounded = |numbers: &[f64; VIRTUAL_LANES]| view.of_rows(s, &rounded(s, numbers));
        let (factor, p_largest) = (rounded(&given.factors), rounded(&multipliers.p));
        let inverse = s.div(s.splat(APPLY_HEADROOM), found.excluded.hi);
        let term = found.raised(s, view.of_rows(s, &multipliers.powers));
        let of_all = s.mul(costs.of_all, view.of_rows(s, &multipliers.undo));
        // Every element but those of the label and the largest: exp(x)·this − u·factor + fp·p/(1 − p)·factor.
        let (of_term, share) = (rounded(&multipliers.whole), rounded(&multipliers.share));
        // That of the largest: this + (… + p·(fp − (Σ fp of the largest − fp)/E))·factor.
        let of_largest = rounded(&multipliers.of_largest);
        let e_label = numbers(s, view, term.of(s, view.of_rows(s, &given.logits)));
        let at_labels = multipliers.at_labels(s, view, given, of_row, &e_label);

        let keep = if all_finished { None } else { Some(kinds.map(|kind| f32::from(kind.is_in_f64()))) };
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
                at_largest = s.mul_add(spread.rest(s, u, p_largest), factor, at_largest);
            }
            if let Some(matrix) = terms.costs {
                let cost = self.cost_of(s, view, matrix, given, i);
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
                *to = at_labels[lane];
            }
        }
        all_finished
    }

    /// The rows that the vectors have not finished.
    fn finish_in_f64(
        &mut self,
        given: &Given,
        kinds: &mut [Kind; VIRTUAL_LANES],
        losses: &mut [f32; VIRTUAL_LANES],
        count: usize,
    ) {
        let terms = self.whole.terms;
        for lane in 0..count.min(VIRTUAL_LANES) {
            let (row, factor) = (self.first + lane, given.factors[lane]);
            if kinds[lane] == Kind::InF64 {
                if terms.weigh_nothing_in_f64(row) {
                    kinds[lane] = Kind::Zero;
                    losses[lane] = 0.0;
                } else {
                    losses[lane] = RowInF64::loss_of_row(terms, row, self.raw());
                }
            }
            if GRADIENT && kinds[lane].is_in_f64() && factor != 0.0 {
                let logits = self.whole.logits.and_then(|logits| logits.as_f32());
                RowInF64::new(terms, row, self.raw()).write_gradient(logits, self.whole.gradient, factor);
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
    ) -> Costs<S> {
        let (zero, one, up) = (s.splat(0.0), s.splat(1.0), s.splat(APPLY_HEADROOM));
        let (mut others, mut odds, mut of_largest, mut size) = (Sums::new(s), Sums::new(s), Sums::new(s), Sums::new(s));
        let of_all = pair::over_one_plus(s, found.rest, found.plain(s));
        let of_all = s.mul(s.add(of_all.hi, of_all.lo), s.splat(UNDO_HEADROOM));
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
            odds: view.total(s, &odds),
            of_largest: view.total(s, &of_largest).hi,
            size: view.total(s, &size).hi,
            of_all,
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

/// What the gradients of rows are made of.
struct OfRow<'f, S: Vector> {
    found: &'f FromLargest<S>,
    spread: &'f Spread<S>,
    /// F
    of_gradient: S::F,
    /// 2λ·W·lse
    of_z: S::F,
    costs: &'f Costs<S>,
}

impl<S: Vector> OfRow<'_, S> {
    #[inline(always)]
    fn multipliers<V: View<S>>(&self, s: S, view: V, factors: &[f64; VIRTUAL_LANES], has_costs: bool) -> Multipliers {
        let lanes = |vector| numbers(s, view, vector);
        let both = |pair: Pair<S::F>| (lanes(pair.hi), lanes(pair.lo));
        let ((sum, sum_low), (rest, rest_low)) = (both(self.found.excluded), both(self.found.rest));
        let ((spread, spread_low), (odds, odds_low)) = (both(self.spread.sum), both(self.costs.odds));
        let (own, of_z) = (lanes(self.of_gradient), lanes(self.of_z));
        let (of_largest, costs) = (lanes(self.costs.of_largest), lanes(self.costs.size));
        let mut all = Multipliers::NONE;
        for lane in 0..S::LANES.min(VIRTUAL_LANES) {
            let both = |hi: &[f32; VIRTUAL_LANES], lo: &[f32; VIRTUAL_LANES]| f64::from(hi[lane]) + f64::from(lo[lane]);
            let excluded = both(&sum, &sum_low) * f64::from(UNDO_HEADROOM);
            let p = 1.0 / (1.0 + excluded);
            let share = both(&rest, &rest_low) * f64::from(UNDO_HEADROOM) * p * factors[lane];
            let (own, spread) = (f64::from(own[lane]), both(&spread, &spread_low));
            let of_p = f64::from(of_z[lane]) - both(&odds, &odds_low);
            let beyond = if has_costs { f64::from(of_largest[lane]) / excluded } else { 0.0 };
            let without_own = spread + of_p - beyond;
            let whole = own + without_own;
            // Terms are enlarged to those of E = 1 where costs of the largest make what is small beside a small E count;
            // and need no headroom where none of them is multiplied by more than 1.
            let most = whole.abs().max(without_own.abs()).max(f64::from(costs[lane])) * share.abs();
            let power = if has_costs && of_largest[lane] != 0.0 {
                enlarging(sum[lane])
            } else if most <= f64::from(UNDO_HEADROOM) {
                -HEADROOM
            } else {
                0.0
            };
            let undo = f32::from_bits(((127.0 - power) as u32) << 23);
            let share = share * f64::from(undo);
            (all.powers[lane], all.undo[lane]) = (power, undo);
            all.whole[lane] = whole * share;
            all.without_own[lane] = without_own * share;
            all.share[lane] = share;
            all.p[lane] = p;
            let q = excluded * p;
            let base = p * of_p + spread * if p as f32 > NEAR_ONE { -q } else { p };
            all.of_largest[lane] = (p * own + base) * factors[lane];
            // The label costs nothing, but classes that share its logit may. F·p − F is −F·(1 − p).
            all.of_label[lane] = base - own * q - p * beyond;
        }
        all
    }
}

/// k ≥ 0 such that 2^k·E is nearly 1 for a small E.
#[inline(always)]
fn enlarging(sum: f32) -> f32 {
    let exponent = (sum.to_bits() >> 23 & 0xff) as i32 - 127 - HEADROOM as i32;
    (-exponent).max(0) as f32
}

/// Numbers of rows in f64, so that each is rounded once.
struct Multipliers {
    powers: [f32; VIRTUAL_LANES],
    /// 2^−power
    undo: [f32; VIRTUAL_LANES],
    /// What exp(x)·2^(HEADROOM + power) of a class is multiplied by in the gradient.
    whole: [f64; VIRTUAL_LANES],
    /// The same without the label's own weight.
    without_own: [f64; VIRTUAL_LANES],
    /// The same to be its probability times the factor of the row.
    share: [f64; VIRTUAL_LANES],
    /// That of the largest.
    p: [f64; VIRTUAL_LANES],
    /// What of the gradient of the largest does not depend on its own u and cost.
    of_largest: [f64; VIRTUAL_LANES],
    /// The same where it is the label, without the factor of the row.
    of_label: [f64; VIRTUAL_LANES],
}

impl Multipliers {
    const NONE: Self = {
        let zeros = [0.0; VIRTUAL_LANES];
        let (powers, undo) = ([0.0; VIRTUAL_LANES], [1.0; VIRTUAL_LANES]);
        Self {
            powers,
            undo,
            whole: zeros,
            without_own: zeros,
            share: zeros,
            p: zeros,
            of_largest: zeros,
            of_label: zeros,
        }
    };

    /// Whether none loses digits or has lost them where an exponential is small.
    #[inline(always)]
    fn are_in_range(&self, lane: usize) -> bool {
        let lane = lane % VIRTUAL_LANES;
        let (whole, without_own, share) =
            (self.whole[lane].abs(), self.without_own[lane].abs(), self.share[lane].abs());
        // The second counts beside the first only where that is not large, the third once it is multiplied by a cost.
        (whole == 0.0 || MULTIPLIERS.contains(&whole))
            && without_own <= *MULTIPLIERS.end()
            && share >= *MULTIPLIERS.start()
    }

    /// The elements of the labels, whose exponentials are these.
    #[inline(always)]
    fn at_labels<S: Vector, V: View<S>>(
        &self,
        s: S,
        view: V,
        given: &Given,
        of_row: &OfRow<'_, S>,
        e: &[f32; VIRTUAL_LANES],
    ) -> [f32; VIRTUAL_LANES] {
        let lanes = |vector| numbers(s, view, vector);
        let (largest, own) = (lanes(of_row.found.largest), lanes(of_row.of_gradient));
        let (spread, spread_low) = (lanes(of_row.spread.sum.hi), lanes(of_row.spread.sum.lo));
        let mut values = [0.0; VIRTUAL_LANES];
        for lane in 0..S::LANES.min(VIRTUAL_LANES) {
            let (factor, u, own) = (given.factors[lane], f64::from(given.spread[lane]), f64::from(own[lane]));
            let e = f64::from(e[lane]);
            let other = e * self.without_own[lane] - own * (factor - e * self.share[lane]) - u * factor;
            let others = (f64::from(spread[lane]) - u) + f64::from(spread_low[lane]);
            let rest = if self.p[lane] as f32 > NEAR_ONE { others } else { -u };
            let of_largest = (self.of_label[lane] + rest) * factor;
            values[lane] = if given.logits[lane] == largest[lane] { of_largest as f32 } else { other as f32 };
        }
        values
    }
}

#[inline(always)]
fn rounded<S: Vector>(_: S, numbers: &[f64; VIRTUAL_LANES]) -> [f32; VIRTUAL_LANES] {
    let mut rounded = [0.0; VIRTUAL_LANES];
    for (to, from) in rounded.iter_mut().zip(numbers).take(S::LANES) {
        *to = *from as f32;
    }
    rounded
}

/// Whether the costs of the rows of a view are turned on their side.
#[inline(always)]
fn costs_in_tile<S: Vector, V: View<S>>(_: S, view: V) -> bool {
    S::WIDE && view.rows() == S::LANES && view.vectors() <= SHORT_ROW_OF_MANY_SUMS
}

/// How far the vectors have come with a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Finished,
    /// It does not count or weighs nothing.
    Zero,
    /// To be computed in f64.
    InF64,
    /// Likewise, but for its loss.
    GradientInF64,
}

impl Kind {
    #[inline(always)]
    fn is_in_f64(self) -> bool {
        self == Self::InF64 || self == Self::GradientInF64
    }
}

#[inline(always)]
fn sum<S: Vector>(s: S, a: Pair<S::F>, b: Pair<S::F>) -> Pair<S::F> {
    let total = two_sum(s, a.hi, b.hi);
    fast_two_sum(s, total.hi, s.add(total.lo, s.add(a.lo, b.lo)))
}
