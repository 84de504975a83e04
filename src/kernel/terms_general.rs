//! The general way of the losses with terms: marked rows, whatever their logits, in pieces, terms summed in f64. Rare, and
//! so compiled once for all backends.

use super::exp::Reference;
use super::general::{
    Group, exponentiate_marked, find_argmax, for_each_group, load_without_references, sum_without_references,
    underflow_matters,
};
use super::lanes::Lanes;
use super::limits::SMALL_MISS;
use super::spread::{Spread, padded_column};
use super::term_scalars::{NO_LABEL, TermBlock, Terms, finish_terms};
use super::term_tile::TermTile;
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{chunks, f64_math, from, row_of, row_of_mut};
use crate::backend::vector::{VIRTUAL_LANES, Vector};
use crate::reduction::canonical;
use core::f64::consts::LN_2;

/// Recomputes the marked rows of a tile: losses (as `log`) and, if asked for, gradients.
#[cold]
#[inline(never)]
pub(crate) fn compute<S: Vector>(s: S, rows: &mut TermTile<'_, '_>) {
    let TermTile { batch, options, spread, tile, terms, place } = rows;
    let room = tile.room();
    let Tile { numbers, spare, blocks } = tile;
    for_each_group(batch.rows, room, *place, blocks, |number, block, group| {
        if let Some(terms) = terms.get_mut(number) {
            MarkedRows { s, batch, options, spread: *spread, numbers, spare, group }.compute(block, terms);
        }
    });
}

/// A group of marked rows, with buffers for a piece of their logits and targets.
struct MarkedRows<'t, 'a, S> {
    s: S,
    batch: &'t mut Batch<'a>,
    options: &'t Terms<'a>,
    spread: Option<Spread<'a>>,
    numbers: &'t mut [f32],
    spare: &'t mut [f32],
    group: Group,
}

impl<S: Vector> MarkedRows<'_, '_, S> {
    fn compute(&mut self, block: &mut RowBlock, terms: &mut TermBlock) {
        let (s, group, gradient) = (self.s, self.group, self.batch.gradient.is_some());
        let (mut found, mut known) = (block.clone(), terms.clone());
        find_argmax(s, self.batch, self.numbers, &mut found, group);
        sum_without_references(s, self.batch, self.numbers, &mut found, group);
        for (row, lane) in group.marked() {
            let label = known.label[lane];
            if label != NO_LABEL {
                known.label_logit[lane] = self.batch.logit(group.row(row), label);
            }
            (known.others[lane], known.gaps[lane], known.costs[lane], known.odds[lane]) = (0.0, 0.0, 0.0, 0.0);
            let (miss, gap) = (found.one_minus_p[lane], f64::from(found.shift[lane]) - f64::from(found.logit[lane]));
            known.log_miss[lane] = if miss > SMALL_MISS {
                f64_math::log(miss)
            } else if found.sum[lane] > 0.0 {
                // log E, though E may be too small for f64.
                f64_math::log(found.sum[lane]) - f64::from(found.power[lane]) * LN_2 + gap
            } else {
                f64::NEG_INFINITY
            };
        }
        self.add_up(&found, &mut known);
        let (blocks, terms_found) = (core::slice::from_mut(&mut found), core::slice::from_mut(&mut known));
        finish_terms(s, self.options, gradient, 0.0, blocks, terms_found);
        let mut undefined = 0;
        for (row, lane) in group.marked() {
            let row = group.row(row);
            // Σexp is NaN if a logit other than the reference's is NaN or +∞.
            if found.sum[lane].is_nan() || found.logit[lane] == f32::NEG_INFINITY || found.logit[lane].is_nan() {
                undefined |= lane.bit();
                found.log[lane] = self.loss_without_probabilities(row, known.label[lane], known.label_weight[lane]);
            }
            if !self.has_weight(row, known.label[lane], known.label_weight[lane]) {
                (found.factor[lane], found.log[lane]) = (0.0, 0.0);
            }
            found.log[lane] = canonical(found.log[lane]);
            if terms.marked_for_gradient_only & lane.bit() == 0 {
                block.log[lane] = found.log[lane];
            }
        }
        if gradient {
            self.write_gradient(&found, &known, undefined);
        }
    }

