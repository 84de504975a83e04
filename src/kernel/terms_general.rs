//! The general way of the losses with terms: marked rows, whatever their logits, in pieces, terms summed in f64. Rare, and
//! so compiled once for all backends.

use super::exp::Reference;
use super::general::{
    Group, exponentiate_marked, find_argmax, for_each_group, load_without_references, sum_without_references,
    underflow_matters,
};
use super::lanes::{Lane, Lanes};
use super::spread::{Spread, padded_column};
use super::term_scalars::{NO_LABEL, TermBlock, Terms, finish_terms};
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{chunks, copy, f64_math, part, row_of, row_of_mut, whole};
use crate::backend::Backend;
use crate::backend::vector::{VIRTUAL_LANES, Vector};
use crate::rows::Rows;
use core::f64::consts::LN_2;

/// Recomputes the marked rows of a tile: losses (as `log`) and, if asked for, gradients.
#[cold]
#[inline(never)]
pub(crate) fn compute<S: Vector>(
    s: S,
    batch: &mut Batch<'_>,
    options: &Terms<'_>,
    spread: Option<Spread<'_>>,
    tile: &mut Tile<'_>,
    terms: &mut [TermBlock],
    (first, count): (usize, usize),
) {
    let (room, numbers, spare) = (tile.room(), &mut *tile.numbers, &mut *tile.spare);
    let rows = batch.rows;
    for_each_group(rows, room, first, count, tile.blocks, |number, block, group| {
        if let Some(terms) = terms.get_mut(number) {
            let of_rows = TermsOfRows { options, spread, classes: group.classes };
            MarkedRows { s, of_rows, numbers, spare, group }.compute(batch, block, terms);
        }
    });
}

/// A group of marked rows, with buffers for a piece of their logits and targets.
struct MarkedRows<'a, S> {
    s: S,
    of_rows: TermsOfRows<'a>,
    numbers: &'a mut [f32],
    spare: &'a mut [f32],
    group: Group,
}

