//! Σ_{j≠y} fp[y,j]·(−log(1 − p_j)): the mislabel costs of Ho & Wookey.
//!
//! Every class but the reference has p ≤ ½, so that −log(1 − p) = p·g(p) with g from a polynomial. With p = e·share the
//! sum is that of fp·e·g, times the share in f64 at the end: no product in f32 overflows or underflows before.

use super::lanes::{Lane, Lanes};
use super::limits::ROWS;
use super::sums::{Tail, column_pairs, reach_of_row, sums_of_terms};
use super::term_scalars::{NO_LABEL, TermBlock};
use super::tile::{RowBlock, rows_of_blocks};
use super::{f64_math, part_mut};
use crate::backend::vector::{Operation, VIRTUAL_LANES, Vector};

/// Coefficients of −log(1 − p)/z in z², where z = p/(2 − p): relative error 2^−27.7 for p in [0, ½].
const W: [u32; 5] = [0x4000_0000, 0x3f2a_aa81, 0x3ecc_e8e6, 0x3e8f_6020, 0x3e8f_650c];

/// −log(1 − p)/p for p in [0, ½].
#[inline(always)]
pub(super) fn log_over_p<S: Vector>(s: S, p: S::F) -> S::F {
    let inverse = s.div(s.splat(1.0), s.sub(s.splat(2.0), p));
    let z = s.mul(p, inverse);
    let z2 = s.mul(z, z);
    let [a, b, c, d, e] = W;
    let coefficient = |bits: u32| s.splat(f32::from_bits(bits));
    let w = s.mul_add(coefficient(e), z2, coefficient(d));
    let w = s.mul_add(w, z2, coefficient(c));
    let w = s.mul_add(w, z2, coefficient(b));
    s.mul(s.mul_add(w, z2, coefficient(a)), inverse)
}

/// Start of the matrix's last rows, whose sums would load past its end. From there they load at most 128 elements or,
/// of more than 128 classes, the classes and two columns.
fn start_of_end(matrix: &[f32], classes: usize) -> usize {
    let rows = reach_of_row(classes).saturating_sub(1).checked_div(classes).unwrap_or(0);
    matrix.len().saturating_sub(rows.saturating_mul(classes))
}

/// The matrix's last rows, whose sums would load past its end, for [`CostSums`].
pub(crate) fn end_of(matrix: &[f32], classes: usize) -> &[f32] {
    matrix.get(start_of_end(matrix, classes)..).unwrap_or(&[])
}

/// Fills Σ_{j≠m} fp\[y,j\]·(−log(1 − p_j)), fp\[y,m\], log E and, with `odds`, Σ_{j≠m} fp\[y,j\]·p_j/(1 − p_j) of
/// each row.
pub(crate) struct CostSums<'a> {
    pub(crate) matrix: &'a [f32],
    /// A copy of its last rows, from [`end_of`], followed by as many elements as a sum loads past the end of a row.
    pub(crate) end: &'a [f32],
    /// Contiguous rows, 0 at the references, followed by as many elements as a sum loads past the end of a row.
    pub(crate) exponentials: &'a [f32],
    /// Output: rows of fp[y,j]·e_j/(1 − p_j), where p_j = e_j·share.
    pub(crate) odds: Option<&'a mut [f32]>,
    pub(crate) classes: usize,
    pub(crate) rows: usize,
    pub(crate) blocks: &'a [RowBlock],
    pub(crate) terms: &'a mut [TermBlock],
}

impl Operation for CostSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, s: S) {
        let Self { matrix, end, exponentials, mut odds, classes, rows, blocks, terms } = self;
        let (tail, end_start) = (Tail::new(s, classes), start_of_end(matrix, classes));
        let costs = |label: usize| {
            // The costs of a row without a label do not matter, as long as they do not depend on its position.
            let start = if label == NO_LABEL { 0 } else { label.wrapping_mul(classes) };
            start.checked_sub(end_start).map_or(matrix.get(start..), |start| end.get(start..)).unwrap_or(&[])
        };
        for (((first, block), terms), rows) in
            (0_usize..).step_by(ROWS).zip(blocks).zip(terms).zip(rows_of_blocks(rows))
        {
            let (labels, mut sums) = (terms.label, Lanes::splat(0.0));
            let start_of = |lane: Lane| first.wrapping_add(lane.number()).wrapping_mul(classes);
            let exponentials_and_costs = |lane: Lane| {
                let exponentials = column_pairs(exponentials, start_of(lane), classes);
                exponentials.zip(column_pairs(costs(labels[lane]), 0, classes))
            };
            sums_of_terms(
                s,
                &tail,
                classes,
                [&mut sums],
                #[inline(always)]
                |lane| {
                    let share = s.splat(block.share[lane] as f32);
                    core::iter::repeat(share).zip(exponentials_and_costs(lane))
                },
                #[inline(always)]
                |(share, (e, costs)), at| {
                    let e = s.load(*e, at);
                    [s.mul(s.mul(s.load(*costs, at), e), log_over_p(s, s.mul(e, *share)))]
                },
            );
            write_products(&mut terms.costs, &sums, &block.share);
            for ((to, &label), &class) in terms.cost_reference.iter_mut().zip(&labels).zip(&block.class).take(rows) {
                *to = f64::from(costs(label).get(class).copied().unwrap_or(0.0));
            }
            log_excluded(block, terms);
            let Some(odds) = odds.as_deref_mut() else { continue };
            for lane in Lane::all().take(rows) {
                // Stores past the end of a row are overwritten by the next row.
                let to = part_mut(odds, start_of(lane), reach_of_row(classes));
                write_odds(s, block.share[lane], exponentials_and_costs(lane), to);
            }
            sums_of_terms(
                s,
                &tail,
                classes,
                [&mut sums],
                #[inline(always)]
                |lane| column_pairs(odds, start_of(lane), classes),
                #[inline(always)]
                |odds, at| [s.load(*odds, at)],
            );
            write_products(&mut terms.odds, &sums, &block.share);
        }
    }
}

/// to = a·b in each lane.
#[inline(always)]
fn write_products(to: &mut Lanes<f64>, a: &Lanes<f64>, b: &Lanes<f64>) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to = a * b;
    }
}

/// Writes fp·e/(1 − p) of a row, from its exponentials and costs.
#[inline(always)]
fn write_odds<'a, S: Vector>(
    s: S,
    share: f64,
    row: impl Iterator<Item = (&'a [f32; 2 * VIRTUAL_LANES], &'a [f32; 2 * VIRTUAL_LANES])>,
    odds: &mut [f32],
) {
    let share = s.splat(share as f32);
    for (to, (e, costs)) in odds.as_chunks_mut::<{ 2 * VIRTUAL_LANES }>().0.iter_mut().zip(row) {
        for at in (0..2 * VIRTUAL_LANES).step_by(S::LANES) {
            let e = s.load(e, at);
            let product = s.mul(s.load(costs, at), e);
            s.store(s.div(product, s.sub(s.splat(1.0), s.mul(e, share))), to, at);
        }
    }
}

/// Fills log E, where E = (1 − p_m)/p_m.
#[inline(always)]
fn log_excluded(block: &RowBlock, terms: &mut TermBlock) {
    for (to, miss) in terms.log_excluded.iter_mut().zip(block.one_minus_p) {
        *to = f64_math::log(miss / (1.0 - miss));
    }
}