    /// Sums over the classes other than the reference; u of reference and label, fp of the reference.
    fn add_up(&mut self, found: &RowBlock, known: &mut TermBlock) {
        for place in self.group.pieces() {
            self.load_targets(place);
            self.batch.load_rows(self.s, place, self.numbers);
            for (row, lane) in self.group.marked() {
                let Some(spread) = self.spread else { break };
                let (x, targets) = (row_of(self.numbers, row, place.width), self.targets(row, place));
                let reference = found.class[lane].wrapping_sub(place.start);
                let [gaps, others] = spread_of_row(spread, place, x, targets, (found.logit[lane], reference));
                known.gaps[lane] += gaps;
                if reference < place.width {
                    known.u_reference[lane] = spread.of_class_at(targets, reference, place.start);
                }
                known.others[lane] += others;
            }
            if self.options.costs.is_none() {
                continue;
            }
            // Exponentials that underflow in f32 are computed in f64 where the sample weight makes them matter.
            let far = self.exponentiate(place, found, self.far(known, &found.share, &found.weight, &Lanes::splat(0.0)));
            for (row, lane) in self.group.marked() {
                let costs = from(self.options.costs_of(known.label[lane], self.group.all.width), place.start);
                let (e, share) = (row_of(self.numbers, row, place.width), found.share[lane]);
                let (logs, odds) = match far.is_marked(lane) {
                    true => far_costs_of_row(e, costs, found.reference(lane), share),
                    false => costs_of_row(e, costs, share),
                };
                known.costs[lane] += logs;
                known.odds[lane] += odds;
                let of_reference = found.class[lane].checked_sub(place.start).and_then(|class| costs.get(class));
                known.cost_reference[lane] = of_reference.map_or(known.cost_reference[lane], |&cost| f64::from(cost));
            }
        }
    }

    fn load_targets(&mut self, place: Place) {
        if let Some(soft) = self.options.soft {
            self.batch.load_targets(self.s, soft, place, self.spare);
        }
    }

    fn targets(&self, row: usize, place: Place) -> Option<&[f32]> {
        self.options.soft.map(|_| row_of(self.spare, row, place.width))
    }

    /// Replaces a piece of the logits of the marked rows by exponentials but for those that are `far`, with 0 or −∞ for
    /// references.
    fn exponentiate(&mut self, place: Place, found: &RowBlock, far: Group) -> Group {
        load_without_references(self.s, self.batch, self.numbers, found, self.group, place);
        exponentiate_marked(self.s, self.numbers, place.width, self.group.without(far), found);
        far
    }

    fn write_gradient(&mut self, found: &RowBlock, known: &TermBlock, undefined: u32) {
        for place in self.group.pieces() {
            self.load_targets(place);
            let far = self.exponentiate(place, found, self.far(known, &found.share, &found.factor, &known.scale));
            for (row, lane) in self.group.marked() {
                let targets = self.options.soft.map(|_| row_of(self.spare, row, place.width));
                let elements = row_of_mut(self.numbers, row, place.width);
                let factor = found.factor[lane];
                if factor == 0.0 {
                    elements.fill(0.0);
                } else if undefined & lane.bit() != 0 || factor.is_nan() {
                    elements.fill(f32::NAN);
                } else {
                    let costs = self.options.costs_of(known.label[lane], self.group.all.width);
                    let costs = self.options.costs.map(|_| from(costs, place.start));
                    let far = far.is_marked(lane).then(|| found.reference(lane));
                    let (spread, factors) = (self.spread, [known.scale[lane], found.share[lane], factor]);
                    write_elements(elements, (spread, targets, place.start), costs, far, factors);
                    known.set_elements(found, lane, elements, place.start);
                }
                self.batch.store_rows(self.s, place.row(row), elements);
            }
        }
    }

    /// The marked rows in which exponentials that underflow in f32 matter: times `scale`, or times `factor`, the share and
    /// a cost.
    #[inline(never)]
    fn far(&self, known: &TermBlock, share: &Lanes<f64>, factor: &Lanes<f64>, scale: &Lanes<f64>) -> Group {
        self.group.marked_where(|lane| {
            let costs = self.options.costs_of(known.label[lane], self.group.all.width);
            let largest = costs.iter().fold(0.0, |most, &cost| if cost > most { cost } else { most });
            underflow_matters(scale[lane].abs() + (factor[lane] * share[lane]).abs() * f64::from(largest))
        })
    }

    /// u of a class.
    fn u(&self, row: usize, class: usize) -> f64 {
        self.spread.map_or(0.0, |spread| spread.of_element(self.options.soft, self.batch.rows, row, class))
    }

    /// Whether any term has a nonzero weight; otherwise loss and gradient are 0 whatever the logits.
    fn has_weight(&self, row: usize, label: usize, label_weight: f64) -> bool {
        label_weight != 0.0
            || (0..self.group.all.width).any(|class| self.u(row, class) != 0.0)
            || self.options.costs_of(label, self.group.all.width).iter().any(|&cost| cost != 0.0)
    }

