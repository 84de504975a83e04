//! Σ_{j≠y} fp[y,j]·(−log(1 − p_j)): the mislabel costs of Ho & Wookey.
//!
//! Every class but the reference has p ≤ ½, so that −log(1 − p) = p·g(p) with g from a polynomial. With p = e·share the
//! sum is that of fp·e·g, times the share in f64 at the end: no product in f32 overflows or underflows before.

use super::lanes::{Lane, Lanes};
use super::limits::{LEAST_COST, SUMMED_IN_F32};
use super::sums::{Tail, first_rows, row_sums, sums_of_terms};
use super::term_scalars::{NO_LABEL, TermBlock};
use super::tile::{RowBlock, rows_of_blocks};
use super::{copy, f64_math, from, row_of};
use crate::backend::vector::Vector;

/// Coefficients of −log(1 − p)/p on [0, ½] from p⁹ to p, relative error 2^−27.98. The constant term is 1.
const LOSS: [u32; 9] = [
    0x3fdf_29e6,
    0xc01e_7edd,
    0x3ffc_486e,
    0xbf17_9f8d,
    0x3eae_1d9e,
    0x3e34_186f,
    0x3e80_f4ed,
    0x3eaa_a17b,
    0x3f00_000f,
];

/// −log(1 − p)/p for p in [0, ½]; without a division, which takes as long as eight multiply-adds.
#[inline(always)]
pub(super) fn log_over_p<S: Vector>(s: S, p: S::F) -> S::F {
    let [first, rest @ ..] = LOSS;
    let mut quotient = s.splat(f32::from_bits(first));
    for bits in rest {
        quotient = s.mul_add(quotient, p, s.splat(f32::from_bits(bits)));
    }
    s.mul_add(quotient, p, s.splat(1.0))
}

/// The rows of the matrix fp, `[C, C]`, followed by as many elements as a sum loads past their end.
#[derive(Clone, Copy)]
pub(crate) struct CostRows<'a> {
    matrix: &'a [f32],
    classes: usize,
    /// A copy of the last rows, and where they start: whole blocks of classes would load past the end of the matrix.
    end: &'a [f32],
    end_start: usize,
}

impl<'a> CostRows<'a> {
    /// `room` is for less than 256 elements or, of more than 128 classes, for a row, with [`REACH`](super::limits::REACH)
    /// more.
    pub(crate) fn new(matrix: &'a [f32], classes: usize, room: &'a mut [f32]) -> Self {
        let loaded = classes.next_multiple_of(SUMMED_IN_F32);
        let rows = loaded.saturating_sub(1).checked_div(classes).unwrap_or(0);
        let end_start = matrix.len().saturating_sub(rows.saturating_mul(classes));
        copy(room, from(matrix, end_start));
        Self { matrix, classes, end: room, end_start }
    }

    /// fp of a label; of none any row, as long as it does not depend on the position.
    #[inline(always)]
    fn of(&self, label: usize) -> &'a [f32] {
        let start = if label == NO_LABEL { 0 } else { label.wrapping_mul(self.classes) };
        let is_end = start >= self.end_start;
        let (rows, first) = if is_end { (self.end, self.end_start) } else { (self.matrix, 0) };
        from(rows, start.wrapping_sub(first))
    }

    /// fp of a label and a class.
    #[inline(always)]
    fn element(&self, label: usize, class: usize) -> f64 {
        f64::from(self.matrix.get(label.wrapping_mul(self.classes).wrapping_add(class)).copied().unwrap_or(0.0))
    }
}

/// Fills Σ_{j≠m} fp\[y,j\]·(−log(1 − p_j)), fp\[y,m\] and log E of each row. `exponentials` are contiguous rows, 0 at the
/// references, followed by as many elements as a sum loads past the end of a row.
pub(crate) fn cost_sums<S: Vector>(
    s: S,
    costs: CostRows<'_>,
    exponentials: &[f32],
    gradient: bool,
    rows: usize,
    blocks: &mut [RowBlock],
    terms: &mut [TermBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            let (classes, mut e) = (costs.classes, exponentials);
            let tail = Tail::new(s, classes);
            for ((block, terms), rows) in blocks.iter_mut().zip(terms).zip(rows_of_blocks(rows)) {
                let labels = terms.label;
                sums_of_terms::<S, _, 2, 1>(
                    s,
                    &tail,
                    (rows, classes),
                    [&mut terms.costs],
                    #[inline(always)]
                    |lane| {
                        let row = [e, costs.of(labels[lane])];
                        e = from(e, classes);
                        (s.splat(block.share[lane] as f32), row)
                    },
                    #[inline(always)]
                    |share, [e, costs], at, [sum]| {
                        let e = s.load(e, at.offset);
                        [s.mul_add(s.mul(s.load(costs, at.offset), e), log_over_p(s, s.mul(e, *share)), sum)]
                    },
                );
                let small = small_sums(block, terms);
                if small != 0 {
                    mark_small(costs.matrix, (rows, classes), gradient, small, (block, terms));
                }
                multiply(&mut terms.costs, &block.share);
                for ((to, &label), &class) in terms.cost_reference.iter_mut().zip(&labels).zip(&block.class) {
                    *to = costs.element(label, class);
                }
                log_miss(block, terms);
            }
        },
    )
}

