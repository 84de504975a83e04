//! The diagonal of the Hessian of a row's loss with respect to its logits, and a diagonal bound of the Hessian, in f64.
//!
//! With W = a + Σ u, the weight of all −log p_c, mislabel costs c_j, s_j = c_j·p_j/(1 − p_j) and t_j = s_j/(1 − p_j),
//! the diagonal is
//!
//! W·p_i·(1 − p_i) + c_i·p_i − p_i·(1 − p_i)·Σ_j s_j + p_i²·Σ_{j≠i} t_j.
//!
//! s and t of the argmax m may overflow in f64. With r_i = p_i/(1 − p_m), the probability of class i among the others,
//! c_m adds c_m·p_m·r_i·(r_i − (1 − p_i)) to the element of i ≠ m, and c_m·p_m·(1 − p_m) to that of m. The exponentials
//! of r are relative to the largest logit of the others, so that r is accurate however far m leads.
//!
//! The bound is the sum of diagonal bounds (A ≼ B: B − A is positive semidefinite). W·(diag p − p·pᵀ) ≼ its absolute
//! row sums, 2·|W|·p_i·(1 − p_i). −log(1 − p_j) = softplus(u) with a concave u = x_j − log Σ_{i≠j} exp x_i: its Hessian
//! ≼ p_j·(1 − p_j)·∇u·∇uᵀ and, by v·vᵀ ≼ diag(|v_i|·Σ|v|), ≼ 2·p_j·(1 − p_j) at j and 2·p_j·p_i at i ≠ j.

use super::references::argmax;
use super::spread::Spread;
use super::term_scalars::Terms;
use super::tile::{Batch, Place, with_tile};
use super::{f64_math, from, part, part_mut, row_of, whole};
use crate::backend::vector::{Driver, VIRTUAL_LANES, Vector};
use crate::reduction::sum_of_lanes;

/// Writes curvatures to the gradient of the batch. All inputs have been validated.
pub(crate) struct CurvatureRows<'a> {
    pub(crate) batch: Batch<'a>,
    pub(crate) terms: Terms<'a>,
    /// Whether the bound is written instead of the diagonal.
    pub(crate) bound: bool,
}

impl Driver for CurvatureRows<'_> {
    type Output = ();

    fn drive<S: Vector>(mut self, s: S) {
        let rows = self.batch.rows;
        if rows.count() == 0 {
            // Without rows C is unbounded: loops over classes might not end.
            return;
        }
        let spread = self.terms.has_spread().then(|| {
            let spread = Spread::new(&self.terms, rows);
            spread.with_u_sum(&self.terms, rows.classes())
        });
        with_tile::<2>(rows.count(), rows.classes(), &mut |tile| {
            for row in 0..rows.count() {
                self.row(s, tile.numbers, tile.spare, spread, row);
            }
        });
    }
}

/// The scalars of a row.
#[derive(Clone, Copy, Default)]
struct Row<'a> {
    /// W and c.
    weight: f64,
    costs: &'a [f32],
    /// Sample weight times the gradient's scale, over the temperature squared.
    factor: f64,
    /// m and c_m.
    class: usize,
    cost: f64,
    /// The largest logit of the other classes, and 1/Σ_{i≠m} exp(x_i − second).
    second: f64,
    inverse: f64,
    /// p_m and 1 − p_m
    hit: f64,
    miss: f64,
    /// Σ_{j≠m} s_j, Σ_{j≠m} t_j and Σ_{j≠m} c_j·p_j.
    odds: f64,
    steep_odds: f64,
    mistakes: f64,
}

