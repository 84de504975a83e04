//! The class j of least expected cost Σ_y p_y·cost[y,j] of each row: sums of non-negative terms in class order, in f64
//! and without [`Vector`] operations, so that every backend returns the same bits.

use super::limits::{DECIDED_AT_ONCE, FEW_DECIDED};
use super::tile::{Batch, Place};
use super::{copy, f64_math, from_row, part, part_mut, row_of, whole};
use crate::backend::Backend;
use crate::backend::vector::{Driver, Vector};
use core::ops::Range;

/// Written by [`CrossEntropy::decide`](crate::CrossEntropy::decide) for a row without a decision.
pub const NO_DECISION: u32 = u32::MAX;

/// Rows that are computed together, one per lane; the remainder, and all rows on targets without vectors, one by one.
const LANES: usize = 8;

/// Everything has been validated.
pub(crate) struct DecisionRows<'a> {
    pub(crate) batch: Batch<'a>,
    /// Whether the logits of the batch are in fact probabilities.
    pub(crate) given: bool,
    /// fp, `[C, C]`
    pub(crate) costs: Option<&'a [f32]>,
    pub(crate) decisions: &'a mut [u32],
    pub(crate) expected_costs: Option<&'a mut [f32]>,
}

impl Driver for DecisionRows<'_> {
    /// The number of rows without a decision.
    type Output = usize;

    fn drive<S: Vector>(mut self, s: S) -> usize {
        let count = self.batch.rows.count();
        let together = whole(count, LANES);
        if Backend::ONLY_SCALAR || together == 0 {
            return self.decide::<S, 1>(s, 0..count);
        }
        self.decide::<S, LANES>(s, 0..together).saturating_add(self.decide::<S, 1>(s, together..count))
    }
}

impl DecisionRows<'_> {
    #[inline(never)]
    fn decide<S: Vector, const L: usize>(&mut self, s: S, rows: Range<usize>) -> usize {
        if rows.is_empty() {
            0
        } else if self.batch.rows.classes() <= FEW_DECIDED {
            self.within::<S, L, FEW_DECIDED>(s, rows)
        } else {
            self.within::<S, L, DECIDED_AT_ONCE>(s, rows)
        }
    }

    #[inline(always)]
    fn within<S: Vector, const L: usize, const WIDTH: usize>(&mut self, s: S, rows: Range<usize>) -> usize {
        let (mut e, mut sums, mut numbers) = ([[0.0; L]; WIDTH], [[0.0; L]; WIDTH], [[0.0; WIDTH]; L]);
        let numbers = numbers.as_flattened_mut();
        Groups { of: self, rows, e: &mut e, sums: &mut sums, numbers }.decide(s)
    }

    /// Writes decisions and expected costs of L rows; returns how many have no decision.
    #[inline(always)]
    fn write<const L: usize>(&mut self, first: usize, found: &Found<L>) -> usize {
        let (mut undecided, mut costs) = (0_usize, [f32::NAN; L]);
        let sums = found.largest.iter().zip(&found.total);
        let rows = sums.zip(found.class.iter().zip(&found.least));
        let out = part_mut(self.decisions, first, L).iter_mut().zip(&mut costs);
        for (((&largest, &total), (&class, &least)), (decision, cost)) in rows.zip(out) {
            let is_certain = largest == f64::INFINITY && total == 1.0;
            if total.is_nan() || !(self.given || largest.is_finite() || is_certain) {
                *decision = NO_DECISION;
                undecided = undecided.saturating_add(1);
                continue;
            }
            *decision = class as u32;
            *cost = (least / if self.given { 1.0 } else { total }) as f32;
        }
        if let Some(out) = self.expected_costs.as_deref_mut() {
            copy(part_mut(out, first, L), &costs);
        }
        undecided
    }
}

/// Decides `rows`, L at a time, with buffers for a piece of their classes.
struct Groups<'a, 'b, const L: usize> {
    of: &'a mut DecisionRows<'b>,
    rows: Range<usize>,
    /// Logits, then unnormalised probabilities, class by class, one row per lane.
    e: &'a mut [[f64; L]],
    /// Unnormalised expected cost of deciding for each class, one row per lane.
    sums: &'a mut [[f64; L]],
    /// Logits that are not dense f32, row by row.
    numbers: &'a mut [f32],
}