    /// Loss of a row with a NaN, several +∞ or only −∞ logits: each term is 0, ∞ or undefined; the loss is NaN if a
    /// term is undefined, unless another is infinite.
    fn loss_without_probabilities(&self, row: usize, label: usize, label_weight: f64) -> f64 {
        let (batch, classes) = (&*self.batch, self.group.all.width);
        let costs = self.options.costs_of(label, classes);
        let (mut loss, mut unknown, mut whole) = (0.0, false, label_weight);
        let (mut any_nan, mut infinite) = (false, 0_usize);
        for class in 0..classes {
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
        for class in 0..classes {
            let (x, u) = (batch.logit(row, class), self.u(row, class));
            whole += u;
            add(u, x, 0.0, f64::INFINITY);
            add(costs.get(class).map_or(0.0, |&cost| f64::from(cost)), x, f64::INFINITY, 0.0);
        }
        let of_z = f64::from(self.options.label.z_loss) * whole;
        if of_z != 0.0 {
            add(of_z, 0.0, f64::INFINITY, f64::INFINITY);
        }
        if unknown && loss.is_finite() { f64::NAN } else { loss }
    }
}

/// Σ u_c·(x_m − x_c) and Σ u_c of a piece of a row over the classes other than the reference, whose logit and index in
/// the piece are given.
#[inline(never)]
fn spread_of_row(
    spread: Spread<'_>,
    place: Place,
    x: &[f32],
    targets: Option<&[f32]>,
    (largest, reference): (f32, usize),
) -> [f64; 2] {
    let (mut others, mut gaps, largest) = ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES], f64::from(largest));
    for (at, column) in (0_usize..).step_by(VIRTUAL_LANES).zip(chunks(x, VIRTUAL_LANES)) {
        let (u, reference) = (spread.lanes(targets, at, place.start), reference.wrapping_sub(at));
        let sums = others.iter_mut().zip(&mut gaps);
        for (((lane, &u), x), (others, gaps)) in u.iter().enumerate().zip(padded_column(column, 0)).zip(sums) {
            // The reference and the padding after the last class have no weight.
            let u = if lane == reference || lane >= column.len() { 0.0 } else { u };
            *others += u;
            let gap = u * (largest - f64::from(x));
            // 0·∞ = 0
            *gaps += if u == 0.0 { 0.0 } else { gap };
        }
    }
    [gaps.iter().sum(), others.iter().sum()]
}

/// Σ fp·(−log(1 − p)) and Σ fp·p/(1 − p) of a piece of a row; the exponential of the reference is 0.
#[inline(never)]
fn costs_of_row(e: &[f32], costs: &[f32], share: f64) -> (f64, f64) {
    let (mut logs, mut odds) = ([0.0; VIRTUAL_LANES], [0.0; VIRTUAL_LANES]);
    for (e, costs) in chunks(e, VIRTUAL_LANES).zip(chunks(costs, VIRTUAL_LANES)) {
        for ((&e, &cost), (log, odds)) in e.iter().zip(costs).zip(logs.iter_mut().zip(&mut odds)) {
            let p = f64::from(e) * share;
            // −log(1 − p) = log(1 + p/(1 − p))
            let ratio = p / (1.0 - p);
            *log += f64::from(cost) * f64_math::log1p_to_one(ratio);
            *odds += f64::from(cost) * ratio;
        }
    }
    (logs.iter().sum(), odds.iter().sum())
}

/// [`costs_of_row`] from logits, with exponentials in f64.
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

/// Gradient of a piece of a row that begins at class `start`, in place over its exponentials, or over its logits if they
/// are `far`: then exponentials are computed in f64. The factors are scale, share and the row's factor.
#[inline(never)]
fn write_elements(
    elements: &mut [f32],
    (spread, targets, start): (Option<Spread<'_>>, Option<&[f32]>, usize),
    costs: Option<&[f32]>,
    far: Option<Reference>,
    [scale, share, factor]: [f64; 3],
) {
    for (class, element) in elements.iter_mut().enumerate() {
        let e = far.map_or(f64::from(*element), |reference| reference.exp(*element));
        let mut value = e * scale;
        if let Some(costs) = costs {
            let p = e * share;
            value += factor * f64::from(costs.get(class).copied().unwrap_or(0.0)) * (p / (1.0 - p));
        }
        if let Some(spread) = spread {
            value -= factor * spread.of_class_at(targets, class, start);
        }
        *element = value as f32;
    }
}