impl<S: Vector> MarkedRows<'_, S> {
    fn compute(&mut self, batch: &mut Batch<'_>, block: &mut RowBlock, terms: &mut TermBlock) {
        let (s, group) = (self.s, self.group);
        let (mut found, mut known) = (block.clone(), terms.clone());
        find_argmax(s, batch, self.numbers, &mut found, group);
        sum_without_references(s, batch, self.numbers, &mut found, group);
        for (row, lane) in group.marked() {
            let label = known.label[lane];
            if label != NO_LABEL {
                known.label_logit[lane] = batch.logit(group.row(row), label);
            }
            (known.others[lane], known.gaps[lane], known.costs[lane], known.odds[lane]) = (0.0, 0.0, 0.0, 0.0);
            let gap = f64::from(found.shift[lane]) - f64::from(found.logit[lane]);
            known.log_excluded[lane] = f64::NEG_INFINITY;
            if found.sum[lane] > 0.0 {
                known.log_excluded[lane] = f64_math::log(found.sum[lane]) - f64::from(found.power[lane]) * LN_2 + gap;
            }
        }
        if self.of_rows.spread.is_some() || self.of_rows.options.costs.is_some() {
            self.add_up(batch, &found, &mut known);
        }
        let (options, gradient) = (self.of_rows.options, batch.gradient.is_some());
        let (blocks, terms_found) = (core::slice::from_mut(&mut found), core::slice::from_mut(&mut known));
        finish_terms(s, options, gradient, 0.0, blocks, terms_found);
        let mut undefined = 0;
        for (row, lane) in group.marked() {
            // Σexp is NaN if a logit other than the reference's is NaN or +∞.
            if found.sum[lane].is_nan() || found.logit[lane] == f32::NEG_INFINITY || found.logit[lane].is_nan() {
                undefined |= lane.bit();
                let loss = self.of_rows.loss_without_probabilities(batch, group.row(row), &known, lane);
                found.log[lane] = loss;
            }
            if !self.of_rows.has_weight(batch.rows, group.row(row), &known, lane) {
                (found.factor[lane], found.log[lane]) = (0.0, 0.0);
            }
            if terms.marked_for_gradient_only & lane.bit() == 0 {
                block.log[lane] = found.log[lane];
            }
        }
        if batch.gradient.is_some() {
            self.write_gradient(batch, &found, &known, undefined);
        }
    }

    /// Sums over the classes other than the reference; u of reference and label, fp of the reference.
    fn add_up(&mut self, batch: &Batch<'_>, found: &RowBlock, known: &mut TermBlock) {
        for place in self.group.pieces() {
            self.load_targets(batch, place);
            batch.load_rows(self.s, place, self.numbers);
            for (row, lane) in self.group.marked() {
                let Some(spread) = self.of_rows.spread else { break };
                let (x, targets) = (row_of(self.numbers, row, place.width), self.targets(row, place));
                let row =
                    SpreadOfRow { spread, place, x, targets, largest: found.logit[lane], reference: found.class[lane] };
                let [gaps, others] = row.sums();
                known.gaps[lane] += gaps;
                if let Some(class) = found.class[lane].checked_sub(place.start).filter(|&class| class < place.width) {
                    known.u_reference[lane] = spread.of_class_at(targets, class, place.start);
                }
                known.others[lane] += others;
            }
            let Some(matrix) = self.of_rows.options.costs else { continue };
            load_without_references(self.s, batch, self.numbers, found, self.group, place);
            // Exponentials that underflow in f32 are computed in f64 where the sample weight makes them matter.
            let far = self.of_rows.far(self.group, known, &found.share, &found.weight, &Lanes::splat(0.0));
            let (numbers, group) = (&mut *self.numbers, self.group.without(far));
            exponentiate_marked(self.s, numbers, place.width, group, found);
            for (row, lane) in self.group.marked() {
                let Some(start) = known.label[lane].checked_mul(self.group.classes) else { continue };
                let costs = part(matrix, start.wrapping_add(place.start), place.width);
                let e = row_of(self.numbers, row, place.width);
                let (logs, odds) = if far.is_marked(lane) {
                    far_costs_of_row(e, costs, found.reference(lane), found.share[lane])
                } else {
                    CostsOfRow { e, costs, share: found.share[lane] }.sums()
                };
                known.costs[lane] += logs;
                known.odds[lane] += odds;
                let of_reference = found.class[lane].checked_sub(place.start).and_then(|class| costs.get(class));
                known.cost_reference[lane] = of_reference.map_or(known.cost_reference[lane], |&cost| f64::from(cost));
            }
        }
    }

    fn load_targets(&mut self, batch: &Batch<'_>, place: Place) {
        if let Some(soft) = self.of_rows.options.soft {
            batch.load_targets(self.s, soft, place, self.spare);
        }
    }

    fn targets(&self, row: usize, place: Place) -> Option<&[f32]> {
        self.of_rows.options.soft.map(|_| row_of(self.spare, row, place.width))
    }

    fn write_gradient(&mut self, batch: &mut Batch<'_>, found: &RowBlock, known: &TermBlock, undefined: u32) {
        let spread = self.of_rows.spread;
        for place in self.group.pieces() {
            self.load_targets(batch, place);
            load_without_references(self.s, batch, self.numbers, found, self.group, place);
            let far = self.of_rows.far(self.group, known, &found.share, &found.factor, &known.scale);
            let (numbers, group) = (&mut *self.numbers, self.group.without(far));
            exponentiate_marked(self.s, numbers, place.width, group, found);
            for (row, lane) in self.group.marked() {
                let far = far.is_marked(lane).then(|| found.reference(lane));
                let targets = self.of_rows.options.soft.map(|_| row_of(self.spare, row, place.width));
                let costs = self.of_rows.options.costs.map(|matrix| {
                    part(matrix, known.label[lane].wrapping_mul(group.classes).wrapping_add(place.start), place.width)
                });
                let elements = row_of_mut(self.numbers, row, place.width);
                let factor = found.factor[lane];
                if factor == 0.0 {
                    elements.fill(0.0);
                } else if undefined & lane.bit() != 0 || factor.is_nan() {
                    elements.fill(f32::NAN);
                } else {
                    let (scale, share) = (known.scale[lane], found.share[lane]);
                    let to = &mut *elements;
                    let mut of_row =
                        Elements { elements: to, spread, targets, costs, far, scale, share, factor, place };
                    of_row.write();
                    for (class, value) in
                        [(known.label[lane], known.at_label[lane]), (found.class[lane], found.at_reference[lane])]
                    {
                        if let Some(to) = class.checked_sub(place.start).and_then(|class| elements.get_mut(class)) {
                            *to = value;
                        }
                    }
                }
                batch.store_rows(self.s, place.row(row), elements);
            }
        }
    }
}