impl<const L: usize> Groups<'_, '_, L> {
    fn decide<S: Vector>(mut self, s: S) -> usize {
        s.run(
            #[inline(always)]
            || {
                let mut undecided = 0_usize;
                for first in self.rows.clone().step_by(L) {
                    let found = self.find(s, Place { first, rows: L, start: 0, width: self.of.batch.rows.classes() });
                    undecided = undecided.saturating_add(self.of.write(first, &found));
                }
                undecided
            },
        )
    }

    #[inline(always)]
    fn find<S: Vector>(&mut self, s: S, rows: Place) -> Found<L> {
        let (at_once, costs, weights) = (self.e.len(), self.of.costs, self.of.batch.rows.class_weights());
        let mut found = Found::new(costs.map_or(0.0, |_| f64::INFINITY));
        for place in rows.pieces(at_once) {
            self.load_rows(s, place);
            found.find_argmax(place.start, part_mut(self.e, 0, place.width));
        }
        let argmax = core::mem::replace(&mut found.class, [0.0; L]);
        for named in rows.pieces(if costs.is_some() { at_once } else { rows.width }) {
            found.total = [0.0; L];
            part_mut(self.sums, 0, costs.map_or(0, |_| named.width)).fill([0.0; L]);
            for place in rows.pieces(at_once) {
                if at_once < rows.width {
                    self.load_rows(s, place);
                }
                let e = part_mut(self.e, 0, place.width);
                found.add_up(e, self.of.given);
                match costs {
                    Some(costs) => self.add_costs(costs, named, place),
                    None => found.find_most(place.start, e, weights),
                }
            }
            if costs.is_some() {
                found.find_least(named.start, part_mut(self.sums, 0, named.width));
            }
        }
        // Distinct logits may have equal exponentials.
        if costs.is_none() && weights.is_none() {
            found.class = argmax;
        }
        found
    }

    /// Transposes the logits of `place` into `e`, each row into a lane.
    #[inline(never)]
    fn load_rows<S: Vector>(&mut self, s: S, place: Place) {
        let (batch, Place { first, start, width, .. }) = (&self.of.batch, place);
        let dense = batch.as_tile();
        if dense.is_none() {
            batch.load_rows(s, place, self.numbers);
        }
        let (at, stride) = dense.map_or((0, width), |_| (batch.rows.element(first, start), batch.rows.classes()));
        transpose_to_lanes(dense.unwrap_or(self.numbers).get(at..).unwrap_or(&[]), stride, width, self.e);
    }

    /// Adds e_y·(fn\[y\] + fp\[y,j\]) for y in `place` to the sums of the classes j ≠ y in `named`.
    #[inline(always)]
    fn add_costs(&mut self, costs: &[f32], named: Place, place: Place) {
        let rows = self.of.batch.rows;
        for (truth, &e) in (place.start..).zip(part(self.e, 0, place.width)) {
            let (miss, own) = (f64::from(rows.weight(truth)), truth.wrapping_sub(named.start));
            let right = self.sums.get(own).copied();
            let costs = part(row_of(costs, truth, rows.classes()), named.start, named.width);
            for (sums, &mislabel) in lanes(self.sums).zip(costs) {
                let cost = miss + f64::from(mislabel);
                for (sum, e) in sums.iter_mut().zip(&e) {
                    *sum += cost * e;
                }
            }
            if let Some((sums, right)) = self.sums.get_mut(own).zip(right) {
                *sums = right;
            }
        }
    }
}

/// Transposes the first `width` elements of L rows, `stride` apart, into lanes.
#[inline(never)]
fn transpose_to_lanes<const L: usize>(numbers: &[f32], stride: usize, width: usize, to: &mut [[f64; L]]) {
    for lane in 0..L {
        for (to, &x) in to.iter_mut().zip(part(from_row(numbers, lane, stride), 0, width)) {
            if let Some(to) = to.get_mut(lane) {
                *to = f64::from(x);
            }
        }
    }
}

