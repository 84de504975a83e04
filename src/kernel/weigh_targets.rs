//! Weight sums of target probabilities, Σ s·Σ_c w\[c\]·q_c and Σ s: the denominators of a mean. The former is not finite if
//! a probability is not.
//!
//! The lanes of a sum are classes, not rows: one horizontal sum for a chunk of rows. In `[N, C, D]` they are positions.

use super::classes::Weights;
use super::limits::SHORT;
use super::spread::padded_column;
use super::sums::has_long_vectors;
use super::{copy, from, part, rows_of, rows_of_mut, steps, whole};
use crate::backend::vector::{Driver, VIRTUAL_LANES, Vector};
use crate::rows::Rows;
use core::ops::Range;

/// Adds up the weights of all rows. Everything but the targets has been validated.
pub(crate) struct WeighTargets<'a> {
    pub(crate) rows: &'a Rows<'a>,
    pub(crate) targets: &'a [f32],
    pub(crate) weights: &'a mut Weights,
}

impl Driver for WeighTargets<'_> {
    type Output = ();

    fn drive<S: Vector>(self, s: S) {
        s.run(
            #[inline(always)]
            || self.add_up::<S>(),
        );
    }
}

impl WeighTargets<'_> {
    #[inline(always)]
    fn add_up<S: Vector>(self) {
        let Self { rows, targets, weights } = self;
        weights.counted = rows.count();
        let (classes, of_classes) = (rows.classes(), rows.class_weights());
        // Sixteen short rows are one row of whole columns.
        let are_short =
            has_long_vectors::<S>() && rows.are_dense() && rows.sample_weights().is_none() && classes <= SHORT;
        let mut of_sixteen = [0.0; VIRTUAL_LANES * SHORT];
        let (by_columns, at_once) = if are_short {
            let of_sixteen = rows_of_mut(&mut of_sixteen, 0, VIRTUAL_LANES, classes);
            for of_row in of_sixteen.chunks_exact_mut(classes.max(1)) {
                copy(of_row, of_classes.unwrap_or(&[]));
            }
            (ByColumns::of_whole(of_classes.map(|_| &*of_sixteen), classes), VIRTUAL_LANES)
        } else {
            (ByColumns::new(rows), 1)
        };
        let mut first = 0;
        while first < rows.count() {
            let count = rows.left_in_chunk(first);
            let samples = rows.sample_weights().map(|samples| part(samples, first, count));
            let (mut sums, next) = ([0.0; VIRTUAL_LANES], first.wrapping_add(count));
            if S::WIDE && rows.positions() == 1 {
                // Fewer than sixteen rows are left: those that are missing are zeros.
                let last = first.wrapping_add(whole(count, at_once));
                let mut padded = [0.0; VIRTUAL_LANES * SHORT];
                copy(&mut padded, rows_of(targets, last, next.wrapping_sub(last), classes));
                let targets_of = |row| if row < last { from(targets, rows.start(row)) } else { &padded };
                add_rows(
                    steps(count, at_once).map(|at| first.wrapping_add(at)),
                    samples,
                    &mut sums,
                    #[inline(always)]
                    |row| by_columns.of_row(targets_of(row)),
                );
            } else {
                add_runs(rows, targets, first..next, &mut sums);
            }
            weights.weights.add_lanes(first, &sums);
            for (row, &sample) in (first..).zip(samples.unwrap_or(&[])) {
                weights.sample_weights.add(row, f64::from(sample));
            }
            first = next;
        }
    }
}

/// Adds the lanes of some rows, times their sample weights.
#[inline(always)]
fn add_rows(
    rows: impl Iterator<Item = usize>,
    samples: Option<&[f32]>,
    sums: &mut [f64; VIRTUAL_LANES],
    of_row: impl Fn(usize) -> [f64; VIRTUAL_LANES],
) {
    for (at, row) in rows.enumerate() {
        let sample = samples.map_or(1.0, |samples| f64::from(samples.get(at).copied().unwrap_or(0.0)));
        for (sum, of_row) in sums.iter_mut().zip(of_row(row)) {
            *sum += of_row * sample;
        }
    }
}

/// Σ w\[c\]·q_c of a row whose targets are contiguous, in columns of 16.
struct ByColumns<'a> {
    /// Class weights of pairs of whole columns, over and over, and of the last column where their number is odd.
    pairs: &'a [[[f32; VIRTUAL_LANES]; 2]],
    unpaired: &'a [f32; VIRTUAL_LANES],
    /// The remainder of a row: first class, class weights, and bit masks of the targets.
    start: usize,
    last_weights: [f64; VIRTUAL_LANES],
    mask: [u32; VIRTUAL_LANES],
}