impl<'a> CurvatureRows<'a> {
    fn row<S: Vector>(&mut self, s: S, numbers: &mut [f32], spare: &mut [f32], spread: Option<Spread<'_>>, row: usize) {
        let classes = self.batch.rows.classes();
        let room = whole(numbers.len().min(spare.len()), VIRTUAL_LANES);
        let pieces = || Place { first: row, rows: 1, start: 0, width: classes }.pieces(room);
        let mut of_row = self.weigh(s, spare, spread, row, pieces());
        if of_row.factor == 0.0 || of_row.weight == 0.0 && of_row.costs.iter().all(|&cost| cost == 0.0) {
            return self.fill(s, numbers, pieces(), 0.0);
        }
        let mut first = f32::NEG_INFINITY;
        for place in pieces() {
            self.batch.load_rows(s, place, numbers);
            let (logit, class) = argmax(s, part(numbers, 0, place.width));
            if logit > first || place.start == 0 {
                (first, of_row.class) = (logit, place.start.wrapping_add(class));
            }
        }
        let mut second = f32::NEG_INFINITY;
        for place in pieces() {
            self.load_others(s, place, of_row.class, numbers);
            let (logit, _) = argmax(s, part(numbers, 0, place.width));
            second = if logit > second || logit.is_nan() { logit } else { second };
        }
        of_row.cost = f64::from(of_row.costs.get(of_row.class).copied().unwrap_or(0.0));
        // All other logits are −∞: any finite value gives exponentials of 0.
        of_row.second = if second == f32::NEG_INFINITY { 0.0 } else { f64::from(second) };
        let mut lanes = [0.0; VIRTUAL_LANES];
        for place in pieces() {
            self.load_others(s, place, of_row.class, numbers);
            add_others(s, part(numbers, 0, place.width), of_row.second, &mut lanes);
        }
        let sum = sum_of_lanes(lanes);
        if first.is_nan() || first == f32::NEG_INFINITY || second == f32::INFINITY || sum.is_nan() {
            return self.fill(s, numbers, pieces(), f32::NAN);
        }
        of_row.inverse = if sum == 0.0 { 0.0 } else { 1.0 / sum };
        // Not 0·∞, where no other logit is above −∞ and the largest is far below 0.
        let excluded = if sum == 0.0 { 0.0 } else { sum * f64_math::exp(of_row.second - f64::from(first)) };
        (of_row.hit, of_row.miss) = (1.0 / (1.0 + excluded), excluded / (1.0 + excluded));
        if !of_row.costs.is_empty() {
            let mut sums = [[0.0; VIRTUAL_LANES]; 3];
            for place in pieces() {
                self.load_others(s, place, of_row.class, numbers);
                add_costs(s, part(numbers, 0, place.width), place.start, of_row, &mut sums);
            }
            [of_row.mistakes, of_row.odds, of_row.steep_odds] = sums.map(sum_of_lanes);
        }
        for place in pieces() {
            self.load_others(s, place, of_row.class, numbers);
            let numbers = part_mut(numbers, 0, place.width);
            write_others(s, numbers, place.start, of_row, self.bound);
            if let Some(element) = of_row.class.checked_sub(place.start).and_then(|class| numbers.get_mut(class)) {
                let factor = if self.bound { of_row.factor.abs() } else { of_row.factor };
                *element = (factor * of_row.of_largest(self.bound)) as f32;
            }
            self.batch.store_rows(s, place, numbers);
        }
    }

    /// The row with weight, costs and factor; its other scalars are 0.
    fn weigh<S: Vector>(
        &self,
        s: S,
        spare: &mut [f32],
        spread: Option<Spread<'_>>,
        row: usize,
        pieces: impl Iterator<Item = Place>,
    ) -> Row<'a> {
        let (rows, terms) = (self.batch.rows, &self.terms);
        let (classes, label) = (rows.classes(), rows.class(row));
        let mut weight = label.map_or(0.0, |label| terms.kept() * f64::from(rows.weight(label)));
        if let (Some(spread), Some(soft)) = (spread, terms.soft) {
            for place in pieces {
                self.batch.load_targets(s, soft, place, spare);
                for index in 0..place.width {
                    weight += spread.of_class_at(Some(part(spare, 0, place.width)), index, place.start);
                }
            }
        } else if let Some(spread) = spread {
            weight += spread.u_sum;
        }
        let costs = match (terms.costs, label) {
            (Some(matrix), Some(label)) => row_of(matrix, label, classes),
            _ => &[],
        };
        let temperature = f64::from(self.batch.adjustment.temperature);
        let mut factor = 0.0;
        if rows.counts(row) && rows.sample_weight(row) != 0.0 {
            factor = f64::from(rows.sample_weight(row)) * self.batch.scale.of_row(row) / (temperature * temperature);
        }
        Row { weight, costs, factor, ..Row::default() }
    }

    /// Loads logits, with −∞ at m. Those of a row in one piece are in `numbers` since m was found.
    fn load_others<S: Vector>(&self, s: S, place: Place, class: usize, numbers: &mut [f32]) {
        if place.width < self.batch.rows.classes() {
            self.batch.load_rows(s, place, numbers);
        }
        let numbers = part_mut(numbers, 0, place.width);
        if let Some(logit) = class.checked_sub(place.start).and_then(|class| numbers.get_mut(class)) {
            *logit = f32::NEG_INFINITY;
        }
    }

    fn fill<S: Vector>(&mut self, s: S, numbers: &mut [f32], pieces: impl Iterator<Item = Place>, with: f32) {
        numbers.fill(with);
        for place in pieces {
            self.batch.store_rows(s, place, numbers);
        }
    }
}

