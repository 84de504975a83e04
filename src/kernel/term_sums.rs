//! Reference classes, exponentials and Σexp of a tile's rows, for losses with terms. Rows with a logit out of range
//! take exponentials relative to their maximum; those beyond f32 even so, or not finite, are marked.

use super::exp::exponentiate;
use super::general::exponentials_of_row;
use super::lanes::{Lane, Lanes};
use super::limits::{LARGEST_TERM_COST, LARGEST_TERM_LOGIT, LARGEST_TERM_SAMPLE, LEAST_TERM_SUM, ROWS, TERM_RAISE};
use super::marks::mark_rows;
use super::references::{find_references, logits_of, read_reference_logits};
use super::row_scalars::{Exponentials, finish_rows};
use super::sums::excluded_sums;
use super::term_scalars::{TermBlock, Terms};
use super::tile::RowBlock;
use super::{from_row, part};
use crate::backend::vector::Vector;

/// Fills references, Σexp without them, the scalars that [`finish_rows`] derives, and the exponentials. Whether shift
/// and power of all rows are 0. One lane marks all rows out of range.
///
/// The rows are contiguous, and followed by as many elements as a sum loads past the end of a row. With `by_label` the
/// reference of a row in range is its label, already in `class`; with `probabilities` p is needed, not −log p alone.
pub(crate) fn sums<S: Vector>(
    s: S,
    options: &Terms<'_>,
    [by_label, probabilities]: [bool; 2],
    logits: &[f32],
    exponentials: &mut [f32],
    (rows, classes): (usize, usize),
    blocks: &mut [RowBlock],
    terms: &mut [TermBlock],
) -> bool {
    let len = rows.wrapping_mul(classes);
    if !by_label {
        find_references(s, logits, classes, blocks);
        if options.soft.is_none() {
            for (first, terms) in (0_usize..).step_by(ROWS).zip(&mut *terms) {
                terms.label_logit = logits_of(from_row(logits, first, classes), classes, &terms.label);
            }
        }
    }
    let mut in_range = exponentiate(s, Some(part(logits, 0, len)), exponentials, len);
    if !in_range {
        mark_rows(s, part(logits, 0, len), classes, blocks);
        in_range = !S::WIDE;
    }
    if !in_range {
        if by_label {
            read_reference_logits(s, part(logits, 0, len), classes, blocks);
            for (block, terms) in blocks.iter().zip(&mut *terms) {
                terms.label_logit = block.logit;
            }
            refer_to_argmax(s, logits, classes, blocks);
        }
        exponentiate_from_largest(s, logits, exponentials, classes, blocks);
    }
    excluded_sums(s, (by_label && in_range).then_some(logits), exponentials, classes, rows, blocks);
    if let Some(matrix) = options.costs.filter(|_| !in_range) {
        mark_large_costs(matrix, classes, blocks, terms);
    }
    finish_sums(s, !in_range, classes, probabilities, blocks);
    in_range
}

/// Makes the argmax the reference of each marked row.
#[cold]
#[inline(never)]
fn refer_to_argmax<S: Vector>(s: S, logits: &[f32], classes: usize, blocks: &mut [RowBlock]) {
    for (first, block) in (0_usize..).step_by(ROWS).zip(blocks).filter(|(_, block)| block.marked != 0) {
        let (logit, class) = (block.logit, block.class);
        let blocks = core::slice::from_mut(&mut *block);
        find_references(s, from_row(logits, first, classes), classes, blocks);
        let marked = block.marked;
        for lane in Lane::of_bits(!marked) {
            (block.logit[lane], block.class[lane]) = (logit[lane], class[lane]);
        }
    }
}

/// Recomputes the exponentials of the marked rows relative to their maximum, and unmarks the rows.
fn exponentiate_from_largest<S: Vector>(
    s: S,
    logits: &[f32],
    exponentials: &mut [f32],
    classes: usize,
    blocks: &mut [RowBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            let mut start = 0;
            for block in blocks {
                let largest = block.logit;
                block.refer_to(&largest, TERM_RAISE);
                for lane in Lane::all() {
                    if block.is_marked(lane) {
                        let row = exponentials.get_mut(start..).unwrap_or(&mut []);
                        exponentials_of_row(s, block.reference(lane), logits.get(start..), row, classes);
                    } else {
                        (block.shift[lane], block.power[lane]) = (0.0, 0.0);
                    }
                    start = start.wrapping_add(classes);
                }
                block.marked = 0;
            }
        },
    )
}

/// Fills the row scalars that [`finish_rows`] derives from Σexp, with `probabilities` or not. Where exponentials of some
/// row are `referred` to its maximum, marks the rows for which f32 is too small.
pub(crate) fn finish_sums<S: Vector>(
    s: S,
    referred: bool,
    classes: usize,
    probabilities: bool,
    blocks: &mut [RowBlock],
) {
    if referred {
        mark_too_small(s, classes, blocks);
        finish_rows(s, Exponentials::Referred, true, blocks);
    } else {
        finish_rows(s, Exponentials::InRange, probabilities, blocks);
    }
}

/// Marks rows with exponentials relative to their maximum (power ≠ 0) for which f32 is too small: underflowed exponentials
/// matter in Σexp, or differences of logits may overflow.
fn mark_too_small<S: Vector>(s: S, classes: usize, blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let least = LEAST_TERM_SUM * classes as f64;
            for block in blocks {
                let (power, sum, shift, mut small) = (block.power, block.sum, block.shift, Lanes::splat(0));
                for i in Lane::all() {
                    let is_held = (sum[i] >= least) & (shift[i] <= LARGEST_TERM_LOGIT);
                    small[i] = u32::from((power[i] != 0.0) & !is_held);
                }
                block.marked |= small.mask();
            }
        },
    )
}

/// Marks rows with exponentials relative to their maximum whose costs or sample weights are so large that underflowed exponentials matter.
#[cold]
#[inline(never)]
fn mark_large_costs(matrix: &[f32], classes: usize, blocks: &mut [RowBlock], terms: &[TermBlock]) {
    for (block, terms) in blocks.iter_mut().zip(terms) {
        for lane in Lane::all().filter(|&lane| block.power[lane] != 0.0) {
            let costs = part(matrix, terms.label[lane].wrapping_mul(classes), classes);
            let is_held = block.weight[lane].abs() * classes as f64 <= LARGEST_TERM_SAMPLE
                && costs.iter().all(|&cost| cost <= LARGEST_TERM_COST);
            block.marked |= if is_held { 0 } else { lane.bit() };
        }
    }
}
