//! Weight sums of target probabilities, Σ s·Σ_c w\[c\]·q_c and Σ s: the denominators of a mean. The former is not finite if
//! a probability is not.
//!
//! The lanes of a sum are classes, not rows: one horizontal sum for a chunk of rows. In `[N, C, D]` they are positions.

use super::classes::Weights;
use super::spread::padded_column;
use super::{from, part, steps, whole};
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
        let are_one = rows.are_dense() && of_classes.is_none() && rows.sample_weights().is_none();
        let mut first = 0;
        while first < rows.count() {
            let count = rows.left_in_chunk(first);
            let samples = rows.sample_weights().map(|samples| part(samples, first, count));
            let (mut sums, next) = ([0.0; VIRTUAL_LANES], first.wrapping_add(count));
            if !S::WIDE || rows.positions() > 1 {
                add_runs(rows, targets, first..next, &mut sums);
            } else {
                // Without weights the rows of a chunk are one.
                let at_once = if are_one { count } else { 1 };
                let by_columns = ByColumns::new(of_classes, at_once.wrapping_mul(classes));
                for at in steps(count, at_once) {
                    let sample = samples.map_or(1.0, |samples| f64::from(samples.get(at).copied().unwrap_or(0.0)));
                    let of_row = by_columns.of_row(from(targets, rows.start(first.wrapping_add(at))));
                    for (sum, of_row) in sums.iter_mut().zip(of_row) {
                        *sum += of_row * sample;
                    }
                }
            }
            weights.weights.add_lanes(first, &sums);
            for (row, &sample) in (first..).zip(samples.unwrap_or(&[])) {
                weights.sample_weights.add(row, f64::from(sample));
            }
            first = next;
        }
    }
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
        // Even and odd columns are two chains of additions.
        let [even, odd] = &mut [[0.0; VIRTUAL_LANES]; 2];
        let (columns, remainder) = targets.split_at_checked(self.start).unwrap_or_default();
        let (pairs, unpaired) = columns.as_chunks().0.as_chunks::<2>();
        if let Some(weights) = self.weights {
            let (of_pairs, of_unpaired) = weights.as_chunks::<2>();
            for ([first, second], [of_first, of_second]) in pairs.iter().zip(of_pairs) {
                add_weighted(even, first, of_first);
                add_weighted(odd, second, of_second);
            }
            for (column, weights) in unpaired.iter().zip(of_unpaired) {
                add_weighted(even, column, weights);
            }
        } else {
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
                add_weighted(&mut of_rows, q, &[weight; VIRTUAL_LANES]);
            }
        }
        for ((sum, of_row), row) in sums.iter_mut().zip(of_rows).zip(first..).take(run) {
            *sum += of_row * f64::from(rows.sample_weight(row));
        }
        first = first.wrapping_add(run);
    }
}