/// Class by class, vectorised across rows as by [`one_by_one`](super::tile::one_by_one); one row across its classes.
#[inline(always)]
fn lanes<const L: usize>(classes: &mut [[f64; L]]) -> impl Iterator<Item = &mut [f64; L]> {
    classes.iter_mut().map(|class| if L > 1 { core::hint::black_box(class) } else { class })
}

/// Running maxima and sums over the classes of L rows.
struct Found<const L: usize> {
    largest: [f64; L],
    /// The decision, as f64, so that a vector blends as many indices as it compares values.
    class: [f64; L],
    /// The sum of the unnormalised probabilities.
    total: [f64; L],
    /// The least unnormalised expected cost.
    least: [f64; L],
    /// The largest weight\[y\]·e_y, that of the decision: the term that its expected cost lacks.
    most: [f64; L],
}

impl<const L: usize> Found<L> {
    #[inline(always)]
    fn new(least: f64) -> Self {
        let zeros = [0.0; L];
        Self { largest: [f64::NEG_INFINITY; L], class: zeros, total: zeros, least: [least; L], most: zeros }
    }

    /// Row-wise maximum and argmax, the first of equals.
    #[inline(always)]
    fn find_argmax(&mut self, start: usize, logits: &mut [[f64; L]]) {
        for (class, x) in (start..).zip(lanes(logits)) {
            for (&mut x, (largest, found)) in x.iter_mut().zip(self.largest.iter_mut().zip(&mut self.class)) {
                let is_larger = x > *largest;
                *largest = if is_larger { x } else { *largest };
                *found = if is_larger { class as f64 } else { *found };
            }
        }
    }

    /// Replaces logits by exp(x − largest), given values that are no probabilities by NaN; adds them to the total.
    #[inline(always)]
    fn add_up(&mut self, numbers: &mut [[f64; L]], given: bool) {
        for x in lanes(numbers) {
            for (x, &largest) in x.iter_mut().zip(&self.largest) {
                let is_probability = (0.0..=f64::from(f32::MAX)).contains(&*x);
                // Equal logits first: ∞ − ∞ would be NaN.
                let below = if *x == largest { 0.0 } else { *x - largest };
                *x = if !given {
                    below
                } else if is_probability {
                    *x
                } else {
                    f64::NAN
                };
            }
        }
        if !given {
            for x in numbers.as_flattened_mut() {
                *x = f64_math::exp(*x);
            }
        }
        for e in lanes(numbers) {
            for (total, e) in self.total.iter_mut().zip(e) {
                *total += *e;
            }
        }
    }

    /// Without mislabel costs Σ_{y≠j} weight\[y\]·e_y is least for the largest term: adds up all others.
    #[inline(always)]
    fn find_most(&mut self, start: usize, e: &mut [[f64; L]], weights: Option<&[f32]>) {
        for (class, e) in (start..).zip(lanes(e)) {
            let weight = f64::from(weights.map_or(1.0, |weights| weights.get(class).copied().unwrap_or(0.0)));
            let known = self.most.iter_mut().zip(&mut self.least).zip(&mut self.class);
            for (&mut e, ((most, least), found)) in e.iter_mut().zip(known) {
                let (cost, before) = (weight * e, *most);
                *found = if cost > before { class as f64 } else { *found };
                *most = if cost > before { cost } else { before };
                *least += if cost < before { cost } else { before };
            }
        }
    }

    /// The first class of the least sum.
    #[inline(always)]
    fn find_least(&mut self, start: usize, sums: &mut [[f64; L]]) {
        for (class, sum) in (start..).zip(lanes(sums)) {
            for (&mut sum, (least, found)) in sum.iter_mut().zip(self.least.iter_mut().zip(&mut self.class)) {
                let is_less = sum < *least;
                *least = if is_less { sum } else { *least };
                *found = if is_less { class as f64 } else { *found };
            }
        }
    }
}