/// The terms of rows, one by one: the same for every backend.
#[derive(Clone, Copy)]
struct TermsOfRows<'a> {
    options: &'a Terms<'a>,
    spread: Option<Spread<'a>>,
    classes: usize,
}

impl TermsOfRows<'_> {
    /// The marked rows of a group in which exponentials that underflow in f32 matter: times `scale`, or times `factor`, the
    /// share and a cost.
    #[inline(never)]
    fn far(
        &self,
        group: Group,
        known: &TermBlock,
        share: &Lanes<f64>,
        factor: &Lanes<f64>,
        scale: &Lanes<f64>,
    ) -> Group {
        group.marked_where(|lane| {
            let of_costs = (factor[lane] * share[lane]).abs() * self.largest_cost(known.label[lane]);
            underflow_matters(scale[lane].abs() + of_costs)
        })
    }

    /// The largest cost of a row with this label.
    fn largest_cost(&self, label: usize) -> f64 {
        let costs = self.options.costs.filter(|_| label != NO_LABEL);
        let costs = costs.map_or(&[][..], |matrix| row_of(matrix, label, self.classes));
        f64::from(costs.iter().fold(0.0, |most, &cost| if cost > most { cost } else { most }))
    }

    /// u of a class.
    fn u(&self, rows: &Rows<'_>, row: usize, class: usize) -> f64 {
        self.spread.map_or(0.0, |spread| spread.of_element(self.options.soft, rows, row, class))
    }

    /// Whether any term has a nonzero weight; otherwise loss and gradient are 0 whatever the logits.
    fn has_weight(&self, rows: &Rows<'_>, row: usize, known: &TermBlock, lane: Lane) -> bool {
        let label = known.label[lane];
        let has_u = |class| self.u(rows, row, class) != 0.0;
        let costs = self.options.costs.filter(|_| label != NO_LABEL);
        known.label_weight[lane] != 0.0
            || self.spread.is_some() && (0..rows.classes()).any(has_u)
            || costs.is_some_and(|matrix| row_of(matrix, label, rows.classes()).iter().any(|&cost| cost != 0.0))
    }

    /// Loss of a row with a NaN, several +∞ or only −∞ logits: each term is 0, ∞ or undefined; the loss is NaN if a
    /// term is undefined, unless another is infinite.
    fn loss_without_probabilities(&self, batch: &Batch<'_>, row: usize, known: &TermBlock, lane: Lane) -> f64 {
        let (label, label_weight) = (known.label[lane], known.label_weight[lane]);
        let rows = batch.rows;
        let (mut loss, mut unknown, mut whole) = (0.0, false, label_weight);
        let (mut any_nan, mut infinite) = (false, 0_usize);
        for class in 0..rows.classes() {
            let x = batch.logit(row, class);
            any_nan |= x.is_nan();
            infinite = infinite.saturating_add(usize::from(x == f32::INFINITY));
        }
        let undefined = any_nan || infinite == 0;
        let mut add = |weight: f64, x: f32, of_infinite: f64, of_others: f64| {
            if weight == 0.0 {
                return;
            }
            let value = if undefined || x == f32::INFINITY && infinite > 1 {
                f64::NAN
            } else if x == f32::INFINITY {
                of_infinite
            } else {
                of_others
            };
            unknown |= value.is_nan();
            loss += if value.is_nan() || value == 0.0 { 0.0 } else { weight * value };
        };
        if label != NO_LABEL {
            add(label_weight, batch.logit(row, label), 0.0, f64::INFINITY);
        }
        for class in 0..rows.classes() {
            let x = batch.logit(row, class);
            let u = self.u(rows, row, class);
            whole += u;
            add(u, x, 0.0, f64::INFINITY);
            if let Some(matrix) = self.options.costs {
                let cost = matrix.get(label.wrapping_mul(rows.classes()).wrapping_add(class));
                let cost = cost.map_or(0.0, |&cost| f64::from(cost));
                add(cost, x, f64::INFINITY, 0.0);
            }
        }
        let of_z = f64::from(self.options.label.z_loss) * whole;
        if of_z != 0.0 {
            add(of_z, 0.0, f64::INFINITY, f64::INFINITY);
        }
        if unknown && loss.is_finite() { f64::NAN } else { loss }
    }
}

