//! Rows of three and four classes, transposed: a vector holds one class of several rows, so that leaving out the
//! label's exponential and writing its gradient element are blends, not a store for each row.

use super::exp::exponentiate;
use super::lanes::{Lane, Lanes};
use super::limits::ROWS;
use super::marks::mark;
use super::scales::scale_columns_in_f64;
use super::sums::is_worth_code;
use super::tile::{Batch, Place, RowBlock, Tile};
use super::{from_row_mut, part_mut, rows_of, rows_of_mut};
use crate::backend::vector::Vector;

/// The row stride in the transpose; with three classes the last element is padding.
const FOUR: usize = 4;

/// Fills the logits of the labels and the sums without their exponentials, for rows that fit the tile, and leaves the
/// exponentials there for [`write_gradient`]. Blocks with a logit out of range are marked; returns whether there is
/// none.
pub(crate) fn sums<S: Vector, const C: usize>(s: S, batch: &Batch<'_>, tile: &mut Tile<'_>, place: Place) -> bool {
    let half = tile.room() / 2;
    let (columns, spare) = tile.numbers.split_at_mut_checked(half).unwrap_or_default();
    let (blocks, count) = (&mut *tile.blocks, place.rows);
    // Of three classes the last vector of rows reaches up to four elements beyond them.
    let reach = blocks.len().wrapping_mul(const { ROWS * C }).wrapping_add(if C == FOUR { 0 } else { FOUR });
    let dense = batch.as_tile().and_then(|logits| logits.get(place.first.wrapping_mul(C)..)?.get(..reach));
    let rows = if let Some(logits) = dense.filter(|_| count.is_multiple_of(ROWS)) {
        logits
    } else {
        batch.load_rows(s, place, spare);
        // Padding must be in range.
        let spare = part_mut(spare, 0, reach);
        from_row_mut(spare, count, C).fill(0.0);
        &*spare
    };
    transpose_rows::<S, C>(s, rows, columns, blocks);
    let all = exponentiate(s, None, columns, blocks.len().wrapping_mul(const { ROWS * C }));
    if !all {
        mark(s, Some(rows_of(rows, 0, count, C)), C, blocks);
    }
    sum_columns::<S, C>(s, columns, blocks);
    all
}

/// The first element of vector `number` of the rows from `at` on: a quarter as many rows as lanes.
#[inline(always)]
fn in_quarters<S: Vector, const C: usize>(at: usize, number: usize) -> usize {
    at.wrapping_add(number.wrapping_mul(S::LANES / FOUR)).wrapping_mul(C)
}

/// Transposes whole blocks of rows, of three classes followed by four elements, to columns, and fills the labels (as
/// `loss`) and their logits.
fn transpose_rows<S: Vector, const C: usize>(s: S, rows: &[f32], to: &mut [f32], blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            let mut rows = rows;
            let columns = to.chunks_exact_mut(const { C * ROWS });
            for (block, to) in blocks.iter_mut().zip(columns) {
                let labels = block.class.map(|class| class as i32 as f32);
                for at in (0..ROWS).step_by(S::LANES) {
                    let of = |number: usize| {
                        let row = s.load(rows, in_quarters::<S, C>(at, number));
                        if C == FOUR { row } else { s.threes_to_fours(row) }
                    };
                    let (a, b) = (s.deinterleave(of(0), of(1)), s.deinterleave(of(2), of(3)));
                    let (even, odd) = (s.deinterleave(a.0, b.0), s.deinterleave(a.1, b.1));
                    let (columns, label) = ([even.0, odd.0, even.1, odd.1], s.load(labels.as_slice(), at));
                    let mut logit = columns[0];
                    for (class, &column) in columns.iter().enumerate().take(C) {
                        if class > 0 {
                            logit = s.select(s.equal(label, s.splat(class as f32)), column, logit);
                        }
                        s.store(column, to, class.wrapping_mul(ROWS).wrapping_add(at));
                    }
                    s.store(logit, block.logit.as_mut_slice(), at);
                }
                block.loss = labels;
                rows = rows.get(const { C * ROWS }..).unwrap_or(&[]);
            }
        },
    )
}