impl<'a> ByColumns<'a> {
    fn new(rows: &Rows<'a>) -> Self {
        let start = whole(rows.classes(), VIRTUAL_LANES);
        let mut columns = Self::of_whole(rows.class_weights(), start / VIRTUAL_LANES);
        for ((weight, bits), class) in columns.last_weights.iter_mut().zip(&mut columns.mask).zip(start..rows.classes())
        {
            (*weight, *bits) = (f64::from(rows.weight(class)), u32::MAX);
        }
        columns
    }

    /// For rows of so many columns, without a remainder. No weights are ones.
    fn of_whole(weights: Option<&'a [f32]>, columns: usize) -> Self {
        const ONES: [f32; VIRTUAL_LANES] = [1.0; VIRTUAL_LANES];
        let start = columns.wrapping_mul(VIRTUAL_LANES);
        let (pairs, unpaired) =
            weights.map_or((&[[ONES; 2]][..], &[][..]), |weights| part(weights, 0, start).as_chunks().0.as_chunks());
        Self {
            pairs,
            unpaired: unpaired.first().unwrap_or(&ONES),
            start,
            last_weights: [0.0; VIRTUAL_LANES],
            mask: [0; VIRTUAL_LANES],
        }
    }

    /// The sum of a row, class c in lane c % 16.
    #[inline(always)]
    fn of_row(&self, targets: &[f32]) -> [f64; VIRTUAL_LANES] {
        // Even and odd columns are two chains of additions.
        let [even, odd] = &mut [[0.0; VIRTUAL_LANES]; 2];
        let (pairs, unpaired) = part(targets, 0, self.start).as_chunks().0.as_chunks::<2>();
        for ([first, second], [of_first, of_second]) in pairs.iter().zip(self.pairs.iter().cycle()) {
            add_column(even, first, of_first);
            add_column(odd, second, of_second);
        }
        let remainder = from(targets, self.start);
        if let [column] = unpaired {
            add_column(even, column, self.unpaired);
            self.add_remainder(remainder, odd);
        } else {
            self.add_remainder(remainder, even);
        }
        for (even, odd) in even.iter_mut().zip(odd) {
            *even += *odd;
        }
        *even
    }

    #[inline(always)]
    fn add_remainder(&self, targets: &[f32], sums: &mut [f64; VIRTUAL_LANES]) {
        let column = padded_column(targets, 0);
        for (((sum, q), mask), w) in sums.iter_mut().zip(column).zip(self.mask).zip(self.last_weights) {
            *sum += f64::from(f32::from_bits(q.to_bits() & mask)) * w;
        }
    }
}

#[inline(always)]
fn add_column(sums: &mut [f64; VIRTUAL_LANES], q: &[f32; VIRTUAL_LANES], weights: &[f32; VIRTUAL_LANES]) {
    for ((sum, &q), &w) in sums.iter_mut().zip(q).zip(weights) {
        *sum += f64::from(q) * f64::from(w);
    }
}

/// Adds s·Σ w\[c\]·q_c of rows of any layout: the lanes are sixteen positions of a sample or, where fewer are left, one.
#[inline(always)]
fn add_runs(rows: &Rows<'_>, targets: &[f32], range: Range<usize>, sums: &mut [f64; VIRTUAL_LANES]) {
    let mut first = range.start;
    while first < range.end {
        let left = rows.left_in_sample(first).min(range.end.wrapping_sub(first));
        let (mut of_rows, mut run) = ([0.0; VIRTUAL_LANES], 1);
        for class in 0..rows.classes() {
            let (q, weight) = (from(targets, rows.element(first, class)), rows.weight(class));
            if left < VIRTUAL_LANES {
                of_rows[0] += f64::from(q.first().copied().unwrap_or(0.0)) * f64::from(weight);
            } else if let Some(q) = q.first_chunk() {
                run = VIRTUAL_LANES;
                add_column(&mut of_rows, q, &[weight; VIRTUAL_LANES]);
            }
        }
        for ((sum, of_row), row) in sums.iter_mut().zip(of_rows).zip(first..).take(run) {
            *sum += of_row * f64::from(rows.sample_weight(row));
        }
        first = first.wrapping_add(run);
    }
}