/// Fills rows of fp\[y,j\]·e_j/(1 − p_j), the odds, and Σ_{j≠m} fp\[y,j\]·p_j/(1 − p_j) of each row, p_j = e_j·share; from
/// the exponentials of [`cost_sums`].
pub(crate) fn fill_odds<S: Vector>(
    s: S,
    costs: CostRows<'_>,
    exponentials: &[f32],
    odds: &mut [f32],
    rows: usize,
    blocks: &mut [RowBlock],
    terms: &mut [TermBlock],
) {
    let classes = costs.classes;
    write_odds(s, costs, exponentials, &mut *odds, rows, &*blocks, &*terms);
    let swap = |blocks: &mut [RowBlock], terms: &mut [TermBlock]| {
        for (block, terms) in blocks.iter_mut().zip(terms) {
            core::mem::swap(&mut block.sum, &mut terms.odds);
        }
    };
    swap(&mut *blocks, &mut *terms);
    row_sums(s, odds, classes, rows, blocks);
    swap(&mut *blocks, &mut *terms);
    for (block, terms) in blocks.iter().zip(terms) {
        multiply(&mut terms.odds, &block.share);
    }
}

/// Writes the odds of `rows` rows in whole vectors: what they store past the end of a row is overwritten by the next.
fn write_odds<S: Vector>(
    s: S,
    costs: CostRows<'_>,
    exponentials: &[f32],
    odds: &mut [f32],
    rows: usize,
    blocks: &[RowBlock],
    terms: &[TermBlock],
) {
    s.run(
        #[inline(always)]
        move || {
            let (classes, one, mut e, mut to) = (costs.classes, s.splat(1.0), exponentials, odds);
            let reach = classes.next_multiple_of(S::LANES);
            let lanes = blocks.iter().zip(terms).flat_map(
                #[inline(always)]
                |(block, terms)| block.share.iter().zip(&terms.label),
            );
            for (&share, &label) in lanes.take(rows) {
                let (of_row, share) = ([e, costs.of(label)].map(|row| row.get(..reach)), s.splat(share as f32));
                let ([Some(of_row), Some(costs)], Some(odds)) = (of_row, to.get_mut(..reach)) else { return };
                let vectors = of_row.chunks_exact(S::LANES).zip(costs.chunks_exact(S::LANES));
                for ((e, costs), to) in vectors.zip(odds.chunks_exact_mut(S::LANES)) {
                    let e = s.load(e, 0);
                    let product = s.mul(s.load(costs, 0), e);
                    s.store(s.div(product, s.sub(one, s.mul(e, share))), to, 0);
                }
                (e, to) = (from(e, classes), to.get_mut(classes..).unwrap_or(&mut []));
            }
        },
    )
}

/// Mask of the unmarked rows in range whose sum, times the share, is below [`LEAST_COST`].
#[inline(always)]
fn small_sums(block: &RowBlock, terms: &TermBlock) -> u32 {
    let (power, share, mut small) = (block.power, block.share, Lanes::splat(0));
    for i in Lane::all() {
        small[i] = u32::from((power[i] == 0.0) & (terms.costs[i] * share[i] < LEAST_COST));
    }
    small.mask() & !block.marked
}

/// Marks rows in range, of those in the mask `small`, in whose sum products that underflow in f32 may matter, or with
/// `gradient` in their gradient.
#[inline(never)]
fn mark_small(
    matrix: &[f32],
    (rows, classes): (usize, usize),
    gradient: bool,
    small: u32,
    (block, terms): (&mut RowBlock, &mut TermBlock),
) {
    for lane in Lane::of_bits(small & first_rows(rows)) {
        let share = block.share[lane] * classes as f64;
        let in_loss = block.weight[lane].abs() * share > 1.0;
        if !(in_loss || gradient && block.factor[lane].abs() * share > 1.0) {
            continue;
        }
        // None without a label.
        let costs = row_of(matrix, terms.label[lane], classes).iter().enumerate();
        if costs.filter(|&(class, _)| class != block.class[lane]).any(|(_, &cost)| cost != 0.0) {
            block.marked |= lane.bit();
            terms.marked_for_gradient_only |= if in_loss { 0 } else { lane.bit() };
        }
    }
}

/// Multiplies each lane.
#[inline(always)]
fn multiply(numbers: &mut Lanes<f64>, by: &Lanes<f64>) {
    let mut products = Lanes::splat(0.0);
    for i in Lane::all() {
        products[i] = numbers[i] * by[i];
    }
    *numbers = products;
}

/// Fills log(1 − p_m). From log(1 + E) − log E, the logarithms of p_m and 1 − p_m, little is left where E is large.
#[inline(always)]
fn log_miss(block: &RowBlock, terms: &mut TermBlock) {
    for (to, &miss) in terms.log_miss.iter_mut().zip(&block.one_minus_p) {
        *to = f64_math::log(miss);
    }
}