/// Adds the exponentials but that of the label of each row, to the bits of [`super::partial_sums`]: (a + c) + (b + d)
/// without the label's is the sum of one of its pair and the other pair.
fn sum_columns<S: Vector, const C: usize>(s: S, exponentials: &[f32], blocks: &mut [RowBlock]) {
    s.run(
        #[inline(always)]
        move || {
            for (block, columns) in blocks.iter_mut().zip(exponentials.chunks_exact(const { C * ROWS })) {
                let mut terms = [Lanes::splat(0.0); 3];
                for at in (0..ROWS).step_by(S::LANES) {
                    let (a, b) = (s.load(columns, at), s.load(columns, ROWS.wrapping_add(at)));
                    let [c, d] = const { [2 * ROWS, 3 * ROWS] };
                    let (c, d) = (s.load(columns, at.wrapping_add(c)), s.load(columns, at.wrapping_add(d)));
                    let label = s.load(block.loss.as_slice(), at);
                    let (is_a, is_b) = (s.equal(label, s.splat(0.0)), s.equal(label, s.splat(1.0)));
                    let is_d = s.equal(label, s.splat(3.0));
                    let of_row = if C == FOUR {
                        let single = s.select(is_a, c, s.select(is_b, d, s.select(is_d, b, a)));
                        let first = s.select(is_b, a, s.select(is_d, a, b));
                        [single, first, s.select(is_b, c, s.select(is_d, c, d))]
                    } else {
                        [s.select(is_a, c, a), s.select(is_b, c, b), s.splat(0.0)]
                    };
                    for (to, term) in terms.iter_mut().zip(of_row) {
                        s.store(term, to.as_mut_slice(), at);
                    }
                }
                let [single, first, second] = terms;
                for i in Lane::all() {
                    let mut pair = f64::from(first[i]);
                    if C == FOUR {
                        pair += f64::from(second[i]);
                    }
                    block.sum[i] = f64::from(single[i]) + pair;
                }
            }
        },
    )
}

/// Writes the gradient of the rows that are not marked.
pub(crate) fn write_gradient<S: Vector, const C: usize>(
    s: S,
    batch: &mut Batch<'_>,
    tile: &mut Tile<'_>,
    place: Place,
    are_held: bool,
) {
    let half = tile.room() / 2;
    let (columns, spare) = tile.numbers.split_at_mut_checked(half).unwrap_or_default();
    let blocks = &*tile.blocks;
    for (exponentials, block) in
        columns.chunks_exact_mut(const { C * ROWS }).zip(blocks).filter(|_| !are_held && is_worth_code::<S>())
    {
        let blocks = core::slice::from_ref(block);
        scale_columns_in_f64(s, exponentials, ROWS, ROWS, C, blocks);
    }
    let all = blocks.iter().all(|block| block.marked == 0) && place.rows.is_multiple_of(ROWS);
    match batch.gradient_in_place(place).filter(|_| all) {
        Some(to) => write_rows::<S, C>(s, columns, blocks, to),
        None => {
            write_rows::<S, C>(s, columns, blocks, rows_of_mut(spare, 0, blocks.len(), const { ROWS * C }));
            batch.store_unmarked(s, place, spare, blocks);
        }
    }
}

/// Writes whole blocks of the gradient, transposed back to contiguous rows.
fn write_rows<S: Vector, const C: usize>(s: S, exponentials: &[f32], blocks: &[RowBlock], to: &mut [f32]) {
    s.run(
        #[inline(always)]
        move || {
            let mut left = to;
            for (block, columns) in blocks.iter().zip(exponentials.chunks_exact(const { C * ROWS })) {
                for at in (0..ROWS).step_by(S::LANES) {
                    let (label, scale) = (s.load(block.loss.as_slice(), at), s.load(block.scale.as_slice(), at));
                    let mut elements = [s.splat(0.0); FOUR];
                    for (class, element) in elements.iter_mut().enumerate().take(C) {
                        let is_label = s.equal(label, s.splat(class as f32));
                        let scaled = s.mul(s.load(columns, class.wrapping_mul(ROWS).wrapping_add(at)), scale);
                        *element = s.select(is_label, s.load(block.at_reference.as_slice(), at), scaled);
                    }
                    let [a, b, c, d] = elements;
                    let (even, odd) = (s.interleave(a, c), s.interleave(b, d));
                    let (low, high) = (s.interleave(even.0, odd.0), s.interleave(even.1, odd.1));
                    for vector in [low.0, low.1, high.0, high.1] {
                        // Lanes beyond a quarter of the rows are overwritten by the next.
                        s.store_partial(if C == FOUR { vector } else { s.fours_to_threes(vector) }, left);
                        left = left.get_mut(in_quarters::<S, C>(0, 1)..).unwrap_or(&mut []);
                    }
                }
            }
        },
    )
}