impl Row<'_> {
    fn of_largest(&self, bound: bool) -> f64 {
        let Self { weight, cost, hit, miss, odds, steep_odds, mistakes, .. } = *self;
        if bound {
            return 2.0 * hit * ((weight.abs() + cost) * miss + mistakes);
        }
        (weight + cost - odds) * (hit * miss) + hit * hit * steep_odds
    }

    /// r_i of 16 logits at most.
    #[inline(always)]
    fn shares(&self, logits: &[f32]) -> [f64; VIRTUAL_LANES] {
        exponentials(logits, self.second).map(
            #[inline(always)]
            |e| e * self.inverse,
        )
    }

    /// c_j of 16 classes from `class` on, padded with zeros.
    #[inline(always)]
    fn costs_from(&self, class: usize) -> [f64; VIRTUAL_LANES] {
        let mut costs = [0.0; VIRTUAL_LANES];
        for (to, &cost) in costs.iter_mut().zip(from(self.costs, class)) {
            *to = f64::from(cost);
        }
        costs
    }
}

/// exp(x − largest) of 16 logits at most, padded with zeros.
#[inline(always)]
fn exponentials(logits: &[f32], largest: f64) -> [f64; VIRTUAL_LANES] {
    let mut gaps = [f64::NEG_INFINITY; VIRTUAL_LANES];
    for (gap, &x) in gaps.iter_mut().zip(logits) {
        *gap = f64::from(x) - largest;
    }
    let mut of_gaps = [0.0; VIRTUAL_LANES];
    for (of_gap, &gap) in of_gaps.iter_mut().zip(&gaps) {
        *of_gap = f64_math::exp(gap);
    }
    of_gaps
}

/// Adds exp(x − second) of a piece, 0 at m, to partial sums.
fn add_others<S: Vector>(s: S, logits: &[f32], second: f64, lanes: &mut [f64; VIRTUAL_LANES]) {
    s.run(
        #[inline(always)]
        move || {
            for logits in logits.chunks(VIRTUAL_LANES) {
                let e = exponentials(logits, second);
                for (lane, e) in lanes.iter_mut().zip(e) {
                    *lane += e;
                }
            }
        },
    )
}

/// Adds c_j·p_j, s_j and t_j of a piece from class `start` on, 0 at m, to partial sums.
fn add_costs<S: Vector>(s: S, logits: &[f32], start: usize, row: Row<'_>, sums: &mut [[f64; VIRTUAL_LANES]; 3]) {
    s.run(
        #[inline(always)]
        move || {
            let [mistakes, odds, steep] = sums;
            for (class, logits) in (start..).step_by(VIRTUAL_LANES).zip(logits.chunks(VIRTUAL_LANES)) {
                let (r, costs) = (row.shares(logits), row.costs_from(class));
                let sums = mistakes.iter_mut().zip(&mut *odds).zip(&mut *steep);
                for (((mistakes, odds), steep), (r, cost)) in sums.zip(r.iter().zip(&costs)) {
                    let p = r * row.miss;
                    let of_class = cost * p / (1.0 - p);
                    *mistakes += cost * p;
                    *odds += of_class;
                    *steep += of_class / (1.0 - p);
                }
            }
        },
    )
}

/// Writes the elements of a piece over its logits; the caller sets that of m.
fn write_others<S: Vector>(s: S, numbers: &mut [f32], start: usize, row: Row<'_>, bound: bool) {
    s.run(
        #[inline(always)]
        move || {
            let largest_cost = row.cost * row.hit;
            let mistakes = row.mistakes + largest_cost;
            for (class, numbers) in (start..).step_by(VIRTUAL_LANES).zip(numbers.chunks_mut(VIRTUAL_LANES)) {
                let (r, costs) = (row.shares(numbers), row.costs_from(class));
                let mut elements = [0.0; VIRTUAL_LANES];
                for (to, (r, cost)) in elements.iter_mut().zip(r.iter().zip(&costs)) {
                    let p = r * row.miss;
                    let q = 1.0 - p;
                    let steep = cost * p / (q * q);
                    let of_costs = cost * p - p * q * row.odds + p * p * (row.steep_odds - steep);
                    let of_largest = largest_cost * (r * (r - q));
                    let element = row.factor * (row.weight * (p * q) + of_costs + of_largest);
                    // i ≠ m, so that p ≤ ½: Σ c·p − c_i·p_i + c_i·(1 − p_i) without cancellation.
                    let of_bound = 2.0 * p * (row.weight.abs() * q + (mistakes + cost * (q - p)));
                    *to = if bound { row.factor.abs() * of_bound } else { element } as f32;
                }
                super::copy(numbers, &elements);
            }
        },
    )
}