/// Σ u_c·(x_m − x_c) and Σ u_c of a piece of a row over the classes other than the reference.
struct SpreadOfRow<'a> {
    spread: Spread<'a>,
    place: Place,
    x: &'a [f32],
    targets: Option<&'a [f32]>,
    largest: f32,
    reference: usize,
}

impl SpreadOfRow<'_> {
    #[inline(never)]
    fn sums(&self) -> [f64; 2] {
        let Self { spread, place, x, targets, largest, reference } = *self;
        let (mut others, mut gaps, largest) = ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES], f64::from(largest));
        let reference = reference.wrapping_sub(place.start);
        for_each_column(
            x,
            #[inline(always)]
            |at, x, len| {
                let (u, reference) = (spread.lanes(targets, at, place.start), reference.wrapping_sub(at));
                let sums = others.iter_mut().zip(&mut gaps);
                for (((lane, &u), &x), (others, gaps)) in u.iter().enumerate().zip(x).zip(sums) {
                    // The reference and the padding after the last class have no weight.
                    let u = if lane == reference || lane >= len { 0.0 } else { u };
                    *others += u;
                    let gap = u * (largest - f64::from(x));
                    // 0·∞ = 0
                    *gaps += if u == 0.0 { 0.0 } else { gap };
                }
            },
        );
        [gaps.iter().sum(), others.iter().sum()]
    }
}

/// Calls `work` with start, elements and length of each column; the last is padded with zeros.
#[inline(always)]
fn for_each_column(x: &[f32], mut work: impl FnMut(usize, &[f32; VIRTUAL_LANES], usize)) {
    let (columns, rest) = x.as_chunks();
    for (at, column) in (0..).step_by(VIRTUAL_LANES).zip(columns) {
        work(at, column, VIRTUAL_LANES);
    }
    let mut padded = [0.0; VIRTUAL_LANES];
    copy(&mut padded, rest);
    work(whole(x.len(), VIRTUAL_LANES), &padded, rest.len());
}

/// The mutable form of [`for_each_column`]; what `work` writes to the padding is dropped.
#[inline(always)]
fn for_each_column_mut(x: &mut [f32], mut work: impl FnMut(usize, &mut [f32; VIRTUAL_LANES])) {
    let len = x.len();
    let (columns, rest) = x.as_chunks_mut();
    for (at, column) in (0..).step_by(VIRTUAL_LANES).zip(columns) {
        work(at, column);
    }
    let mut padded = [0.0; VIRTUAL_LANES];
    copy(&mut padded, rest);
    work(whole(len, VIRTUAL_LANES), &mut padded);
    copy(rest, &padded);
}

/// Σ fp·(−log(1 − p)) and Σ fp·p/(1 − p) of a piece of a row; the exponential of the reference is 0.
struct CostsOfRow<'a> {
    e: &'a [f32],
    costs: &'a [f32],
    share: f64,
}

