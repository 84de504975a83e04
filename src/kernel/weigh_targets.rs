//! Weight sums of target probabilities, Σ s·Σ_c w\[c\]·q_c and Σ s: the denominators of a mean. The former is not finite if
//! a probability is not.
//!
//! A chunk of rows has one horizontal sum: with weights the lanes are classes, in `[N, C, D]` positions; without, any
//! elements.

use super::classes::Weights;
use super::limits::SHORT;
use super::spread::padded_column;
use super::{copy, from, part, rows_of_mut, steps, whole};
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
        let Self { rows, targets, weights } = self;
        weights.counted = rows.count();
        let (classes, of_classes, without_samples) =
            (rows.classes(), rows.class_weights(), rows.sample_weights().is_none());
        let are_one = rows.are_contiguous() && without_samples && of_classes.is_none();
        let are_short = rows.are_dense() && without_samples && classes <= SHORT && rows.count() >= VIRTUAL_LANES;
        let mut of_sixteen = [0.0; VIRTUAL_LANES * SHORT];
        if let Some(weights) = of_classes.filter(|_| are_short) {
            for of_row in rows_of_mut(&mut of_sixteen, 0, VIRTUAL_LANES, classes).chunks_exact_mut(classes.max(1)) {
                copy(of_row, weights);
            }
        }
        let mut first = 0;
        while first < rows.count() {
            let count = rows.left_in_chunk(first);
            let (mut sums, next) = ([0.0; VIRTUAL_LANES], first.wrapping_add(count));
            if !S::WIDE || rows.positions() > 1 && !are_one {
                add_runs(s, rows, targets, first..next, &mut sums);
            } else {
                // Without weights a chunk, of whole samples, is one row; else sixteen short rows are, whose columns are
                // whole.
                let at_once = match of_classes {
                    None if are_one => count,
                    Some(_) if are_short => VIRTUAL_LANES,
                    _ => 1,
                };
                let grouped = first.wrapping_add(whole(count, at_once));
                let weights = of_classes.map(|weights| if are_short { &of_sixteen } else { weights });
                let by_columns = ByColumns::new(weights, at_once.wrapping_mul(classes));
                add_rows(s, rows, targets, (first..grouped, at_once), &by_columns, &mut sums);
                if grouped < next {
                    let by_columns = ByColumns::new(of_classes, classes);
                    add_rows(s, rows, targets, (grouped..next, 1), &by_columns, &mut sums);
                }
            }
            weights.weights.add_lanes(first, &sums);
            for row in (first..next).filter(|_| rows.sample_weights().is_some()) {
                weights.sample_weights.add(row, f64::from(rows.sample_weight(row)));
            }
            first = next;
        }
    }
}

/// Adds s·Σ w\[c\]·q_c of rows whose targets are contiguous, `at_once` of them as one.
fn add_rows<S: Vector>(
    s: S,
    rows: &Rows<'_>,
    targets: &[f32],
    (range, at_once): (Range<usize>, usize),
    by_columns: &ByColumns<'_>,
    sums: &mut [f64; VIRTUAL_LANES],
) {
    s.run(
        #[inline(always)]
        move || {
            for at in steps(range.len(), at_once) {
                let row = range.start.wrapping_add(at);
                let sample = f64::from(rows.sample_weight(row));
                for (sum, of_row) in sums.iter_mut().zip(by_columns.of_row(from(targets, rows.start(row)))) {
                    *sum += of_row * sample;
                }
            }
        },
    )
}

/// Σ w\[c\]·q_c of a row whose targets are contiguous, in columns of 16.
struct ByColumns<'a> {
    /// Class weights of whole columns.
    weights: Option<&'a [[f32; VIRTUAL_LANES]]>,
    /// The remainder of a row: first class, class weights, and bit masks of the targets.
    start: usize,
    last_weights: [f64; VIRTUAL_LANES],
    mask: [u32; VIRTUAL_LANES],
}

impl<'a> ByColumns<'a> {
    /// For rows of `len` classes; no weights are ones.
    fn new(weights: Option<&'a [f32]>, len: usize) -> Self {
        let start = whole(len, VIRTUAL_LANES);
        let (mut last_weights, mut mask) = ([0.0; VIRTUAL_LANES], [0; VIRTUAL_LANES]);
        for ((weight, bits), class) in last_weights.iter_mut().zip(&mut mask).zip(start..len) {
            let of_class = weights.map_or(1.0, |weights| weights.get(class).copied().unwrap_or(0.0));
            (*weight, *bits) = (f64::from(of_class), u32::MAX);
        }
        Self { weights: weights.map(|weights| part(weights, 0, start).as_chunks().0), start, last_weights, mask }
    }

    /// The sum of a row, class c in lane c % 16.
    #[inline(always)]
    fn of_row(&self, targets: &[f32]) -> [f64; VIRTUAL_LANES] {
        let [even, odd] = &mut [[0.0; VIRTUAL_LANES]; 2];
        let (columns, remainder) = targets.split_at_checked(self.start).unwrap_or_default();
        let columns = columns.as_chunks().0;
        if let Some(weights) = self.weights {
            for (column, weights) in columns.iter().zip(weights) {
                add_weighted(even, column, weights);
            }
        } else {
            // Two chains of additions.
            let (pairs, unpaired) = columns.as_chunks::<2>();
            for [first, second] in pairs {
                add_column(even, first);
                add_column(odd, second);
            }
            for column in unpaired {
                add_column(even, column);
            }
        }
        let last = padded_column(remainder, 0);
        for ((((even, odd), q), mask), w) in even.iter_mut().zip(odd).zip(last).zip(self.mask).zip(self.last_weights) {
            *even += *odd + f64::from(f32::from_bits(q.to_bits() & mask)) * w;
        }
        *even
    }
}

#[inline(always)]
fn add_column(sums: &mut [f64; VIRTUAL_LANES], q: &[f32; VIRTUAL_LANES]) {
    for (sum, &q) in sums.iter_mut().zip(q) {
        *sum += f64::from(q);
    }
}

#[inline(always)]
fn add_weighted(sums: &mut [f64; VIRTUAL_LANES], q: &[f32; VIRTUAL_LANES], weights: &[f32; VIRTUAL_LANES]) {
    for ((sum, &q), &w) in sums.iter_mut().zip(q).zip(weights) {
        *sum += f64::from(q) * f64::from(w);
    }
}

/// Adds s·Σ w\[c\]·q_c of rows of any layout: the lanes are sixteen positions of a sample or, where fewer are left, one.
fn add_runs<S: Vector>(s: S, rows: &Rows<'_>, targets: &[f32], range: Range<usize>, sums: &mut [f64; VIRTUAL_LANES]) {
    s.run(
        #[inline(always)]
        move || {
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
                        add_weighted(&mut of_rows, q, &[weight; VIRTUAL_LANES]);
                    }
                }
                for ((sum, of_row), row) in sums.iter_mut().zip(of_rows).zip(first..).take(run) {
                    *sum += of_row * f64::from(rows.sample_weight(row));
                }
                first = first.wrapping_add(run);
            }
        },
    )
}