impl CostsOfRow<'_> {
    #[inline(never)]
    fn sums(&self) -> (f64, f64) {
        let (mut logs, mut odds) = ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES]);
        for (e, costs) in chunks(self.e, VIRTUAL_LANES).zip(chunks(self.costs, VIRTUAL_LANES)) {
            for ((&e, &cost), (log, odds)) in e.iter().zip(costs).zip(logs.iter_mut().zip(&mut odds)) {
                let p = f64::from(e) * self.share;
                // −log(1 − p) = log(1 + p/(1 − p))
                let ratio = p / (1.0 - p);
                *log += f64::from(cost) * f64_math::log1p_to_one(ratio);
                *odds += f64::from(cost) * ratio;
            }
        }
        (logs.iter().sum(), odds.iter().sum())
    }
}

/// [`CostsOfRow`] from logits, with exponentials in f64.
#[cold]
#[inline(never)]
fn far_costs_of_row(x: &[f32], costs: &[f32], reference: Reference, share: f64) -> (f64, f64) {
    let (mut log, mut odds) = (0.0, 0.0);
    for (&x, &cost) in x.iter().zip(costs) {
        let p = reference.exp(x) * share;
        let ratio = p / (1.0 - p);
        log += f64::from(cost) * f64_math::log1p_to_one(ratio);
        odds += f64::from(cost) * ratio;
    }
    (log, odds)
}

/// u of the column that begins at `at` in the piece; zeros without a spread.
#[inline(always)]
fn weighed(spread: Option<Spread<'_>>, targets: Option<&[f32]>, at: usize, place: Place) -> [f64; VIRTUAL_LANES] {
    match spread {
        Some(spread) => spread.lanes(targets, at, place.start),
        None => [0.0; VIRTUAL_LANES],
    }
}

/// Gradient of a piece of a row, in place over its exponentials.
struct Elements<'a> {
    elements: &'a mut [f32],
    spread: Option<Spread<'a>>,
    targets: Option<&'a [f32]>,
    costs: Option<&'a [f32]>,
    /// `Some`: `elements` holds logits, and exponentials are computed in f64.
    far: Option<Reference>,
    scale: f64,
    share: f64,
    factor: f64,
    place: Place,
}

impl Elements<'_> {
    #[inline(never)]
    fn write(&mut self) {
        let Self { spread, targets, costs, far, scale, share, factor, place, .. } = *self;
        let elements = &mut *self.elements;
        if !Backend::ONLY_SCALAR && far.is_none() && costs.is_none() {
            // A loop of its own: the one below, vectorised, evaluates all its branches.
            for_each_column_mut(
                elements,
                #[inline(always)]
                |at, e| {
                    for (e, u) in e.iter_mut().zip(weighed(spread, targets, at, place)) {
                        *e = (f64::from(*e) * scale - factor * u) as f32;
                    }
                },
            );
            return;
        }
        let (has_costs, has_spread, costs) = (costs.is_some(), spread.is_some(), costs.unwrap_or(&[]));
        let element = |element: f32, cost: f32, u: f64| {
            let e = match far {
                Some(reference) => reference.exp(element),
                None => f64::from(element),
            };
            let mut value = e * scale;
            if has_costs {
                let p = e * share;
                value += factor * f64::from(cost) * (p / (1.0 - p));
            }
            if has_spread {
                value -= factor * u;
            }
            value as f32
        };
        if Backend::ONLY_SCALAR {
            // Small memories have no room for arrays of 16.
            for (class, to) in elements.iter_mut().enumerate() {
                let u = spread.map_or(0.0, |spread| spread.of_class_at(targets, class, place.start));
                *to = element(*to, costs.get(class).copied().unwrap_or(0.0), u);
            }
            return;
        }
        for_each_column_mut(
            elements,
            #[inline(always)]
            |at, elements| {
                let u = weighed(spread, targets, at, place);
                for ((to, u), cost) in elements.iter_mut().zip(u).zip(padded_column(costs, at)) {
                    *to = element(*to, cost, u);
                }
            },
        );
    }
}
